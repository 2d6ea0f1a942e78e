"""Rotations, shears, shifts and zooms of a batch, each image by its own matrix, on uint8 pixels.

Conventions are Pillow's `Image.transform(AFFINE)`, which timm uses: a matrix takes a point of the output to a point of
the input, pixel (0, 0) covers [0, 1) x [0, 1), what lies outside the input is the fill color, and samples near the
border repeat the border. The bicubic kernel is Pillow's for transforms (Keys, a = -1), not the one torch has
(a = -0.75). Values are rounded to the nearest, where Pillow truncates.

Coordinates are integers in units of 2^-16 pixel and kernel weights integers in units of 2^-10, so that all sums are
exact: the same pixels on every device, in every batch, eager or compiled.

Letters: B images, C channels, H rows, W columns, T taps of the kernel along an axis.
"""

import math

import torch
from torch import Tensor

from cct_lightning.data.augment.pixels import select
from cct_lightning.data.augment.tables import kept

_UNIT = 1 << 16  # one pixel, in coordinates
_WEIGHT_BITS = 10
_TAPS = {"bilinear": slice(1, 3), "bicubic": slice(0, 4), "random": slice(0, 4)}  # used of four pixels in a row


def _split(position: Tensor) -> tuple[Tensor, Tensor]:
    """Split coordinates into the pixel whose center is left of them and the phase beyond it, 0 to 255 for 0 to 1."""
    # Half a pixel lies between the edge and the first center; half a phase rounds to the nearest one.
    centered = position - (_UNIT // 2 - 128)
    return centered >> 16, (centered >> 8) & 255


@kept(4)
def _kernels(device: torch.device) -> Tensor:
    """Weights of the four pixels around a phase, int32, shape (4, 512): 256 phases bilinear, then 256 bicubic."""
    p = torch.arange(256, dtype=torch.int32, device=device)
    q, none = 256 - p, torch.zeros_like(p)
    # Keys' cubic with a = -1 at distance d = p / 256: -d (1-d)^2, 1 - 2 d^2 + d^3, ..., from units of 2^24 to 2^10.
    outer_left, outer_right = (-p * q * q + (1 << 13)) >> 14, (-q * p * p + (1 << 13)) >> 14
    right = (p * (65536 + 256 * p - p * p) + (1 << 13)) >> 14
    left = (1 << _WEIGHT_BITS) - outer_left - right - outer_right  # they sum to 2^10
    bilinear = (none, (1 << _WEIGHT_BITS) - (p << 2), p << 2, none)
    return torch.cat([torch.stack(bilinear), torch.stack((outer_left, left, right, outer_right))], 1)


def _weights(phase: Tensor, cubic: Tensor, interpolation: str) -> Tensor:
    """Weights of the pixels around every phase, int32, shape (T, *phase.shape)."""
    kind = {"bilinear": 0, "bicubic": 256}.get(interpolation, cubic * 256)
    place = (phase + kind).flatten()
    taps = [row.index_select(0, place) for row in _kernels(phase.device)[_TAPS[interpolation]].unbind()]
    return torch.stack(taps).unflatten(1, phase.shape)


def fill_outside(images: Tensor, inside: Tensor, fill: Tensor) -> Tensor:
    """Color what is not inside: images (B, C, H, W), inside (B, H, W), fill (C,)."""
    return select(inside.unsqueeze(1), images, fill.view(-1, 1, 1))


def shift_rows(images: Tensor, shift: Tensor, cubic: Tensor, fill: Tensor, interpolation: str) -> Tensor:
    """Move every row along itself by its own distance; shears and shifts are that, and take one gather.

    Args:
        images: uint8, shape (B, C, H, W), as is the result.
        shift: What is added to the column to find where a pixel comes from, pixels, shape (B, H).
        cubic, fill, interpolation: As in `Sampling`.
    """
    w = images.shape[3]
    columns = torch.arange(-1, w + 2, dtype=torch.int32, device=images.device)
    start = _fixed(shift).unsqueeze(2) + _UNIT // 2  # (B, H, 1): where the center of column 0 comes from
    position = columns[1:-2] * _UNIT + start  # (B, H, W)
    inside = (position >= 0) & (position < w * _UNIT)
    if interpolation == "nearest":
        return fill_outside(_take_columns(images, position >> 16), inside, fill)
    first, phase = _split(start)
    weights = _weights(phase, cubic.view(-1, 1, 1), interpolation)  # constant along a row: (T, B, H, 1)
    values = _take_columns(images, first + columns).to(torch.int32)  # (B, C, H, W + 3)
    total = torch.zeros_like(images, dtype=torch.int32)
    for weight, tap in zip(weights.unbind(), range(4)[_TAPS[interpolation]], strict=True):
        total.addcmul_(weight.unsqueeze(1), values.narrow(3, tap, w))
    return fill_outside(_round(total, _WEIGHT_BITS), inside, fill)


def _take_columns(images: Tensor, columns: Tensor) -> Tensor:
    """Gather pixels within their rows: (B, C, H, W) by columns (B, H, N) gives (B, C, H, N)."""
    b, c, h, w = images.shape
    return images.gather(3, columns.clamp(0, w - 1).long().unsqueeze(1).expand(b, c, h, -1))


def transform(images: Tensor, matrix: Tensor, cubic: Tensor, fill: Tensor, interpolation: str) -> Tensor:
    """Sample every image through its own affine matrix.

    Args:
        images: uint8, shape (B, C, H, W), as is the result.
        matrix: From output to input points (x, y, 1), in units of 2^-16 pixel, int32, shape (B, 2, 3).
        cubic, fill, interpolation: As in `Sampling`.
    """
    h, w = images.shape[2:]
    # Twice the pixel centers, which are whole numbers; the shift by one bit halves them again.
    x2 = torch.arange(1, 2 * w, 2, dtype=torch.int32, device=images.device)
    y2 = torch.arange(1, 2 * h, 2, dtype=torch.int32, device=images.device)[:, None]
    m = matrix[..., None, None]  # (B, 2, 3, 1, 1)
    place = ((m[:, :, 0] * x2 + m[:, :, 1] * y2) >> 1) + m[:, :, 2]  # (B, 2, H, W): x and y in the input
    x, y = place.unbind(1)
    inside = (x >= 0) & (x < w * _UNIT) & (y >= 0) & (y < h * _UNIT)
    if interpolation == "nearest":
        rows, columns = (y >> 16).clamp(0, h - 1), (x >> 16).clamp(0, w - 1)
        return fill_outside(_take(images, rows * w + columns).to(torch.uint8), inside, fill)
    first, phase = _split(place)
    used = _TAPS[interpolation]
    weights = _weights(phase, cubic.view(-1, 1, 1, 1), interpolation)  # (T, B, 2, H, W)
    across, down = weights.transpose(0, 1).unsqueeze(1).unbind(3)  # (B, 1, T, H, W)
    offsets = torch.arange(used.start - 1, used.stop - 1, dtype=torch.int32, device=images.device).view(-1, 1, 1)
    x, y = first.unsqueeze(1).unbind(2)  # (B, 1, H, W)
    columns = (x + offsets).clamp_(0, w - 1).unsqueeze(1)  # (B, 1, T, H, W)
    rows = (y + offsets).clamp_(0, h - 1).mul_(w).unsqueeze(2)  # (B, T, 1, H, W)
    # All taps at once where they are few; otherwise one row of them after the other, for the sake of memory, of which
    # all take 64 bytes a pixel. A GPU has more of it, and launches ten kernels for each row.
    few = images.numel() < (1 << 20 if images.device.type == "cpu" else 1 << 24)
    together = rows.shape[1] if torch.compiler.is_compiling() or few else 1
    total = torch.zeros_like(images, dtype=torch.int32)
    for part, weight in zip(rows.split(together, 1), down.split(together, 2), strict=True):
        line = _take(images, part + columns).mul_(across.unsqueeze(2)).sum(3, dtype=torch.int32)  # (B, C, T', H, W)
        total += line.mul_(weight).sum(2, dtype=torch.int32)  # below 2^31: 255 * (1.5 * 2^10)^2
    return fill_outside(_round(total, 2 * _WEIGHT_BITS), inside, fill)


def _take(images: Tensor, places: Tensor) -> Tensor:
    """Gather pixels by their place in the flat image: (B, C, H, W) by int32 (B, ...) gives (B, C, ...), int32."""
    images = images.flatten(2)
    b, _, pixels = images.shape
    start = torch.arange(0, b * pixels, pixels, dtype=torch.int32, device=images.device)
    places = places + start.view(-1, *(1,) * (places.ndim - 1))
    groups = []
    # Up to four channels share a number: one gather and two vectorized operations in place of a gather for each.
    for channels in images.split(4, 1):
        shifts = torch.arange(0, 8 * channels.shape[1], 8, dtype=torch.int32, device=images.device)[:, None]
        packed = (channels.to(torch.int32) << shifts).sum(1, dtype=torch.int32)  # (B, H * W)
        taken = packed.flatten().index_select(0, places.flatten()).view(b, 1, places.shape[1:].numel())
        groups.append((taken >> shifts).bitwise_and_(255))
    return (groups[0] if len(groups) == 1 else torch.cat(groups, 1)).unflatten(2, places.shape[1:])


def _round(total: Tensor, bits: int) -> Tensor:
    """Round sums in units of 2^-bits to pixels."""
    return ((total + (1 << (bits - 1))) >> bits).clamp(0, 255).to(torch.uint8)


def _fixed(pixels: Tensor) -> Tensor:
    return torch.round(pixels * _UNIT).to(torch.int32)  # a product with a power of two is exact, in float32, too


def affine_matrix(degrees: Tensor, zoom: Tensor, shift: Tensor, size: tuple[int, int]) -> Tensor:
    """Matrices (B, 2, 3), int32, for `transform`: rotate counterclockwise and zoom about the center, then shift.

    Computed in float64, which not every accelerator has: with tensors on the CPU.

    Args:
        degrees: Angle, shape (B,).
        zoom: Magnification, shape (B,).
        shift: Motion of the image in pixels, to the right and down, shape (B, 2).
        size: The image's height and width.
    """
    h, w = size
    # float64: a last-bit difference between devices in the cosine is gone after rounding to 2^-16.
    angle, zoom = degrees.double() * (math.pi / 180), zoom.double()
    cos, sin = torch.cos(angle) / zoom, torch.sin(angle) / zoom
    # The output's point that shows the input's center, which is as well the center of the rotation.
    x, y = shift.double().unbind(1)
    x, y = x + w / 2, y + h / 2
    rows = (cos, -sin, w / 2 - cos * x + sin * y, sin, cos, h / 2 - sin * x - cos * y)
    return _fixed(torch.stack(rows, 1)).view(-1, 2, 3)


def rotation(degrees: Tensor, size: tuple[int, int]) -> Tensor:
    """Matrices (B, 2, 3) that rotate counterclockwise about the center alone; see `affine_matrix`."""
    return affine_matrix(degrees, torch.ones_like(degrees), degrees.new_zeros(len(degrees), 2), size)
