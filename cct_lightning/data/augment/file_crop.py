"""The random resized crop of images that are decoded from their files: cut from the whole image, as timm does it.

A cache holds images of one size, so crops of its images are cut from a center crop; a stream has no need to.
"""

from dataclasses import dataclass, replace

import torch
from PIL import Image, ImageOps

from cct_lightning.data.augment import counter_rng
from cct_lightning.data.augment.crop import CROP_STREAM, RESIZED_CROP_DRAWS, resized_crop
from cct_lightning.data.augment.policies import AugmentPolicy


@dataclass(frozen=True, kw_only=True)
class FileCrop:
    """Crop, resize and flip an image by a policy, by (seed, epoch, index) alone, as `Augment` does it to a batch."""

    policy: AugmentPolicy
    size: tuple[int, int]  # height and width of what comes out
    seed: int

    def __call__(self, image: Image.Image, *, index: int, epoch: int) -> Image.Image:
        """Return the part of an image that training sees in an epoch; `index` is its place in the data set."""
        place = torch.tensor([index])
        draws = counter_rng.uniform(RESIZED_CROP_DRAWS, seed=self.seed, epoch=epoch, index=place, stream=CROP_STREAM)
        cut = resized_crop(draws, self.policy, size=(image.height, image.width))
        top, left, height, width = (int(part) for part in cut[:4])
        method = Image.Resampling.BICUBIC if cut.cubic else Image.Resampling.BILINEAR
        part = image.crop((left, top, left + width, top + height)).resize((self.size[1], self.size[0]), method)
        return ImageOps.mirror(part) if cut.flip else part


def split_policy(policy: AugmentPolicy, *, size: tuple[int, int], seed: int) -> tuple[FileCrop | None, AugmentPolicy]:
    """Return what a policy does to files while they are decoded, None for nothing, and the rest that batches need."""
    if policy.resized_crop_scale is None or policy.auto_first:
        return None, policy
    crop = FileCrop(policy=policy, size=size, seed=seed)
    return crop, replace(policy, resized_crop_scale=None, hflip=0.0)
