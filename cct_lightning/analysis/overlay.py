"""Maps over tokens drawn over the images that they belong to: for figures, W&B, `cct report` and `cct explain` alike.

Letters: B batch, C channels, (H, W) image, (h, w) grid of tokens.
"""

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from PIL import Image
from torch import Tensor

from cct_lightning.analysis.style import OVERLAY, Array, color_bar, numbers, panels, styled
from cct_lightning.errors import InputError

_STRENGTH = 0.85  # share of the color where it is brightest, two thirds of that where it is darkest
UNIFORM = "x the uniform weight"  # the unit of what `over_uniform` returns


def pixels(images: Tensor | Array) -> Array:
    """Return images (B, 1 or 3, H, W) as pixels for matplotlib and Pillow, (B, H, W, 3) uint8.

    uint8 is shown as it is; of other types each image is stretched from its minimum to its maximum, since what they
    were normalized with is not known here.
    """
    array = numbers(images)
    if array.ndim != 4 or array.shape[1] not in (1, 3):
        raise InputError(f"Only images (B, 1 or 3, H, W) can be shown, not an array of shape {array.shape}.")
    if array.dtype != np.uint8:
        low, high = array.min((1, 2, 3), keepdims=True), array.max((1, 2, 3), keepdims=True)
        array = (255 * (array - low) / np.maximum(high - low, 1e-12)).astype(np.uint8)
    return np.broadcast_to(array, (len(array), 3, *array.shape[2:])).transpose(0, 2, 3, 1)


def blend(image: Array, heat: Array, *, top: float, size: tuple[int, int]) -> Array:
    """Lay a map (h, w), not negative, enlarged bilinearly, over one image (H, W, 3) uint8, which is in grey beneath.

    `top` is the value that gets the brightest color, `size` (height, width) of the result, (height, width, 3) uint8.
    """
    shape = (size[1], size[0])
    grey = Image.fromarray(np.ascontiguousarray(image)).convert("L").resize(shape, Image.Resampling.NEAREST)
    smooth = Image.fromarray(heat.astype(np.float32)).resize(shape, Image.Resampling.BILINEAR)
    level = (np.asarray(smooth) / max(top, 1e-12)).clip(0, 1)[..., None]
    share = _STRENGTH * (2 + level) / 3  # what is large looks as in the color bar, what is small lets the image through
    color = matplotlib.colormaps[OVERLAY](level[..., 0])[..., :3]
    mixed = share * color + (1 - share) * np.asarray(grey)[..., None] / 255
    return (255 * mixed).round().astype(np.uint8)


def over_uniform(maps: Tensor | Array) -> Array:
    """Return weights (..., h, w) that sum to one as multiples of the uniform weight: 1 is what mean pooling gives."""
    array = numbers(maps)
    return array * (array.shape[-2] * array.shape[-1])


@dataclass(frozen=True)
class Overlay:
    """An image, and the same image under its map.

    Attributes:
        image: (H', W', 3) uint8, enlarged without smoothing.
        mapped: (H', W', 3) uint8: in grey, under the map's colors.
        top: The value of the brightest color.
    """

    image: Array
    mapped: Array
    top: float


def overlays(images: Tensor | Array, maps: Tensor | Array, *, side: int = 96, shared: bool = False) -> list[Overlay]:
    """Lay a map over each image.

    Args:
        images: (B, C, H, W).
        maps: (B, h, w), not negative.
        side: Pixels of the longer side of the results at least: small images are enlarged by a whole factor.
        shared: One color scale for all, up to the largest value of all maps; else each has its own.
    """
    shown, heat = pixels(images), numbers(maps)
    if len(shown) != len(heat):
        raise InputError(f"There are {len(shown)} images but {len(heat)} maps.")
    found = []
    for image, places in zip(shown, heat, strict=True):
        plain, top = enlarged(image, side), float((heat if shared else places).max())
        found.append(Overlay(plain, blend(image, places, top=top, size=plain.shape[:2]), top))
    return found


def enlarged(image: Array, side: int = 96) -> Array:
    """Return an image (H, W, 3) whose longer side has at least `side` pixels, so that a browser does not blur it."""
    scale = max(1, -(-side // max(image.shape[:2])))
    return image.repeat(scale, 0).repeat(scale, 1)


def png_address(image: Array) -> str:
    """Return pixels (H, W, 3) uint8 as an address that holds the PNG itself: `data:image/png;...`."""
    file = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(image)).save(file, "PNG", optimize=True)
    return f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"


@styled
def plot_overlays(
    images: Tensor | Array,
    maps: Tensor | Array,
    *,
    titles: Sequence[str] | None = None,
    label: str = "weight ÷ uniform weight",
    columns: int = 6,
) -> Figure:
    """Draw each image, and below it the same image in grey under its map (B, h, w), not negative, on one color scale.

    Weights that sum to one are best brought to a unit by `over_uniform`. `label` says what the colors mean, with unit.
    """
    pairs = overlays(images, maps, side=256, shared=True)
    height, width = pairs[0].image.shape[:2]
    figure, axes = panels(len(pairs), columns=columns, side=1.6, aspect=2 * height / width, titles=titles is not None)
    gap = np.full((max(1, height // 24), width, 3), 255, dtype=np.uint8)
    for ax, pair, title in zip(axes, pairs, titles or [""] * len(pairs), strict=True):
        ax.imshow(np.concatenate([pair.image, gap, pair.mapped]))
        ax.set_title(title)
    color_bar(axes, (0, pairs[0].top), OVERLAY, label)
    return figure
