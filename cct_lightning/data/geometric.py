"""Rotations, shears, shifts and zooms of a batch, each image by its own matrix, on uint8 pixels.

Conventions are Pillow's `Image.transform(AFFINE)`, which timm uses: a matrix takes a point of the output to a point of
the input, pixel (0, 0) covers [0, 1) x [0, 1), what lies outside the input is the fill color, and samples near the
border repeat the border. The bicubic kernel is Pillow's for transforms (Keys, a = -1), not the one torch has
(a = -0.75). Values are rounded to the nearest, where Pillow truncates.

Coordinates are integers in units of 2^-16 pixel and kernel weights integers in units of 2^-10, so that all sums are
exact: the same pixels on every device, in every batch, eager or compiled.

Letters: B images, C channels, H rows, W columns, T taps of the kernel.
"""

import math

import torch
from torch import Tensor

_UNIT = 1 << 16  # one pixel, in coordinates
_WEIGHT_BITS = 10
_PHASES = 256  # places between two pixels at which the kernels are tabulated
BILINEAR, BICUBIC = 0, 1


def _kernel_table() -> Tensor:
    """The four weights of both kernels at every phase: int32, shape (2 * phases, T=4), rows sum to 2^10."""
    d = torch.arange(_PHASES, dtype=torch.float64) / _PHASES
    zero = torch.zeros_like(d)
    bilinear = torch.stack((zero, 1 - d, d, zero), 1)
    bicubic = torch.stack((-d * (1 - d) ** 2, 1 - 2 * d**2 + d**3, d * (1 + d - d**2), -(d**2) * (1 - d)), 1)
    weights = torch.round(torch.cat((bilinear, bicubic)) * (1 << _WEIGHT_BITS))
    weights[:, 1] += (1 << _WEIGHT_BITS) - weights.sum(1)  # what rounding lost, so that flat areas stay flat
    return weights.to(torch.int32)


_KERNELS = _kernel_table()


def _split(position: Tensor, kernel: Tensor) -> tuple[Tensor, Tensor]:
    """Split coordinates into the pixel left of them and the row of the kernel table.

    Args:
        position: int32 coordinates in the input, any shape.
        kernel: `BILINEAR` or `BICUBIC` per image, broadcastable against `position`.
    """
    # Half a pixel from the edge to the first center; half a phase to round to the nearest one.
    centered = position - _UNIT // 2 + _UNIT // _PHASES // 2
    phase = (centered >> 8) & (_PHASES - 1)
    return centered >> 16, phase + kernel * _PHASES


def _fill_outside(images: Tensor, inside: Tensor, fill: Tensor) -> Tensor:
    return torch.where(inside[:, None], images, fill[:, None, None])


def shift_rows(images: Tensor, shift: Tensor, kernel: Tensor | None, fill: Tensor) -> Tensor:
    """Move every row along itself by its own distance; shears and shifts are that, and need few samples for it.

    Args:
        images: uint8, shape (B, C, H, W).
        shift: What is added to the column to find where a pixel comes from, pixels, shape (B, H).
        kernel: `BILINEAR` or `BICUBIC` per image, int32, shape (B,); None takes the nearest pixel.
        fill: Color of the outside, uint8, shape (C,).

    Returns:
        uint8, shape (B, C, H, W).
    """
    b, c, h, w = images.shape
    columns = torch.arange(w, dtype=torch.int32, device=images.device)
    start = _fixed(shift) + _UNIT // 2  # (B, H): where the center of column 0 comes from
    position = (columns * _UNIT) + start[..., None]  # (B, H, W)
    inside = (position >= 0) & (position < w * _UNIT)
    if kernel is None:
        source = (position >> 16).clamp(0, w - 1)
        return _fill_outside(_take_columns(images, source), inside, fill)
    first, row = _split(start, kernel[:, None])
    weights = _KERNELS.to(images.device)[row.long()]  # (B, H, T)
    taps = torch.arange(-1, w + 2, dtype=torch.int32, device=images.device)
    values = _take_columns(images, (first[..., None] + taps).clamp(0, w - 1)).to(torch.int32)  # (B, C, H, W + 3)
    total = torch.full((), 1 << (_WEIGHT_BITS - 1), dtype=torch.int32, device=images.device)
    for tap in range(4):
        total = total + weights[:, None, :, tap, None] * values[..., tap : tap + w]
    moved = (total >> _WEIGHT_BITS).clamp(0, 255).to(torch.uint8)
    return _fill_outside(moved, inside, fill)


def _take_columns(images: Tensor, columns: Tensor) -> Tensor:
    """Gather pixels within their rows: (B, C, H, W) by columns (B, H, N) gives (B, C, H, N)."""
    b, c, h, _ = images.shape
    return images.gather(3, columns.long()[:, None].expand(b, c, h, columns.shape[-1]))


def transform(images: Tensor, matrix: Tensor, kernel: Tensor | None, fill: Tensor, *, taps: int = 4) -> Tensor:
    """Sample every image through its own affine matrix.

    Args:
        images: uint8, shape (B, C, H, W).
        matrix: From output to input points (x, y, 1), pixels, shape (B, 2, 3).
        kernel: `BILINEAR` or `BICUBIC` per image, int32, shape (B,); None takes the nearest pixel.
        fill: Color of the outside, uint8, shape (C,).
        taps: 4, or 2 where every kernel is `BILINEAR`, whose outer weights are zero.

    Returns:
        uint8, shape (B, C, H, W).
    """
    b, c, h, w = images.shape
    # Twice the pixel centers, which are whole numbers; the shift by one bit halves them again.
    x2 = torch.arange(1, 2 * w, 2, dtype=torch.int32, device=images.device)
    y2 = torch.arange(1, 2 * h, 2, dtype=torch.int32, device=images.device)[:, None]
    m = _fixed(matrix)[..., None, None]  # (B, 2, 3, 1, 1)
    x = ((m[:, 0, 0] * x2 + m[:, 0, 1] * y2) >> 1) + m[:, 0, 2]  # (B, H, W)
    y = ((m[:, 1, 0] * x2 + m[:, 1, 1] * y2) >> 1) + m[:, 1, 2]
    inside = (x >= 0) & (x < w * _UNIT) & (y >= 0) & (y < h * _UNIT)
    if kernel is None:
        rows, columns = (y >> 16).clamp(0, h - 1), (x >> 16).clamp(0, w - 1)
        return _fill_outside(_take_pixels(images, rows * w + columns), inside, fill)
    kernel = kernel[:, None, None]
    left, x_row = _split(x, kernel)
    top, y_row = _split(y, kernel)
    table = _KERNELS.to(images.device).t().contiguous()  # (T, 2 * phases)
    x_row, y_row = x_row.long(), y_row.long()
    pixels = images.to(torch.int32)
    used = range(4) if taps == 4 else range(1, 3)
    columns_of = {tap: (left + (tap - 1)).clamp(0, w - 1) for tap in used}
    weights_of = {tap: table[tap][x_row][:, None] for tap in used}  # (B, 1, H, W)
    total = torch.full((), 1 << (2 * _WEIGHT_BITS - 1), dtype=torch.int32, device=images.device)
    for row_tap in used:
        rows = (top + (row_tap - 1)).clamp(0, h - 1) * w
        line = sum(weights_of[tap] * _take_pixels(pixels, rows + columns_of[tap]) for tap in used)
        total = total + table[row_tap][y_row][:, None] * line  # below 2^31: 255 * (1.5 * 2^10)^2
    moved = (total >> (2 * _WEIGHT_BITS)).clamp(0, 255).to(torch.uint8)
    return _fill_outside(moved, inside, fill)


def _take_pixels(images: Tensor, places: Tensor) -> Tensor:
    """Gather pixels by their place in the flat image: (B, C, H, W) by (B, H, W) gives (B, C, H, W)."""
    b, c, h, w = images.shape
    return images.view(b, c, h * w).gather(2, places.long().view(b, 1, h * w).expand(b, c, h * w)).view(b, c, h, w)


def _fixed(pixels: Tensor) -> Tensor:
    return torch.round(pixels.double() * _UNIT).to(torch.int32)


def affine_matrix(degrees: Tensor, zoom: Tensor, shift: Tensor, size: tuple[int, int]) -> Tensor:
    """Matrices that rotate counterclockwise and zoom about the image's center, then shift.

    Args:
        degrees: Angle, shape (B,).
        zoom: Magnification, shape (B,).
        shift: Motion of the image in pixels, to the right and down, shape (B, 2).
        size: The image's height and width.

    Returns:
        From output to input points, float64, shape (B, 2, 3).
    """
    h, w = size
    # float64: a last-bit difference between devices in the cosine is gone after rounding to 2^-16.
    angle = degrees.double() * (math.pi / 180)
    cos, sin = torch.cos(angle) / zoom.double(), torch.sin(angle) / zoom.double()
    x, y = w / 2 + shift[:, 0].double(), h / 2 + shift[:, 1].double()
    top = torch.stack((cos, -sin, w / 2 - cos * x + sin * y), 1)
    bottom = torch.stack((sin, cos, h / 2 - sin * x - cos * y), 1)
    return torch.stack((top, bottom), 1)
