"""Batches by index: one gather from a tensor, or the decoding of its files when a set is streamed.

B batch, C channels, H height, W width, N images of the whole set (all splits).
"""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from cct_lightning.data.storage.decode import decode


class Batch(NamedTuple):
    """One batch; `index` names each image within its data set, whatever the split, the subset and the order."""

    image: Tensor  # (B, C, H, W), uint8 from the loader, normalized float after the datamodule's batch hook
    label: Tensor  # (B,) int64; (B, K) float after mixup or cutmix
    index: Tensor  # type: ignore[assignment]  # (B,) int64; hides tuple.index, which nobody needs here

    def __repr__(self) -> str:
        parts = (f"{name}={tuple(part.shape)} {part.dtype}" for name, part in self._asdict().items())
        return f"Batch({', '.join(parts)})"


class ImageDataset(Dataset[Batch]):
    """A part of a data set."""

    index: Tensor  # which of its N images, (M,) int64

    def __len__(self) -> int:
        return len(self.index)

    def __getitem__(self, position: int) -> Batch:
        """Return one sample: a batch without its leading dimension."""
        return Batch(*(part[0] for part in self.__getitems__([position])))

    def __getitems__(self, positions: Sequence[int]) -> Batch:
        """Return the samples at these positions as one batch."""
        raise NotImplementedError


class TensorDataset(ImageDataset):
    """Images in one tensor (N, C, H, W) uint8, usually a memory-mapped cache that all processes of a node share."""

    def __init__(self, *, image: Tensor, label: Tensor, index: Tensor) -> None:
        self.image, self.label, self.index = image, label, index

    def __getitems__(self, positions: Sequence[int]) -> Batch:
        """Return the samples at these positions as one batch."""
        index = self.index[torch.as_tensor(positions)]
        # index_select copies whole images; image[index] copies byte by byte and takes five times as long.
        return Batch(self.image.index_select(0, index), self.label[index], index)


class FileDataset(ImageDataset):
    """Images decoded from their files at every access, for sets that are not worth a cache, such as ImageNet.

    Args:
        root: Folder that the paths are relative to.
        path: (N,) bytes; one array, because every worker process would copy a list of a million strings.
        label: (N,) int64.
        index: Which of the N images, (M,) int64.
        size: Height and width of the images: shorter side resized, center cropped.
        in_chans: 1 or 3.
    """

    def __init__(
        self, *, root: Path, path: np.ndarray, label: Tensor, index: Tensor, size: tuple[int, int], in_chans: int
    ) -> None:
        self.root, self.path, self.label, self.index = root, path, label, index
        self.size, self.in_chans = size, in_chans

    def __getitems__(self, positions: Sequence[int]) -> Batch:
        """Decode the samples at these positions."""
        index = self.index[torch.as_tensor(positions)]
        paths = [self.root / os.fsdecode(self.path[i]) for i in index.tolist()]
        images = np.stack([decode(path, in_chans=self.in_chans, size=self.size) for path in paths])
        return Batch(torch.from_numpy(images), self.label[index], index)


def uncollated(batch: Any) -> Any:
    """Return a batch as it is: `__getitems__` has already collated it."""
    return batch
