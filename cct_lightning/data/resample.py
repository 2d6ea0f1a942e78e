"""Crop, flip and resize every image by its own box: two batched matrix products with Pillow's resampling weights.

Resizing is separable: out = rows @ image @ columns^T, where each row of a matrix holds one output pixel's weights. A crop
offsets the weights, a flip reverses them, bilinear or bicubic and antialiasing are different weights. So one product
does it all, per image. The weights are Pillow's (`Image.resize`: triangle, or Keys' cubic with a = -0.5, both widened
when they shrink), as used by timm's `RandomResizedCropAndInterpolation`.

Letters: B images, C channels, H rows, W columns, N input pixels, M output pixels, T taps.
"""

import math

import torch
from torch import Tensor

_WEIGHT_UNIT = 2.0**-14


def _triangle(distance: Tensor) -> Tensor:
    return (1 - distance).clamp_min(0)


def _cubic(distance: Tensor) -> Tensor:
    # Each polynomial is zero where the clamp holds it, so that the two pieces add up.
    near, far = distance.clamp_max(1), distance.clamp(1, 2)
    return (1.5 * near - 2.5) * near * near + 1 - 0.5 * (((far - 5) * far + 8) * far - 4)


def weights(start: Tensor, length: Tensor, cubic: Tensor, flip: Tensor, *, inputs: int, outputs: int) -> Tensor:
    """Resampling matrices along one axis.

    Args:
        start: First input pixel of the box, int64, shape (B,).
        length: Input pixels in the box, int64, shape (B,).
        cubic: Bicubic instead of bilinear, bool, shape (B,).
        flip: Reverse the output, bool, shape (B,).
        inputs: N, pixels of the whole input.
        outputs: M, pixels of the output.

    Returns:
        float32, shape (B, M, N); rows sum to one.
    """
    device = start.device
    scale = length.float() / outputs  # (B,)
    blur = scale.clamp_min(1)
    out = torch.arange(outputs, device=device)
    out = torch.where(flip[:, None], outputs - 1 - out, out)  # (B, M)
    center = (out + 0.5) * scale[:, None]  # in the box, pixels
    reach = 2 * max(inputs / outputs, 1.0)
    taps = torch.arange(2 * math.ceil(reach) + 1, device=device)
    first = torch.floor(center - 2 * blur[:, None] + 0.5)  # the wider kernel's first pixel
    place = first[..., None] + taps  # (B, M, T)
    distance = ((place + 0.5 - center[..., None]) / blur[:, None, None]).abs()
    weight = torch.where(cubic[:, None, None], _cubic(distance), _triangle(distance))
    weight = weight * ((place >= 0) & (place < length[:, None, None]))
    weight = weight / weight.sum(2, keepdim=True)
    # Multiples of 2^-14: products with pixels and all their sums are then exact in float32 (8 + 14 bits and a sum of
    # absolute weights below 2), so that the order of summation, which depends on batch size and device, changes nothing.
    weight = torch.round(weight / _WEIGHT_UNIT) * _WEIGHT_UNIT
    place = (start[:, None, None] + place.long()).clamp(0, inputs - 1)
    matrix = torch.zeros(*out.shape, inputs, device=device)
    return matrix.scatter_add_(2, place, weight)


def resize(images: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Apply resampling matrices to both axes, first along the rows as Pillow does.

    Args:
        images: uint8, shape (B, C, H, W).
        rows: Matrices for the vertical axis, shape (B, M_h, H).
        columns: Matrices for the horizontal axis, shape (B, M_w, W).

    Returns:
        uint8, shape (B, C, M_h, M_w).
    """
    b, c, h, w = images.shape
    wide = torch.bmm(images.view(b, c * h, w).float(), columns.transpose(1, 2))  # (B, C * H, M_w)
    wide = wide.round_().clamp_(0, 255).view(b, c, h, -1)  # Pillow's two passes meet in uint8
    tall = torch.matmul(rows[:, None], wide)  # (B, C, M_h, M_w)
    return to_uint8(tall.round_())


def to_uint8(pixels: Tensor) -> Tensor:
    """Clamp whole-number floats to 0..255 and convert them; by way of int16, which is vectorized where uint8 is not."""
    return pixels.clamp_(0, 255).to(torch.int16).to(torch.uint8)
