"""The fifteen operations of automatic augmentation, and one of them for each image of a batch.

An operation and its argument are numbers per image. On the CPU the batch is sorted by operation, and each operation
takes its slice: no image is touched by an operation it did not draw. While compiling, and on an accelerator, where the
sizes of the slices would have to be waited for, every operation sees the whole batch and the images that drew it take
its result. The pixels are the same.

Letters: B images, C channels, H rows, W columns.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from cct_lightning.data.augment import geometric, point_ops
from cct_lightning.data.augment.pixels import select


class Op:
    """The operations' numbers, with the meaning of their arguments; plain integers, which torch.compile compares."""

    IDENTITY = 0
    AUTOCONTRAST = 1
    EQUALIZE = 2
    INVERT = 3
    POSTERIZE = 4  # bits kept, 0 to 8
    SOLARIZE = 5  # threshold, 0 to 256
    SOLARIZE_ADD = 6  # amount, 0 to 255
    BRIGHTNESS = 7  # factor; 1 is the image
    CONTRAST = 8  # factor
    COLOR = 9  # factor
    SHARPNESS = 10  # factor
    ROTATE = 11  # degrees counterclockwise
    SHEAR_X = 12  # columns per row, about the upper left corner
    TRANSLATE_X = 13  # pixels to the left
    SHEAR_Y = 14  # rows per column
    TRANSLATE_Y = 15  # pixels up
    COUNT = 16


# Images, operation (B,), argument (B,), cubic (B,) -> images.
Function = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]


def _plain(function: Callable[[Tensor], Tensor]) -> Function:
    return lambda images, op, argument, cubic: function(images)


def _point(function: Callable[[Tensor, Tensor], Tensor]) -> Function:
    return lambda images, op, argument, cubic: function(images, argument)


def _dense(images: Tensor) -> bool:
    """Whether every operation sees the whole batch."""
    return torch.compiler.is_compiling() or images.device.type != "cpu"


def _turn(images: Tensor, turned: Tensor) -> Tensor:
    """Exchange rows and columns of some images; unless dense, those come after the others."""
    if _dense(images):
        return select(turned.view(-1, 1, 1, 1), images.mT, images)
    start = len(turned) - int(turned.sum())
    return torch.cat((images[:start], images[start:].mT))


def _functions(fill: Tensor, interpolation: str) -> list[tuple[int, Function]]:
    """Functions in the order of `Op`, each with the first operation it serves; it serves up to the next one's."""

    def rotate(images: Tensor, op: Tensor, degrees: Tensor, cubic: Tensor) -> Tensor:
        one, size = torch.ones_like(degrees), (images.shape[2], images.shape[3])
        matrix = geometric.affine_matrix(degrees, one, torch.zeros(len(degrees), 2, device=images.device), size)
        return geometric.transform(images, matrix, cubic, fill, interpolation)

    def shift(images: Tensor, op: Tensor, argument: Tensor, cubic: Tensor) -> Tensor:
        def along_rows(images: Tensor) -> Tensor:
            shear = (op == Op.SHEAR_X) | (op == Op.SHEAR_Y)
            lines = torch.arange(images.shape[2], device=images.device) + 0.5
            distance = argument[:, None] * torch.where(shear[:, None], lines, 1.0)
            return geometric.shift_rows(images, distance, cubic, fill, interpolation)

        along_y = op >= Op.SHEAR_Y
        if images.shape[2] != images.shape[3]:
            return select(along_y.view(-1, 1, 1, 1), along_rows(images.mT).mT, along_rows(images))
        return _turn(along_rows(_turn(images, along_y)), along_y)

    return [
        (Op.AUTOCONTRAST, _plain(point_ops.autocontrast)),
        (Op.EQUALIZE, _plain(point_ops.equalize)),
        (Op.INVERT, _plain(point_ops.invert)),
        (Op.POSTERIZE, _point(point_ops.posterize)),
        (Op.SOLARIZE, _point(point_ops.solarize)),
        (Op.SOLARIZE_ADD, _point(point_ops.solarize_add)),
        (Op.BRIGHTNESS, _point(point_ops.brightness)),
        (Op.CONTRAST, _point(point_ops.contrast)),
        (Op.COLOR, _point(point_ops.color)),
        (Op.SHARPNESS, _point(point_ops.sharpness)),
        (Op.ROTATE, rotate),
        (Op.SHEAR_X, shift),
    ]


def apply(images: Tensor, op: Tensor, argument: Tensor, cubic: Tensor, fill: Tensor, interpolation: str) -> Tensor:
    """Apply to every image the operation it drew.

    Args:
        images: uint8, shape (B, C, H, W).
        op: `Op`, int64, shape (B,).
        argument: In the operation's own unit, float32, shape (B,).
        cubic: Whether geometric operations sample bicubically where the interpolation is random, bool, shape (B,).
        fill: Color of the outside, uint8, shape (C,).
        interpolation: `nearest`, `bilinear`, `bicubic` or `random`.

    Returns:
        uint8, shape (B, C, H, W).
    """
    functions = _functions(fill, interpolation)
    ends = [first for first, _ in functions[1:]] + [Op.COUNT]
    if _dense(images):
        for (first, function), end in zip(functions, ends, strict=True):
            drew = ((op >= first) & (op < end)).view(-1, 1, 1, 1)
            images = select(drew, function(images, op, argument, cubic), images)
        return images
    op, order = op.sort(stable=True)
    # One count per function, the untouched images before them.
    bounds = torch.searchsorted(op, torch.tensor([first for first, _ in functions])).tolist()
    sizes = [end - start for start, end in zip([0, *bounds], [*bounds, len(op)], strict=True)]
    images, argument, cubic = (t.index_select(0, order) for t in (images, argument, cubic))
    untouched, *drawn = zip(*(t.split(sizes) for t in (images, op, argument, cubic)), strict=True)
    done = [function(*parts) for (_, function), parts, size in zip(functions, drawn, sizes[1:], strict=True) if size]
    return torch.cat([untouched[0], *done]).index_select(0, order.argsort())
