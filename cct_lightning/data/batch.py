"""Batches by index: one gather from a tensor, or the decoding of its files when a set is streamed.

B batch, C channels, H height, W width, N images of the whole set (all splits).
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from cct_lightning.data.augment.file_crop import FileCrop
from cct_lightning.data.storage.decode import decode


class Batch(NamedTuple):
    """One batch; `index` names each image within its data set, whatever the split, the subset and the order."""

    image: Tensor  # (B, C, H, W), uint8 from the loader, normalized float after the datamodule's batch hook
    label: Tensor  # (B,) int64; (B, K) float after mixup or cutmix
    index: Tensor  # type: ignore[assignment]  # (B,) int64; hides tuple.index, which nobody needs here
    unmixed: Tensor | None = None  # (B,) int64, the labels before mixup or cutmix; None where they are `label`

    def __repr__(self) -> str:
        parts = (
            f"{name}={tuple(part.shape)} {part.dtype}" for name, part in self._asdict().items() if part is not None
        )
        return f"Batch({', '.join(parts)})"


class ImageDataset(Dataset[Batch]):
    """A part of a data set; position `epoch * len(dataset) + p` is sample p of an epoch."""

    index: Tensor  # which of its N images, (M,) int64

    def __len__(self) -> int:
        return len(self.index)

    def __getitem__(self, position: int) -> Batch:
        """Return one sample: a batch without its leading dimension."""
        return Batch(*(part[0] for part in self.__getitems__([position]) if part is not None))

    def __getitems__(self, positions: Sequence[int]) -> Batch:
        raise NotImplementedError


@dataclass(kw_only=True, eq=False, repr=False)
class TensorDataset(ImageDataset):
    """Images in one tensor, usually a memory-mapped cache that all processes of a node share."""

    image: Tensor  # (N, C, H, W) uint8
    label: Tensor  # (N,) int64
    index: Tensor
    images_wait: bool = False  # for their device, which has them all: a batch has none, (B, 0)

    def __getitems__(self, positions: Sequence[int]) -> Batch:
        """Return the samples at these positions as one batch."""
        index = self.index[torch.as_tensor(positions) % len(self)]
        if self.images_wait:
            return Batch(self.image.new_empty(len(index), 0), self.label[index], index)
        # index_select copies whole images; image[index] copies byte by byte and takes five times as long.
        return Batch(self.image.index_select(0, index), self.label[index], index)


@dataclass(kw_only=True, eq=False, repr=False)
class FileDataset(ImageDataset):
    """Images decoded from their files at every access, for sets that are not worth a cache, such as ImageNet."""

    root: Path
    path: np.ndarray  # (N,) bytes, relative to root; every worker process would copy a list of a million strings
    label: Tensor  # (N,) int64
    index: Tensor
    size: tuple[int, int]  # height and width of the images: shorter side resized, center cropped
    in_chans: int  # 1 or 3
    crop: FileCrop | None = None  # what training does to the whole image instead

    def __getitems__(self, positions: Sequence[int]) -> Batch:
        """Return the samples at these positions, decoded, as one batch."""
        epoch, place = np.divmod(positions, len(self))
        index = self.index[torch.from_numpy(place)]
        images = [self._decoded(i, e) for i, e in zip(index.tolist(), epoch.tolist(), strict=True)]
        return Batch(torch.from_numpy(np.stack(images)), self.label[index], index)

    def _decoded(self, index: int, epoch: int) -> np.ndarray:
        cut = None if self.crop is None else partial(self.crop, index=index, epoch=epoch)
        path = self.root / os.fsdecode(self.path[index])
        return decode(path, in_chans=self.in_chans, size=self.size, cut=cut)
