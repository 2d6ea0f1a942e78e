"""Images as they are: in rows with names and titles, or with what was predicted for them.

Letters: n images of a row, B images, C channels, (H, W) image.
"""

from collections.abc import Mapping, Sequence

from matplotlib.figure import Figure
from torch import Tensor

from cct_lightning.analysis.overlay import pixels
from cct_lightning.analysis.style import OKABE_ITO, Array, numbers, panels, styled


@styled
def plot_images(
    rows: Tensor | Array | Mapping[str, Tensor | Array], titles: Sequence[str] = (), *, side: float = 1.2
) -> Figure:
    """Draw rows of images.

    Args:
        rows: Name of a row -> images (n, C, H, W); or the images of the only row. uint8 as they are, floats stretched.
        titles: One text for each column.
        side: Width of an image in inches.
    """
    named = rows if isinstance(rows, Mapping) else {"": rows}
    count = max(len(images) for images in named.values())
    height = (side + 0.1) * len(named) + 0.3 + 0.25 * max((1 + title.count("\n") for title in titles), default=0)
    names = max((len(line) for name in named for line in name.split("\n")), default=0)
    figure = Figure(figsize=(side * count + 0.11 * names, height), layout="constrained")
    axes = figure.subplots(len(named), count, squeeze=False)
    for line, (name, images) in zip(axes, named.items(), strict=True):
        for ax in line:
            ax.set(xticks=[], yticks=[])
            ax.spines[:].set_visible(False)
        for ax, image in zip(line, pixels(images), strict=False):
            ax.imshow(image)
        line[0].set_ylabel(name, rotation=0, ha="right", va="center")
    for ax, title in zip(axes[0], titles, strict=False):
        ax.set_title(title, fontsize=12)
    return figure


@styled
def plot_predictions(
    images: Tensor | Array,
    *,
    label: Tensor | Array,
    predicted: Tensor | Array,
    probability: Tensor | Array,
    classes: Sequence[str],
    columns: int = 8,
) -> Figure:
    """Draw images with true class, predicted class and its probability, all (B,); a frame marks what is wrong."""
    shown = pixels(images)
    height, width = shown.shape[1:3]
    figure, axes = panels(len(shown), columns=columns, side=1.75, aspect=height / width + 0.2)
    said = map(numbers, (label, predicted, probability))
    for ax, image, true, answer, sure in zip(axes, shown, *said, strict=True):
        ax.imshow(image)
        ax.set_title(f"{classes[true]}\n→ {classes[answer]} ({sure:.0%})", fontsize=12)
        if true != answer:
            ax.set_axis_on()
            ax.set(xticks=[], yticks=[])
            ax.spines[:].set(visible=True, color=OKABE_ITO[1], linewidth=4)
    return figure
