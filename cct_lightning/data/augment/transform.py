"""What happens to a batch on its device: crop to size, augment, normalize, mix.

B batch, C channels, H and W as the images are stored, K classes.
"""

import torch
from torch import Tensor, nn

from cct_lightning.data.augment.augment import Augment
from cct_lightning.data.augment.input_transform import InputTransform
from cct_lightning.data.augment.mixup import Mixing, MixingPolicy
from cct_lightning.data.augment.policies import AugmentPolicy
from cct_lightning.data.batch import Batch
from cct_lightning.data.input_spec import InputSpec


class BatchTransform(nn.Module):
    """Turn a uint8 batch into what the model takes; policy, mixing and the seed of both are for training batches.

    Raises:
        InputError: The spec has no mean and std.
    """

    def __init__(
        self, spec: InputSpec, *, policy: AugmentPolicy | str, mixing: MixingPolicy | None = None, seed: int = 0
    ) -> None:
        super().__init__()
        self.input = InputTransform(spec)
        self.augment = Augment(policy, size=spec.img_size, mean=self.input.mean, std=self.input.std, seed=seed)
        self.mixing = None if mixing is None else Mixing(mixing, num_classes=len(spec.classes), seed=seed)

    def on(self, device: torch.device) -> "BatchTransform":
        """Return itself on a device, moved only if it is on another: its tables are copied, and a GPU is waited for."""
        return self if self.augment.output.device == device else self.to(device)

    @torch.no_grad()
    def train_batch(self, batch: Batch, *, epoch: int, step: int) -> Batch:
        """Augment, normalize and mix batch number `step` of an epoch; both count from 0.

        Its images become (B, C, *img_size), its labels (B, K) where mixing is on.
        """
        image, label = self.augment(self._room(batch.image), batch.index, epoch), batch.label
        if self.mixing is not None:
            image, label = self.mixing(image, label, epoch, step)
        return Batch(image, label, batch.index, None if label is batch.label else batch.label)

    @torch.no_grad()
    def eval_batch(self, batch: Batch) -> Batch:
        """Normalize what the model is shown in evaluation, (B, C, *img_size)."""
        return batch._replace(image=self.input(batch.image))

    def preview(self, image: Tensor, index: Tensor, epoch: int) -> Tensor:
        """Return augmented images before normalization and mixing, (B, C, *img_size) uint8."""
        return self.augment.preview(self._room(image), index, epoch)

    def _room(self, image: Tensor) -> Tensor:
        """Leave the margin to the random resized crop, which knows how to use it; `Augment` resizes where need be."""
        keep = self.augment.policy.resized_crop_scale is not None or self.input.spec.fit == "resize"
        return image if keep else self.input.center(image)
