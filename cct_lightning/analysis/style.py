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
from cycler import cycler
from matplotlib.axes import Axes
from matplotlib.figure import Figure
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
