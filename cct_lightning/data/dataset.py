"""Batches by index: a batch is one gather from a tensor.

B batch, C channels, H height, W width, N images of the whole set (all splits).
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils.data import Dataset


class Batch(NamedTuple):
    """One batch; `index` names each image within its data set, whatever the split, the subset and the order."""

    image: Tensor  # (B, C, H, W), uint8 from the loader, normalized float after the datamodule's batch hook
    label: Tensor  # (B,) int64; (B, K) float after mixup or cutmix
    index: Tensor  # type: ignore[assignment]  # (B,) int64; hides tuple.index, which nobody needs here


class TensorDataset(Dataset[Batch]):
    """Images held in one tensor, here usually a memory-mapped cache that all processes of a node share.

    Args:
        image: (N, C, H, W) uint8.
        label: (N,) int64.
        index: Which of the N images belong to this dataset, (M,) int64.
    """

    def __init__(self, *, image: Tensor, label: Tensor, index: Tensor) -> None:
        self.image, self.label, self.index = image, label, index

    def __len__(self) -> int:
        return len(self.index)

    def __getitem__(self, position: int) -> Batch:
        """Return one sample: a batch without its leading dimension."""
        return Batch(*(part[0] for part in self.__getitems__([position])))

    def __getitems__(self, positions: Sequence[int]) -> Batch:
        """Return the samples at these positions in one gather."""
        index = self.index[torch.as_tensor(positions)]
        return Batch(self.image[index], self.label[index], index)


def whole(batch: Any) -> Any:
    """Collate nothing: `__getitems__` already returns a batch."""
    return batch
