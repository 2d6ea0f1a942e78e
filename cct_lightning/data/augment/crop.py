"""Random crop with padding and horizontal flip in one gather, and the boxes of the random resized crop.

Sources: torchvision's `RandomCrop(padding=...)`; timm's and torchvision's `RandomResizedCrop`, whose boxes are
drawn here with the same ten attempts and the same fallback.

Letters: B images, C channels, H rows, W columns.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from cct_lightning.data.augment import counter_rng
from cct_lightning.data.augment.geometric import fill_outside
from cct_lightning.data.augment.policies import AugmentPolicy

ATTEMPTS = 10
BOX_DRAWS = 2 * ATTEMPTS + 2
RESIZED_CROP_DRAWS = BOX_DRAWS + 2
CROP_STREAM = 0  # of random numbers


class ResizedCrop(NamedTuple):
    """What is cut out of each image and how: boxes in pixels, int64 (B,), and choices, bool (B,)."""

    top: Tensor
    left: Tensor
    height: Tensor
    width: Tensor
    flip: Tensor
    cubic: Tensor


def resized_crop(draws: Tensor, policy: AugmentPolicy, *, size: tuple[int, int]) -> ResizedCrop:
    """Draw a policy's random resized crop and flip of images of one size (H, W).

    `draws` are uniform numbers, shape (B, RESIZED_CROP_DRAWS).
    """
    assert policy.resized_crop_scale is not None
    scale, ratio = policy.resized_crop_scale, policy.resized_crop_ratio
    boxes = resized_boxes(draws[:, :BOX_DRAWS], size=size, scale=scale, ratio=ratio)
    cubic = {"bilinear": 0.0, "bicubic": 1.0, "random": 0.5}[policy.resized_crop_interpolation]
    return ResizedCrop(*boxes, flip=draws[:, -2] < policy.hflip, cubic=draws[:, -1] < cubic)


def window(
    images: Tensor, top: Tensor, left: Tensor, flip: Tensor, *, size: tuple[int, int], mode: str, fill: Tensor
) -> Tensor:
    """Cut a window out of every image, which may reach beyond it, and mirror those to be flipped: (B, C, *size).

    Args:
        images: uint8, shape (B, C, H, W).
        top: First row of the window in the image; negative is above it; int64, shape (B,).
        left: First column, likewise.
        flip: Whether to mirror the window left to right, bool, shape (B,).
        size: Height and width of the windows.
        mode: What lies beyond the image: `constant` (the fill) or `reflect`.
        fill: Color of the outside, uint8, shape (C,).
    """
    b, c, h, w = images.shape
    rows = top[:, None] + torch.arange(size[0], device=images.device)  # (B, H)
    columns = torch.arange(size[1], device=images.device)
    columns = left[:, None] + torch.where(flip[:, None], size[1] - 1 - columns, columns)  # (B, W)
    if mode == "reflect":
        rows, columns = _mirror(rows, h), _mirror(columns, w)
    near_rows, near_columns = rows.clamp(0, h - 1), columns.clamp(0, w - 1)
    places = (near_rows[:, :, None] * w + near_columns[:, None, :]).view(b, 1, size[0] * size[1])
    cut = images.reshape(b, c, h * w).gather(2, places.expand(b, c, size[0] * size[1])).view(b, c, *size)
    if mode == "reflect":
        return cut
    inside = (near_rows == rows)[:, :, None] & (near_columns == columns)[:, None, :]
    return fill_outside(cut, inside, fill)


def _mirror(places: Tensor, side: int) -> Tensor:
    """Reflect places at the centers of the first and the last pixel, as often as needed."""
    period = max(2 * (side - 1), 1)
    places = places.remainder(period)
    return torch.minimum(places, period - places)


def resized_boxes(
    draws: Tensor, *, size: tuple[int, int], scale: tuple[float, float], ratio: tuple[float, float]
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Draw the boxes of the random resized crop: top, left, height and width in pixels, int64, shape (B,) each.

    Args:
        draws: Uniform numbers, shape (B, BOX_DRAWS).
        size: Height and width of the images.
        scale: Range of the box's area as a fraction of the image's.
        ratio: Range of the box's width over its height, uniform in its logarithm.
    """
    h, w = size
    widths, heights = attempted_sides(draws[:, : 2 * ATTEMPTS], pixels=h * w, scale=scale, ratio=ratio)
    fits = (widths > 0) & (widths <= w) & (heights > 0) & (heights <= h)
    first = fits.to(torch.uint8).argmax(1, keepdim=True)  # the first that fits, or 0 where none does
    some = fits.any(1)
    spare_w, spare_h = w, h  # where none fits: the largest central box within the range of ratios
    if w / h < ratio[0]:
        spare_h = round(w / ratio[0])
    elif w / h > ratio[1]:
        spare_w = round(h * ratio[1])
    width = torch.where(some, widths.gather(1, first)[:, 0], spare_w)
    height = torch.where(some, heights.gather(1, first)[:, 0], spare_h)
    top = torch.where(some, counter_rng.integers(draws[:, -2], h - height + 1), (h - spare_h) // 2)
    left = torch.where(some, counter_rng.integers(draws[:, -1], w - width + 1), (w - spare_w) // 2)
    return top, left, height, width


def attempted_sides(
    draws: Tensor, *, pixels: int, scale: tuple[float, float], ratio: tuple[float, float]
) -> tuple[Tensor, Tensor]:
    """Draw the two sides of rectangles in pixels, int64, (B, ATTEMPTS) each; the first that fits is to be taken.

    Args:
        draws: Uniform numbers, shape (B, 2 * ATTEMPTS).
        pixels: The image's area.
        scale: Range of the rectangle's area as a fraction of the image's.
        ratio: Range of the first side over the second, uniform in its logarithm.
    """
    draws = draws.double()  # on the CPU: a last-bit difference between devices would move a side by a pixel
    area = pixels * (scale[0] + (scale[1] - scale[0]) * draws[:, :ATTEMPTS])
    low, high = math.log(ratio[0]), math.log(ratio[1])
    aspect = torch.exp(low + (high - low) * draws[:, ATTEMPTS:])
    return torch.sqrt(area * aspect).round().long(), torch.sqrt(area / aspect).round().long()
