"""Maps over tokens drawn over the images that they belong to.

Letters: B batch, C channels, (H, W) image, (h, w) grid of tokens.
"""

from collections.abc import Sequence

import matplotlib
import numpy as np
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from PIL import Image
from torch import Tensor

from cct_lightning.analysis.style import OVERLAY, Array, numbers, panels, styled
from cct_lightning.errors import InputError


def pixels(images: Tensor | Array) -> Array:
    """Return images as pixels for matplotlib and Pillow.

    Args:
        images: (B, C, H, W) with 1 or 3 channels. uint8 is shown as it is; of other types each image is stretched
            from its minimum to its maximum, since what they were normalized with is not known here.

    Returns:
        (B, H, W, 3) uint8.
    """
    array = numbers(images)
    if array.ndim != 4 or array.shape[1] not in (1, 3):
        raise InputError(f"Only images (B, 1 or 3, H, W) can be shown, not an array of shape {array.shape}.")
    if array.dtype != np.uint8:
        low, high = array.min((1, 2, 3), keepdims=True), array.max((1, 2, 3), keepdims=True)
        array = (255 * (array - low) / np.maximum(high - low, 1e-12)).astype(np.uint8)
    return np.broadcast_to(array, (len(array), 3, *array.shape[2:])).transpose(0, 2, 3, 1)


def blend(image: Array, heat: Array, *, top: float, size: tuple[int, int], strength: float = 0.85) -> Array:
    """Lay a map over one image.

    Args:
        image: (H, W, 3) uint8, shown in grey beneath.
        heat: (h, w), not negative; enlarged bilinearly.
        top: The value that gets the brightest color.
        size: (height, width) of the result in pixels.
        strength: Share of the color where it is brightest, two thirds of that where it is darkest; the rest is the
            image.

    Returns:
        (height, width, 3) uint8.
    """
    shape = (size[1], size[0])
    grey = Image.fromarray(np.ascontiguousarray(image)).convert("L").resize(shape, Image.Resampling.NEAREST)
    smooth = Image.fromarray(heat.astype(np.float32)).resize(shape, Image.Resampling.BILINEAR)
    level = (np.asarray(smooth) / max(top, 1e-12)).clip(0, 1)[..., None]
    share = strength * (2 + level) / 3  # what is large looks as in the color bar, what is small lets the image through
    color = matplotlib.colormaps[OVERLAY](level[..., 0])[..., :3]
    mixed = share * color + (1 - share) * np.asarray(grey)[..., None] / 255
    return (255 * mixed).round().astype(np.uint8)


def over_uniform(maps: Tensor | Array) -> Array:
    """Return weights (..., h, w) that sum to one as multiples of the uniform weight: 1 is what mean pooling gives."""
    array = numbers(maps)
    return array * (array.shape[-2] * array.shape[-1])


@styled
def plot_overlays(
    images: Tensor | Array,
    maps: Tensor | Array,
    *,
    titles: Sequence[str] | None = None,
    label: str = "weight ÷ uniform weight",
    columns: int = 6,
) -> Figure:
    """Draw each image, and below it the same image in grey under its map, all on one color scale.

    Args:
        images: (B, C, H, W); uint8 as they are, floats stretched.
        maps: (B, h, w), not negative. Weights that sum to one are best brought to a unit by `over_uniform`.
        titles: One text per image.
        label: What the colors mean, with its unit.
        columns: Images in a row.

    Returns:
        The figure.
    """
    shown, heat = pixels(images), numbers(maps)
    if len(shown) != len(heat):
        raise InputError(f"There are {len(shown)} images but {len(heat)} maps.")
    height, width = shown.shape[1:3]
    figure, axes = panels(len(shown), columns=columns, side=1.6, aspect=2 * height / width, titles=titles is not None)
    top = float(heat.max())
    scale = -(-256 // max(height, width))
    size = (height * scale, width * scale)
    gap = np.full((max(1, size[0] // 24), size[1], 3), 255, dtype=np.uint8)
    for i, ax in enumerate(axes):
        plain = np.asarray(Image.fromarray(np.ascontiguousarray(shown[i])).resize(size[::-1], Image.Resampling.NEAREST))
        ax.imshow(np.concatenate([plain, gap, blend(shown[i], heat[i], top=top, size=size)]))
        if titles is not None:
            ax.set_title(titles[i])
    bar = figure.colorbar(ScalarMappable(Normalize(0, top), OVERLAY), ax=axes, shrink=0.9, aspect=15)
    bar.set_label(label)
    return figure
