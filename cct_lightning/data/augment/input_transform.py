"""The one way from stored pixels to what a model takes: center or resize, then normalize.

Letters: B images, C channels, H rows, W columns of the stored images.
"""

import torch
from torch import Tensor, nn

from cct_lightning import compat
from cct_lightning.data.augment import resample
from cct_lightning.data.augment.pixels import to_uint8
from cct_lightning.data.input_spec import InputSpec
from cct_lightning.errors import InputError


@compat.rebuilds_constants
class InputTransform(nn.Module):
    """Turn stored uint8 pixels into normalized floats, as an `InputSpec` says: validation, test, predictions, pictures.

    Its constants stay float32, whatever the module is converted to.

    Raises:
        InputError: The spec has no mean and std, or not one number per channel.
    """

    scale: Tensor  # (C, 1, 1)
    offset: Tensor

    def __init__(self, spec: InputSpec) -> None:
        super().__init__()
        self.spec = spec
        if spec.mean is None or spec.std is None:
            raise InputError("Images are normalized by the mean and std of their channels: give both.")
        self.mean, self.std = spec.mean, spec.std
        if len(self.mean) != len(self.std) or len(self.mean) != spec.in_chans or not self.mean:
            raise InputError(f"mean and std have one number per channel; got {len(self.mean)} and {len(self.std)}.")
        self.register_buffer("scale", torch.empty(0), persistent=False)  # tells the device
        self.set_constants()

    def set_constants(self) -> None:
        """Compute the constants where the module is; called after every move or conversion, too."""
        mean, std = (torch.tensor(v, dtype=torch.float32, device=self.scale.device) for v in (self.mean, self.std))
        self.register_buffer("scale", (1 / (self.spec.max_value * std))[:, None, None], persistent=False)
        self.register_buffer("offset", (-mean / std)[:, None, None], persistent=False)

    @torch.no_grad()
    def forward(self, stored: Tensor) -> Tensor:
        """Turn stored pixels (B, C, H, W) uint8 into what the model takes, (B, C, *img_size) float32.

        Raises:
            InputError: Images of the wrong type or shape.
        """
        self.check(stored)
        with torch.autocast(stored.device.type, enabled=False):
            return self.normalize(self.shown(stored))

    def check(self, images: Tensor) -> None:
        """Refuse what is no batch of uint8 images with the channels of mean and std."""
        channels = self.spec.in_chans
        if images.dtype != torch.uint8 or images.ndim != 4 or images.shape[1] != channels:
            raise InputError(
                f"Expected uint8 images of shape (batch, {channels}, height, width), as many channels as mean and std "
                f"have; got {images.dtype} {tuple(images.shape)}."
            )

    def shown(self, stored: Tensor) -> Tensor:
        """Return the pixels that the model is shown, (B, C, *img_size) uint8: the stored ones' center, or resized."""
        return self.center(stored) if self.spec.fit == "crop" else self.resize(stored)

    def center(self, images: Tensor) -> Tensor:
        """Cut the center out of images that are at least as large as `img_size`."""
        (height, width), (h, w) = self.spec.img_size, images.shape[-2:]
        top, left = (h - height) // 2, (w - width) // 2
        return images[..., top : top + height, left : left + width]

    def resize(self, images: Tensor) -> Tensor:
        """Resize images of any size to `img_size`, antialiased."""
        b, _, h, w = images.shape
        if (h, w) == self.spec.img_size:
            return images
        zero = torch.zeros(b, dtype=torch.int64, device=images.device)
        no = zero.bool()
        cubic = ~no if self.spec.interpolation == "bicubic" else no
        rows = resample.matrices(zero, zero + h, cubic, no, inputs=h, outputs=self.spec.img_size[0])
        columns = resample.matrices(zero, zero + w, cubic, no, inputs=w, outputs=self.spec.img_size[1])
        return resample.resize(images, rows, columns)

    def normalize(self, pixels: Tensor) -> Tensor:
        """Normalize pixels (B, C, H, W) uint8 to float32."""
        return pixels.to(torch.float32).mul_(self.scale).add_(self.offset)

    def to_pixels(self, normalized: Tensor) -> Tensor:
        """Undo the normalization: floats (B, C, H, W) to uint8."""
        seen = (normalized.float() - self.offset) / (self.scale * self.spec.max_value)
        return to_uint8(seen.mul_(self.spec.max_value).round_())
