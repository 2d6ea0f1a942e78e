"""How the pictures look: legible on a projector, and by readers with any color vision.

Colors: Okabe and Ito, "Color Universal Design" (2008), for categories; cividis (Nuñez et al., PLOS ONE 2018) for
    quantities.
Figures are made without pyplot: no global state, no window, nothing to close. Notebooks show a returned figure;
scripts call `figure.savefig(path)`.
"""

from collections.abc import Sequence
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.rcsetup import cycler
from numpy.typing import NDArray
from torch import Tensor

OKABE_ITO = ("#0072B2", "#D55E00", "#009E73", "#E69F00", "#56B4E9", "#CC79A7", "#000000", "#F0E442")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
QUANTITY = "cividis"  # colormap of everything from low to high
OVERLAY = "viridis"  # the same over an image in grey, where cividis would be hard to see
SIGNED = "PuOr"  # colormap of what has a sign

_RC: Any = {
    "font.size": 13,
    "axes.titlesize": 14,
    "axes.labelsize": 13,
    "xtick.labelsize": 12,
    "ytick.labelsize": 12,
    "legend.fontsize": 12,
    "figure.titlesize": 16,
    "lines.linewidth": 2,
    "lines.markersize": 7,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.prop_cycle": cycler(color=OKABE_ITO[:7]),
    "image.interpolation": "nearest",
    "savefig.bbox": "tight",
}

styled = matplotlib.rc_context(_RC)  # a decorator for functions that draw

Array = NDArray[Any]


def look(i: int) -> dict[str, Any]:
    """Return color and marker of the i-th curve or class; those that share a color differ in their marker."""
    return {"color": OKABE_ITO[i % 7], "marker": MARKERS[i % len(MARKERS)]}


def numbers(values: Tensor | Array | Sequence[Any]) -> Array:
    """Return a tensor of any device and dtype, or anything array-like, as an array."""
    if isinstance(values, Tensor):
        values = values.detach().cpu()
        return values.float().numpy() if values.is_floating_point() else values.numpy()
    return np.asarray(values)


def figure_of(ax: Axes) -> Figure:
    """Return the figure that axes belong to, also in a subfigure."""
    figure = ax.get_figure(root=True)
    assert figure is not None
    return figure


def one_axes(ax: Axes | None, size: tuple[float, float]) -> Axes:
    """Return `ax`, or the only axes of a new figure of `size` (inches)."""
    return ax if ax is not None else Figure(figsize=size, layout="constrained").add_subplot()


def panels(
    count: int, *, columns: int, side: float, aspect: float = 1.0, titles: bool = True
) -> tuple[Figure, list[Axes]]:
    """Return a figure with `count` panels for images, without ticks, row by row.

    Args:
        count: Panels.
        columns: Panels in a row at most.
        side: Width of a panel in inches.
        aspect: Height of a panel over its width, its title not counted.
        titles: Leave room for a title over each panel.
    """
    columns = max(1, min(columns, count))
    rows = -(-count // columns)
    height = (side * aspect + (0.35 if titles else 0.08)) * rows + 0.4
    # Seven inches at least, so that a title over the whole figure is not cut.
    figure = Figure(figsize=(max(7.0, side * columns + 1.2), height), layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False).ravel().tolist()
    for ax in grid:
        ax.set_axis_off()
    return figure, grid[:count]


def color_bar(axes: Sequence[Axes], limits: tuple[float, float], colors: str, label: str) -> None:
    """Add the color bar of panels that share a scale: its ends, its colormap, and what it measures."""
    bar = figure_of(axes[0]).colorbar(ScalarMappable(Normalize(*limits), colors), ax=axes, shrink=0.9, aspect=15)
    bar.set_label(label)


def map_panels(
    maps: Array,
    titles: Sequence[str],
    *,
    columns: int,
    side: float,
    limits: tuple[float, float],
    label: str,
    colors: str = QUANTITY,
) -> Figure:
    """Return a figure of maps (n, h, w) on one color scale; see `panels` and `color_bar`."""
    figure, axes = panels(len(maps), columns=columns, side=side, aspect=maps.shape[1] / maps.shape[2])
    for ax, values, title in zip(axes, maps, titles, strict=True):
        ax.imshow(values, cmap=colors, vmin=limits[0], vmax=limits[1])
        ax.set_title(title)
    color_bar(axes, limits, colors, label)
    return figure


def band(ax: Axes, i: int, x: Any, middle: Any, half: Any, *, name: str) -> None:
    """Draw the i-th curve in a band of `half` its height on either side."""
    ax.plot(x, middle, label=name, **look(i))
    ax.fill_between(x, middle - half, middle + half, color=look(i)["color"], alpha=0.15, linewidth=0)
