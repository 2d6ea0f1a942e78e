"""What happens to a batch on its device: crop to size, augment, normalize, mix.

B batch, C channels, H and W as the images are held, K classes.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from cct_lightning.data.augment.augment import Augment
from cct_lightning.data.augment.mixup import Mixing, MixingPolicy
from cct_lightning.data.augment.policies import AugmentPolicy
from cct_lightning.data.batch import Batch


class BatchTransform(nn.Module):
    """Turn a uint8 batch into what the model takes.

    Args:
        policy: Augmentation of training images.
        mixing: Mixing of training batches; None: none.
        size: Height and width of the images that the model sees.
        margin: Whether the images are held larger than `size`, so that crops have room.
        mean: Per channel, 0 to 1.
        std: Per channel, 0 to 1.
        num_classes: K.
        seed: Of every random choice.
    """

    def __init__(
        self,
        *,
        policy: AugmentPolicy | str,
        mixing: MixingPolicy | None,
        size: tuple[int, int],
        margin: bool,
        mean: Sequence[float],
        std: Sequence[float],
        num_classes: int,
        seed: int,
    ) -> None:
        super().__init__()
        self.augment = Augment(policy, size=size, mean=mean, std=std, seed=seed)
        self.mixing = None if mixing is None else Mixing(mixing, num_classes=num_classes, seed=seed)
        self.size, self.margin = size, margin

    def on(self, device: torch.device) -> "BatchTransform":
        """Return itself on a device, moved only if it is on another: its tables are copied, and a GPU is waited for."""
        return self if self.augment.output.device == device else self.to(device)

    @torch.no_grad()
    def train_batch(self, batch: Batch, *, epoch: int, step: int) -> Batch:
        """Augment, normalize and mix.

        Args:
            batch: uint8 images (B, C, H, W), labels (B,), indices (B,).
            epoch: From 0.
            step: Number of the batch in its epoch, from 0.

        Returns:
            Normalized images (B, C, *size); labels (B,), or (B, K) where mixing is on; indices (B,).
        """
        image, label = self.augment(self._room(batch.image), batch.index, epoch), batch.label
        if self.mixing is not None:
            image, label = self.mixing(image, label, epoch, step)
        return Batch(image, label, batch.index)

    @torch.no_grad()
    def eval_batch(self, batch: Batch) -> Batch:
        """Normalize the center of the images, (B, C, *size)."""
        return Batch(self.augment.normalize(self._center(batch.image)), batch.label, batch.index)

    def preview(self, image: Tensor, index: Tensor, epoch: int) -> Tensor:
        """Return augmented images before normalization and mixing, (B, C, *size) uint8."""
        return self.augment.preview(self._room(image), index, epoch)

    def _room(self, image: Tensor) -> Tensor:
        """Leave the margin to the random resized crop, which knows how to use it."""
        return image if self.augment.policy.resized_crop_scale is not None else self._center(image)

    def _center(self, image: Tensor) -> Tensor:
        if not self.margin:
            return image
        top, left = ((held - seen) // 2 for held, seen in zip(image.shape[-2:], self.size, strict=True))
        return image[..., top : top + self.size[0], left : left + self.size[1]]
