"""Augmentation of a whole batch on its device: each sample its own, reproducible from (seed, epoch, sample index).

Letters: B images, C channels, H rows, W columns of the input, size of the output.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from cct_lightning import compat
from cct_lightning.data.augment import counter_rng, crop, erasing, geometric, operations, resample
from cct_lightning.data.augment.auto import DRAWS, AutoAugmenter, Operations
from cct_lightning.data.augment.input_transform import InputTransform
from cct_lightning.data.augment.policies import POLICIES, AugmentPolicy, find_policy
from cct_lightning.data.augment.tables import to_device
from cct_lightning.data.input_spec import InputSpec
from cct_lightning.errors import InputError

__all__ = ["POLICIES", "Augment", "AugmentPolicy"]

Draw = Callable[..., Tensor]  # draw(n, stream=s) gives n uniform numbers for each image, shape (B, n)
# One stream of random numbers per part: a part that is switched on or off leaves the others' numbers alone.
_AFFINE, _AUTO, _ERASE = 1, 2, 3  # beside crop.CROP_STREAM


class Drawn(NamedTuple):
    """What a policy draws for a batch; the parts that it does not have are empty. (B,) each, unless said otherwise."""

    index: Tensor  # type: ignore[assignment]  # the samples' places in the data set
    epoch: Tensor  # (), int64
    crop: tuple[Tensor, ...] = ()  # top, left, flip, or a `crop.ResizedCrop`
    affine: tuple[Tensor, ...] = ()  # matrix (B, 2, 3), cubic
    auto: Operations | tuple[()] = ()
    erasing: tuple[Tensor, ...] = ()  # top, left, height, width, erased


@compat.rebuilds_constants
class Augment(nn.Module):
    """Turn a batch of uint8 images into normalized floats, augmented by a policy.

    What is random is drawn on the CPU (`draw`), in float64 where rounding would show, which not every accelerator has;
    pixels change on their device (`transform`), in one static graph for torch.compile.

    The result depends on the images, their indices, the epoch and the seed alone: not on the batch a sample is in, on
    workers, devices, or any global random state. Images of another size than `size` are resized to it (bilinear,
    antialiased), before the rest, or by the resized crop itself.

    Args:
        policy: A policy, or the name of one in `POLICIES`.
        size: Height and width of the output.
        mean: Mean of every channel, on the scale of 0 to 1.
        std: Standard deviation of every channel, likewise.
        seed: The run's seed.
        dtype: Of the output. `.to(torch.bfloat16)` on the module changes it too; the arithmetic stays float32.

    Raises:
        InputError: No such policy, or sizes, means or deviations that cannot be.

    Example:
        >>> augment = Augment("light", size=(32, 32), mean=[0.5], std=[0.25])
        >>> augment(torch.zeros(2, 1, 32, 32, dtype=torch.uint8), torch.tensor([0, 1]), epoch=0).shape
        torch.Size([2, 1, 32, 32])
    """

    fill: Tensor
    output: Tensor

    def __init__(
        self,
        policy: AugmentPolicy | str,
        *,
        size: tuple[int, int],
        mean: Sequence[float],
        std: Sequence[float],
        seed: int = 0,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        super().__init__()
        self.policy = find_policy(policy)
        self.name = policy if isinstance(policy, str) else "custom"
        size = (int(size[0]), int(size[1]))
        spec = InputSpec(
            in_chans=len(mean), img_size=size, stored_size=size, fit="resize", mean=tuple(mean), std=tuple(std)
        )
        self.size, self.seed, self.input = size, seed, InputTransform(spec)
        # Not part of a checkpoint. `output` is empty: it remembers the output's dtype through `.to()`.
        self.register_buffer("output", torch.empty(0, dtype=dtype), persistent=False)
        self.set_constants()
        self._compiled: Callable[[Tensor, Drawn], Tensor] | None = None
        if self.policy.auto != "none":
            self.auto = AutoAugmenter(self.policy, size=self.size)

    def set_constants(self) -> None:
        """Compute the fill color where the module is; called after every move or conversion, too."""
        device, channels = self.output.device, self.input.spec.in_chans
        if self.policy.fill == "mean":
            fill = torch.tensor(self.input.mean, dtype=torch.float32, device=device).mul(255).round()
        else:
            fill = torch.full((channels,), float(self.policy.fill), device=device)
        self.register_buffer("fill", fill.clamp(0, 255).to(torch.uint8), persistent=False)  # (C,)

    def extra_repr(self) -> str:
        """What `print(augment)` shows."""
        shape = "x".join(map(str, (self.input.spec.in_chans, *self.size)))
        return f"{self.name}: {self.policy}; {shape}, seed={self.seed}, dtype={self.output.dtype}"

    @torch.no_grad()
    def forward(self, images: Tensor, index: Tensor, epoch: int) -> Tensor:
        """Augment and normalize uint8 images (B, C, H, W) to (B, C, *size) in the module's dtype.

        `index` names the samples' places in the data set, (B,) int64, on the CPU, or a GPU is waited for; epochs count
        from 0.

        Raises:
            InputError: Images or indices of the wrong type or shape.
        """
        self.input.check(images)
        if index.shape != images.shape[:1] or index.dtype != torch.int64:
            raise InputError(
                f"index has one int64 per image, {images.shape[0]} here; got {tuple(index.shape)} {index.dtype}."
            )
        drawn = self.draw(index.cpu(), epoch, (images.shape[2], images.shape[3]))
        fused = self._compiled if images.device.type != "cpu" else None
        return (fused or self.transform)(images, to_device(drawn, images.device))

    def compile_transform(self) -> None:
        """Fuse the many small kernels of `transform` with torch.compile; on a CPU, where it is no faster, it stays.

        Pixels stay those of every other device: multiplications and additions are rounded one by one, and divisions
        exactly, as in eager.
        """
        exact: dict[str, Any] = {"emulate_precision_casts": True, "eager_numerics.division_rounding": True}
        self._compiled = torch.compile(self.transform, fullgraph=True, dynamic=False, options=exact)

    def draw(self, index: Tensor, epoch: int, stored: tuple[int, int]) -> Drawn:
        """Draw what happens to images of a height and width, on the CPU; arguments as for a call."""
        policy, size = self.policy, self.size
        draw = partial(counter_rng.uniform, seed=self.seed, epoch=epoch, index=index)
        drawn = Drawn(index, torch.tensor(epoch, dtype=torch.int64))
        if policy.resized_crop_scale is not None or policy.crop_padding or policy.hflip:
            drawn = drawn._replace(crop=self._draw_crop(draw, stored))
        if policy.affine:
            drawn = drawn._replace(affine=self._draw_affine(draw(5, stream=_AFFINE)))
        if policy.auto != "none":
            full = policy.auto_first and policy.resized_crop_scale is not None  # before the crop that resizes
            operations = self.auto.draw(draw(self.auto.slots * DRAWS, stream=_AUTO), stored if full else size)
            drawn = drawn._replace(auto=operations)
        if policy.erasing:
            drawn = drawn._replace(erasing=erasing.boxes(partial(draw, stream=_ERASE), policy, size))
        return drawn

    @torch.no_grad()
    def transform(self, images: Tensor, drawn: Drawn) -> Tensor:
        """Do what was drawn, on the device of the images: uint8 (B, C, H, W) to the module's dtype (B, C, *size)."""
        with torch.autocast(images.device.type, enabled=False):
            normalized = self.input.normalize(self._pixels(images, drawn))
            if drawn.erasing:
                noise = partial(counter_rng.uniform, seed=self.seed, epoch=drawn.epoch, stream=_ERASE)
                normalized = erasing.erase(normalized, drawn.erasing, self.policy, drawn.index, noise)
            return normalized.to(self.output.dtype)

    @torch.no_grad()
    def normalize(self, images: Tensor) -> Tensor:
        """Normalize without augmenting, for evaluation: uint8 (B, C, H, W) to the module's dtype (B, C, *size)."""
        return self.input(images).to(self.output.dtype)

    @torch.no_grad()
    def preview(self, images: Tensor, index: Tensor, epoch: int) -> Tensor:
        """What the model is shown, as uint8 pixels to look at, shape (B, C, *size); arguments as for a call."""
        return self.input.to_pixels(self(images, index, epoch))

    def _draw_crop(self, draw: Draw, stored: tuple[int, int]) -> tuple[Tensor, ...]:
        policy, (h, w) = self.policy, self.size
        if policy.resized_crop_scale is not None:
            draws = draw(crop.RESIZED_CROP_DRAWS, stream=crop.CROP_STREAM)
            return crop.resized_crop(draws, policy, size=stored)
        draws = draw(3, stream=crop.CROP_STREAM)
        pad_h, pad_w = round(policy.crop_padding * h), round(policy.crop_padding * w)
        top = counter_rng.integers(draws[:, 0], 2 * pad_h + 1) - pad_h
        left = counter_rng.integers(draws[:, 1], 2 * pad_w + 1) - pad_w
        return top, left, draws[:, 2] < policy.hflip

    def _draw_affine(self, draws: Tensor) -> tuple[Tensor, ...]:
        policy, (h, w) = self.policy, self.size
        degrees = (2 * draws[:, 0] - 1) * policy.affine_degrees
        low, high = policy.affine_scale
        zoom = low + (high - low) * draws[:, 1]
        across, down = ((2 * draws[:, 2:4] - 1) * policy.affine_translate).unbind(1)
        shift = torch.stack((across * w, down * h), 1)
        matrix = geometric.affine_matrix(degrees, zoom, shift, (h, w))
        return matrix, draws[:, 4] < (1.0 if policy.interpolation == "bicubic" else 0.5)

    def _pixels(self, images: Tensor, drawn: Drawn) -> Tensor:
        policy = self.policy
        if policy.resized_crop_scale is None:
            images = self.input.resize(images)
        if policy.auto_first:
            images = self._auto(images, drawn)
        if drawn.crop:
            images = self._crop_and_flip(images, *drawn.crop)
        if drawn.affine:
            matrix, cubic = drawn.affine
            images = geometric.transform(images, matrix, cubic, self.fill, policy.interpolation)
        return images if policy.auto_first else self._auto(images, drawn)

    def _auto(self, images: Tensor, drawn: Drawn) -> Tensor:
        for op, argument, cubic, rotation in zip(*(part.unbind(1) for part in drawn.auto), strict=True):
            images = operations.apply(images, op, argument, cubic, rotation, self.fill, self.policy.interpolation)
        return images

    def _crop_and_flip(self, images: Tensor, top: Tensor, left: Tensor, *more: Tensor) -> Tensor:
        h, w = images.shape[2:]
        if self.policy.resized_crop_scale is None:
            mode = self.policy.padding_mode
            return crop.window(images, top, left, *more, size=(h, w), mode=mode, fill=self.fill)
        height, width, flip, cubic = more
        rows = resample.matrices(top, height, cubic, torch.zeros_like(flip), inputs=h, outputs=self.size[0])
        columns = resample.matrices(left, width, cubic, flip, inputs=w, outputs=self.size[1])
        return resample.resize(images, rows, columns)
