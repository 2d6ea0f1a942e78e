"""A data set whose images lie on the device, where a batch is one gather: CIFAR-10 takes 184 MB of a GPU."""

from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.trainer.states import TrainerStatus
from torch import Tensor


class ImagesOnDevice:
    """All images of a data set, (N, C, H, W) uint8, on the device that takes batches of them.

    Args:
        asked: Whether they are kept there; None: on a GPU that they take at most a quarter of the free memory of.
    """

    def __init__(self, asked: bool | None) -> None:
        self.asked = asked
        self._images: Tensor | None = None
        self._stages: set[str] = set()

    def for_loader(self, stage: str, images: Tensor | None, trainer: pl.Trainer | None) -> bool:
        """Tell whether a loader leaves the images of its batches to `take`.

        Only the first loader of a stage does, which is the Trainer's: those that a callback asks for have images.

        Args:
            stage: `train`, `val`, `test` or `predict`.
            images: All images; None: they are streamed.
            trainer: The Trainer; None: nobody takes them.
        """
        found = stage not in self._stages and self._wanted(images, trainer)
        if found:
            self._stages.add(stage)
        return found

    def _wanted(self, images: Tensor | None, trainer: pl.Trainer | None) -> bool:
        if images is None or trainer is None or trainer.state.status != TrainerStatus.RUNNING:
            return False
        device = trainer.strategy.root_device
        if self.asked is not None or self._images is not None or device.type != "cuda":
            return bool(self.asked) or self._images is not None
        return 4 * images.nbytes <= torch.cuda.mem_get_info(device)[0]

    def take(self, images: Tensor, index: Tensor) -> Tensor:
        """Return the images that `index` names, (B,) int64, on its device, to which all are copied once."""
        if self._images is None or self._images.device != index.device:
            self._images = images.to(index.device)
        return self._images.index_select(0, index)

    def free(self) -> None:
        """Give the memory back."""
        self._images = None
        self._stages.clear()

    def __getstate__(self) -> dict[str, Any]:
        return {"asked": self.asked, "_images": None, "_stages": set()}
