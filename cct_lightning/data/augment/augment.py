"""Augmentation of a whole batch on its device: each sample its own, reproducible from (seed, epoch, sample index).

Letters: B images, C channels, H rows, W columns of the input, size of the output.
"""

from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor, nn

from cct_lightning import compat
from cct_lightning.data.augment import counter_rng, crop, erasing, geometric, operations, resample
from cct_lightning.data.augment.auto import DRAWS, AutoAugmenter
from cct_lightning.data.augment.input_transform import InputTransform
from cct_lightning.data.augment.policies import POLICIES, AugmentPolicy, find_policy
from cct_lightning.data.input_spec import InputSpec
from cct_lightning.errors import InputError

__all__ = ["POLICIES", "Augment", "AugmentPolicy"]

Draw = Callable[..., Tensor]  # draw(n, stream=s) gives n uniform numbers for each image, shape (B, n)
# One stream of random numbers per part: a part that is switched on or off leaves the others' numbers alone.
_AFFINE, _AUTO, _ERASE = 1, 2, 3  # beside crop.CROP_STREAM


@compat.rebuilds_constants
class Augment(nn.Module):
    """Turn a batch of uint8 images into normalized floats, augmented by a policy.

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

    def set_constants(self) -> None:
        """Compute fill color and tables where the module is; called after every move or conversion, too."""
        device, channels = self.output.device, self.input.spec.in_chans
        if self.policy.fill == "mean":
            fill = torch.tensor(self.input.mean, dtype=torch.float32, device=device).mul(255).round()
        else:
            fill = torch.full((channels,), float(self.policy.fill), device=device)
        self.register_buffer("fill", fill.clamp(0, 255).to(torch.uint8), persistent=False)  # (C,)
        if self.policy.auto != "none":
            self.auto = AutoAugmenter(self.policy, size=self.size, device=device)

    def extra_repr(self) -> str:
        """What `print(augment)` shows."""
        shape = "x".join(map(str, (self.input.spec.in_chans, *self.size)))
        return f"{self.name}: {self.policy}; {shape}, seed={self.seed}, dtype={self.output.dtype}"

    @torch.no_grad()
    def forward(self, images: Tensor, index: Tensor, epoch: int) -> Tensor:
        """Augment and normalize uint8 images (B, C, H, W) to (B, C, *size) in the module's dtype.

        `index` names the samples' places in the data set, (B,) int64; epochs count from 0.

        Raises:
            InputError: Images or indices of the wrong type or shape.
        """
        self.input.check(images)
        if index.shape != images.shape[:1] or index.dtype != torch.int64:
            raise InputError(
                f"index has one int64 per image, {images.shape[0]} here; got {tuple(index.shape)} {index.dtype}."
            )
        with torch.autocast(images.device.type, enabled=False):
            draw = partial(counter_rng.uniform, seed=self.seed, epoch=epoch, index=index)
            normalized = self.input.normalize(self._pixels(images, draw))
            if self.policy.erasing:
                normalized = erasing.erase(normalized, self.policy, index, partial(draw, stream=_ERASE))
            return normalized.to(self.output.dtype)

    @torch.no_grad()
    def normalize(self, images: Tensor) -> Tensor:
        """Normalize without augmenting, for evaluation: uint8 (B, C, H, W) to the module's dtype (B, C, *size)."""
        return self.input(images).to(self.output.dtype)

    @torch.no_grad()
    def preview(self, images: Tensor, index: Tensor, epoch: int) -> Tensor:
        """What the model is shown, as uint8 pixels to look at, shape (B, C, *size); arguments as for a call."""
        return self.input.to_pixels(self(images, index, epoch))

    def _pixels(self, images: Tensor, draw: Draw) -> Tensor:
        policy = self.policy
        if policy.resized_crop_scale is None:
            images = self.input.resize(images)
        if policy.auto != "none" and policy.auto_first:
            images = self._auto(images, draw)
        images = self._crop_and_flip(images, draw)
        if policy.affine:
            images = self._affine(images, draw)
        if policy.auto != "none" and not policy.auto_first:
            images = self._auto(images, draw)
        return images

    def _auto(self, images: Tensor, draw: Draw) -> Tensor:
        drawn = self.auto.draw(draw(self.auto.slots * DRAWS, stream=_AUTO))
        for op, argument, cubic in zip(drawn.op.T, drawn.argument.T, drawn.cubic.T, strict=True):
            images = operations.apply(images, op, argument, cubic, self.fill, self.policy.interpolation)
        return images

    def _crop_and_flip(self, images: Tensor, draw: Draw) -> Tensor:
        policy, (_, _, h, w) = self.policy, images.shape
        if policy.resized_crop_scale is not None:
            draws = draw(crop.RESIZED_CROP_DRAWS, stream=crop.CROP_STREAM)
            cut = crop.resized_crop(draws, policy, size=(h, w))
            no = torch.zeros_like(cut.flip)
            rows = resample.matrices(cut.top, cut.height, cut.cubic, no, inputs=h, outputs=self.size[0])
            columns = resample.matrices(cut.left, cut.width, cut.cubic, cut.flip, inputs=w, outputs=self.size[1])
            return resample.resize(images, rows, columns)
        if not (policy.crop_padding or policy.hflip):
            return images
        draws = draw(3, stream=crop.CROP_STREAM)
        pad_h, pad_w = round(policy.crop_padding * h), round(policy.crop_padding * w)
        top = counter_rng.integers(draws[:, 0], 2 * pad_h + 1) - pad_h
        left = counter_rng.integers(draws[:, 1], 2 * pad_w + 1) - pad_w
        flip = draws[:, 2] < policy.hflip
        return crop.window(images, top, left, flip, size=(h, w), mode=policy.padding_mode, fill=self.fill)

    def _affine(self, images: Tensor, draw: Draw) -> Tensor:
        policy, (h, w) = self.policy, images.shape[2:]
        draws = draw(5, stream=_AFFINE)
        degrees = (2 * draws[:, 0] - 1) * policy.affine_degrees
        low, high = policy.affine_scale
        zoom = low + (high - low) * draws[:, 1]
        across, down = ((2 * draws[:, 2:4] - 1) * policy.affine_translate).unbind(1)
        shift = torch.stack((across * w, down * h), 1)
        matrix = geometric.affine_matrix(degrees, zoom, shift, (h, w))
        cubic = draws[:, 4] < (1.0 if policy.interpolation == "bicubic" else 0.5)
        return geometric.transform(images, matrix, cubic, self.fill, policy.interpolation)
