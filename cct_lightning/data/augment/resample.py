"""Crop, flip and resize every image by its own box: two batched matrix products with Pillow's resampling weights.

Resizing is separable: out = rows @ image @ columns^T, where each row of a matrix holds one output pixel's weights. A
crop offsets the weights, a flip reverses them, bilinear or bicubic and antialiasing are different weights. So one
product does it all, per image. The weights are Pillow's (`Image.resize`: triangle, or Keys' cubic with a = -0.5, both
widened when they shrink), as used by timm's `RandomResizedCropAndInterpolation`.

Letters: B images, C channels, H rows, W columns, N input pixels, M output pixels, T taps.
"""

import functools
import math

import torch
from torch import Tensor

from cct_lightning.data.augment.pixels import to_uint8
from cct_lightning.data.augment.tables import kept

_WEIGHT_UNIT = 2.0**-14


@kept(16)
def _bank(inputs: int, outputs: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Places of the taps and their weights for a box of every length from 0 to `inputs`.

    Places within the box are int64, shape (2, N + 1, M, T), as they are and with the output reversed; weights float32,
    shape (2, 2, N + 1, M, T), the first 2 for the triangle and the cubic. They are zero outside the box.
    """
    lengths = torch.arange(inputs + 1, dtype=torch.float64).clamp_min(1)[:, None, None]
    scale = lengths / outputs
    blur = scale.clamp_min(1)
    center = (torch.arange(outputs)[:, None] + 0.5) * scale
    taps = torch.arange(math.ceil(4 * max(inputs / outputs, 1)))  # the cubic reaches 2 to either side
    place = torch.floor(center - 2 * blur + 0.5) + taps  # (N + 1, M, T)
    distance = ((place + 0.5 - center) / blur).abs()
    near, far = distance.clamp_max(1), distance.clamp(1, 2)
    # Each polynomial is zero where the clamp holds it, so that the two pieces add up.
    cubic = (1.5 * near - 2.5) * near * near + 1 - 0.5 * (((far - 5) * far + 8) * far - 4)
    weights = torch.stack((1 - near, cubic)) * ((place >= 0) & (place < lengths))
    weights = weights / weights.sum(3, keepdim=True)
    # Multiples of 2^-14: products with pixels and all their sums are then exact in float32 (8 + 14 bits and a sum of
    # absolute weights below 2), so that the order of summation, which depends on batch and device, changes nothing.
    weights = (torch.round(weights / _WEIGHT_UNIT) * _WEIGHT_UNIT).float()
    place = torch.stack((place, place.flip(1))).long()
    weights = torch.stack((weights, weights.flip(2)), 1)
    return place.to(device), weights.to(device)


def matrices(start: Tensor, length: Tensor, cubic: Tensor, flip: Tensor, *, inputs: int, outputs: int) -> Tensor:
    """Resampling matrices (B, M, N) along one axis, float32; rows sum to one.

    Args:
        start: First input pixel of the box, int64, shape (B,).
        length: Input pixels in the box, int64, shape (B,).
        cubic: Bicubic instead of bilinear, bool, shape (B,).
        flip: Reverse the output, bool, shape (B,).
        inputs: N, pixels of the whole input.
        outputs: M, pixels of the output.
    """
    places, weights = _bank(inputs, outputs, start.device)
    row = length + flip * (inputs + 1)
    place = places.flatten(0, 1).index_select(0, row) + start[:, None, None]  # (B, M, T)
    weight = weights.flatten(0, 2).index_select(0, row + cubic * (2 * (inputs + 1)))
    matrix = torch.zeros(len(start), outputs, inputs, device=start.device)
    return matrix.scatter_add_(2, place.clamp_(0, inputs - 1), weight)


def resize(images: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Resize uint8 images (B, C, H, W) to (B, C, M_h, M_w), first along the rows as Pillow does.

    Args:
        images: The images.
        rows: Resampling matrices for the vertical axis, shape (B, M_h, H).
        columns: Those for the horizontal axis, shape (B, M_w, W).
    """
    b, c, h, w = images.shape
    height, width = rows.shape[1], columns.shape[1]
    lines = images.float().reshape(b, c * h, w)
    wide = functools.reduce(torch.add, (torch.bmm(lines, part.mT) for part in _parts(columns)))  # (B, C * H, M_w)
    # Half up as Pillow rounds, whose two passes meet in uint8, too. Interpolation halfway between pixels is common.
    wide = wide.add_(0.5).floor_().clamp_(0, 255).view(b * c, h, width)
    products = (torch.bmm(part.repeat_interleave(c, 0), wide) for part in _parts(rows))  # (B * C, M_h, M_w)
    return to_uint8(functools.reduce(torch.add, products).add_(0.5)).view(b, c, height, width)


def _parts(weights: Tensor) -> tuple[Tensor, ...]:
    """Return weights as a sum whose products with pixels are exact on their device."""
    return (weights,) if weights.device.type == "cpu" else split(weights)


def split(weights: Tensor) -> tuple[Tensor, Tensor]:
    """Split weights, multiples of 2^-14 below 2, into two of at most 8 significant bits each, as pixels have.

    TF32, which a GPU may compute float32 products in, keeps 11 significant bits of a factor, bfloat16 8.
    """
    upper = torch.round(weights * 2.0**7) * 2.0**-7
    return upper, weights - upper
