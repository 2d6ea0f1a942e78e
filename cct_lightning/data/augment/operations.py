"""The geometric operations of automatic augmentation, and one operation for each image of a batch.

An operation and its argument are numbers per image. On the CPU the batch is sorted by operation, and each operation
takes its slice: no image is touched by an operation it did not draw. While compiling, and on an accelerator, where the
sizes of the slices would have to be waited for, every operation sees the whole batch and the images that drew it take
its result. The pixels are the same.

Letters: B images, C channels, H rows, W columns.
"""

from typing import Literal

import torch
from torch import Tensor

from cct_lightning.data.augment import geometric
from cct_lightning.data.augment import point_ops as point_ops  # registers its operations, before those below
from cct_lightning.data.augment.pixels import select
from cct_lightning.data.augment.registry import GROUPS, OPERATIONS, Op, Range, Sampling, operation
from cct_lightning.data.augment.tables import kept


def _dense(images: Tensor) -> bool:
    """Whether every operation sees the whole batch."""
    return torch.compiler.is_compiling() or images.device.type != "cpu"


def _signed(
    randaugment: float, autoaugment: float, trivialaugment: float, *, side: Literal["width", "height"] | None = None
) -> dict[str, Range]:
    """Ranges around 0 that end at these arguments; in TrivialAugment's, a shift is in pixels of whatever side."""
    truncated = None if side is None else 0.0
    return {
        "randaugment": Range(span=randaugment, signed=True, side=side),
        "autoaugment": Range(span=autoaugment, signed=True, side=side, whole=truncated),
        "trivialaugment": Range(span=trivialaugment, signed=True, whole=truncated),
    }


@operation("rotate", **_signed(30, 30, 135))
def rotate(images: Tensor, _: Tensor, sampling: Sampling) -> Tensor:
    """Rotate counterclockwise about the center."""
    return geometric.transform(images, sampling.rotation, sampling.cubic, sampling.fill, sampling.interpolation)


def shift(images: Tensor, argument: Tensor, sampling: Sampling) -> Tensor:
    """Move rows or columns along themselves, all by the same distance or in proportion to their place."""

    def along_rows(images: Tensor) -> Tensor:
        shear = (sampling.op == _SHEAR_X) | (sampling.op == _SHEAR_Y)
        lines = torch.arange(images.shape[2], device=images.device) + 0.5
        distance = argument[:, None] * torch.where(shear[:, None], lines, 1.0)
        return geometric.shift_rows(images, distance, sampling.cubic, sampling.fill, sampling.interpolation)

    along_y = sampling.op >= _SHEAR_Y
    if images.shape[2] != images.shape[3]:
        return select(along_y.view(-1, 1, 1, 1), along_rows(images.mT).mT, along_rows(images))
    return _turn(along_rows(_turn(images, along_y)), along_y)


def _turn(images: Tensor, turned: Tensor) -> Tensor:
    """Exchange rows and columns of some images; unless dense, those come after the others."""
    if _dense(images):
        return select(turned.view(-1, 1, 1, 1), images.mT, images)
    start = len(turned) - int(turned.sum())
    return torch.cat((images[:start], images[start:].mT))


operation("shear_x", **_signed(0.3, 0.3, 0.99))(shift)  # columns per row, about the upper left corner
operation("translate_x", **_signed(0.45, 150 / 331, 32, side="width"))(shift)  # pixels to the left
operation("shear_y", **_signed(0.3, 0.3, 0.99))(shift)  # rows per column
operation("translate_y", **_signed(0.45, 150 / 331, 32, side="height"))(shift)  # pixels up
_SHEAR_X, _SHEAR_Y = Op.SHEAR_X, Op.SHEAR_Y
PUBLISHED = tuple(OPERATIONS)  # what the published policies draw from; other packages register later


@kept(4)
def _bounds(bounds: tuple[tuple[int, int], ...], device: torch.device) -> tuple[Tensor, Tensor]:
    """The numbers that each function serves, its first and the one after its last, (G, 1) each."""
    first, end = torch.tensor(bounds, device=device).unsqueeze(2).unbind(1)
    return first, end


def apply(
    images: Tensor, op: Tensor, argument: Tensor, cubic: Tensor, rotation: Tensor, fill: Tensor, interpolation: str
) -> Tensor:
    """Apply to every image the operation it drew.

    Args:
        images: uint8, shape (B, C, H, W), as is the result.
        argument: In the operation's own unit, float32, shape (B,).
        op, cubic, rotation, fill, interpolation: As in `Sampling`.
    """
    if _dense(images):
        sampling = Sampling(op, cubic, rotation, fill, interpolation)
        first, end = _bounds(tuple((first, end) for first, end, *_ in GROUPS), images.device)
        drew = ((op >= first) & (op < end)).view(len(GROUPS), -1, 1, 1, 1)  # by all functions at once
        for (_, _, function, takes), mine in zip(GROUPS, drew.unbind(), strict=True):
            images = select(mine, function(*(images, argument, sampling)[:takes]), images)
        return images
    op, order = op.sort(stable=True)
    # One count per function, the untouched images before them.
    bounds = torch.searchsorted(op, torch.tensor([first for first, *_ in GROUPS])).tolist()
    sizes = [end - start for start, end in zip([0, *bounds], [*bounds, len(op)], strict=True)]
    images, argument, cubic, rotation = (t.index_select(0, order) for t in (images, argument, cubic, rotation))
    untouched, *drawn = zip(*(t.split(sizes) for t in (images, argument, op, cubic, rotation)), strict=True)
    done = [
        function(*(image, value, Sampling(number, smooth, turn, fill, interpolation))[:takes])
        for (_, _, function, takes), (image, value, number, smooth, turn) in zip(GROUPS, drawn, strict=True)
        if len(image)
    ]
    return torch.cat([untouched[0], *done]).index_select(0, order.argsort())
