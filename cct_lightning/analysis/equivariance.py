"""Shift equivariance: do the tokens move with the image, and does the prediction stay?

The argument of Hassani et al. (arXiv 2104.05704) for convolutional tokens is their inductive bias: sparse interaction,
shared weights, equivariance. The error here puts a number on the last. Consistency of predictions under shifts: Zhang,
"Making Convolutional Networks Shift-Invariant Again", arXiv 1904.11486.

Letters: S shifts, B batch, C channels, (H, W) image, (h, w) grid of tokens, D dimension.
"""

import math
from collections.abc import Mapping, Sequence

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor, nn

from cct_lightning.analysis.probe import Stage, compact, evaluating, maps_at, ready
from cct_lightning.analysis.receptive import ReceptiveField, receptive_fields
from cct_lightning.analysis.style import Array, band, figure_of, numbers, one_axes, styled
from cct_lightning.errors import InputError

SHIFTS = tuple(range(9))  # pixels
_DIRECTIONS = ((2, 1), (2, -1), (3, 1), (3, -1))  # axis of (B, C, H, W), sign: down, up, right, left


def shift_images(images: Tensor, *, down: int = 0, right: int = 0) -> Tensor:
    """Move images (B, C, H, W) of any dtype by pixels, negative ones up or left; pixels left free repeat the border."""
    height, width = images.shape[-2:]
    rows = (torch.arange(height, device=images.device) - down).clamp(0, height - 1)
    columns = (torch.arange(width, device=images.device) - right).clamp(0, width - 1)
    return images[..., rows[:, None], columns]


def _moved(images: Tensor, axis: int, pixels: int) -> Tensor:
    return shift_images(images, down=pixels) if axis == 2 else shift_images(images, right=pixels)


def _crop(field: ReceptiveField, tokens: int, pixels: int, most: int) -> tuple[int, int]:
    """Return the tokens [first, end) of an axis that see only the image, also after a shift by up to `most`."""
    inside = [i for i in range(tokens) if field.span(i)[0] >= 0 and field.span(i)[1] <= pixels]
    if not inside or (first := inside[0] + math.ceil(most / field.stride)) > inside[-1]:
        raise InputError(
            f"Shifts of {most} pixels leave no token clear of the border on a side of {pixels} pixels: use smaller "
            "shifts or larger images."
        )
    return first, inside[-1] + 1


@torch.no_grad()
def shift_error(
    net: nn.Module,
    images: Tensor,
    *,
    shifts: Sequence[int] = SHIFTS,
    stage: Stage = "tokens",
    centered: bool = True,
) -> Tensor:
    """Measure how far the tokens of a shifted image are from the shifted tokens of the image.

    With T the map from images to tokens on their grid, s the shift in pixels and t the pixels from token to token,
    the error of one image is |T(shift_s(x)) - shift_{s/t}(T(x))| / |shift_{s/t}(T(x)) - m|, norms over tokens and
    dimensions. A shift by a fraction of a token interpolates linearly between neighbors on the grid. Tokens that see
    the border or pixels that a shift left free are cropped along the axis of the shift, the same ones for all shifts.
    m is the mean token of the batch: a part that is the same everywhere moves with any shift, and would flatter tokens
    after a ReLU. 0 is perfectly equivariant; the square root of 2 is what unrelated tokens of the same variance give.
    The four directions are averaged.

    Args:
        net: A Compact Transformer.
        images: (B, C, H, W).
        shifts: Pixels, 0 or more.
        stage: `tokens`, the tokenizer's output, or `features`, the encoder's, which knows positions and sees all
            borders.
        centered: Subtract the mean token as above; False gives the plain relative error (m = 0).

    Returns:
        (S, B).

    Raises:
        InputError: Shifts that leave nothing of the image.
    """
    model = compact(net)
    images = ready(model, images)
    if len(shifts) == 0 or min(shifts) < 0:
        raise InputError(
            f"shifts are {list(shifts)}: give at least one, none negative (all four directions are measured)."
        )
    fields = receptive_fields(model)
    errors = images.new_zeros(len(shifts), len(images), dtype=torch.float32)
    with evaluating(model):
        unshifted = maps_at(model, images, stage).float()  # (B, D, h, w)
        mean = unshifted.mean((0, 2, 3), keepdim=True) if centered else 0.0
        for axis, sign in _DIRECTIONS:
            field, tokens, pixels = fields[axis - 2], unshifted.shape[axis], images.shape[axis]
            if sign < 0:  # the same from the other end: the last token's span, mirrored
                field = ReceptiveField(size=field.size, stride=field.stride, start=pixels - field.span(tokens - 1)[1])
            first, end = _crop(field, tokens, pixels, max(shifts))
            base = unshifted if sign > 0 else unshifted.flip(axis)
            for row, shift in enumerate(shifts):
                moved = maps_at(model, _moved(images, axis, sign * shift), stage).float()
                moved = (moved if sign > 0 else moved.flip(axis)).narrow(axis, first, end - first)
                whole, part = divmod(shift / field.stride, 1)
                near = base.narrow(axis, first - int(whole), end - first)
                far = base.narrow(axis, first - int(whole) - 1, end - first) if part else near
                expected = (1 - part) * near + part * far
                size = (expected - mean).flatten(1).norm(dim=1).clamp_min(1e-12)
                errors[row] += (moved - expected).flatten(1).norm(dim=1) / size / len(_DIRECTIONS)
    return errors


@torch.no_grad()
def shift_consistency(net: nn.Module, images: Tensor, *, shifts: Sequence[int] = SHIFTS) -> Tensor:
    """Measure how often the prediction for a shifted image is the one for the image; works with every network.

    Returns:
        (S, B): share of the four directions in which the predicted class stays the same. `shifts` are in pixels.
    """
    images = ready(net, images)
    with evaluating(net):
        unshifted = net(images).argmax(-1)
        same = [
            torch.stack([net(_moved(images, axis, sign * shift)).argmax(-1) == unshifted for axis, sign in _DIRECTIONS])
            for shift in shifts
        ]
    return torch.stack(same).float().mean(1)


@styled
def _plot_by_shift(
    curves: Mapping[str, Tensor | Array],
    shifts: Sequence[int],
    ax: Axes | None,
    *,
    label: str,
    scale: float = 1.0,
    top: float | None = None,
) -> Figure:
    ax = one_axes(ax, (7, 4.5))
    for i, (name, values) in enumerate(curves.items()):
        array = scale * numbers(values)
        if len(array) != len(shifts):
            raise InputError(f"The curve {name!r} has {len(array)} rows for {len(shifts)} shifts.")
        band(ax, i, shifts, array.mean(1), 1.96 * array.std(1) / math.sqrt(array.shape[1]), name=name)
    ax.set(xlabel="shift (pixels)", ylabel=label, xticks=list(shifts))
    ax.set_ylim(0, top)
    ax.legend(frameon=False, loc="upper left", bbox_to_anchor=(1, 1))
    return figure_of(ax)


def plot_shift_error(
    errors: Mapping[str, Tensor | Array], *, shifts: Sequence[int] = SHIFTS, ax: Axes | None = None
) -> Figure:
    """Draw the mean over images with its 95 % interval: for each curve a name and (S, B) of `shift_error`."""
    return _plot_by_shift(errors, shifts, ax, label="shift error (relative L2, unrelated: √2)")


def plot_shift_consistency(
    consistency: Mapping[str, Tensor | Array], *, shifts: Sequence[int] = SHIFTS, ax: Axes | None = None
) -> Figure:
    """Draw the same, in percent: for each curve a name and (S, B) of `shift_consistency`."""
    return _plot_by_shift(consistency, shifts, ax, label="same prediction (%)", scale=100, top=103)
