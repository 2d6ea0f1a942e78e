"""A callback, given by its class path as a user gives one, that tells what each process saw and makes it fail."""

import json
import os
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Callback

from cct_lightning.runs.last_checkpoint import LastCheckpoint


class Witness(Callback):
    """Write the loss and the indices of every batch of this process to FOLDER/RANK.json at the end.

    Args:
        folder: Where.
        fail_at: Step at which the last rank fails.
        how: `raise`, `kill` or `memory`; `once` in the first attempt alone, as a signal (`USR1`) that SLURM sends.
    """

    def __init__(self, folder: str, fail_at: int = -1, how: str = "raise") -> None:
        self.folder, self.fail_at, self.how = Path(folder), fail_at, how
        self.losses: list[float] = []
        self.trained: list[list[int]] = []
        self.tested: list[int] = []

    def on_train_batch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *_: Any) -> None:
        if trainer.global_step == self.fail_at and trainer.global_rank == trainer.world_size - 1:
            if self.how == "kill":
                os.kill(os.getpid(), signal.SIGKILL)
            if self.how == "memory":
                import torch

                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
            if self.how in ("once", "USR1", "TERM"):
                self.folder.mkdir(exist_ok=True)
                mark = self.folder / "failed"
                if mark.exists():
                    return
                mark.touch()
            if self.how in ("USR1", "TERM"):
                self._signal_from_slurm(trainer)
                return
            raise RuntimeError("the witness fails as it was told to")

    def _signal_from_slurm(self, trainer: pl.Trainer) -> None:
        subprocess.run(["scancel", f"--signal={self.how}", os.environ["SLURM_JOB_ID"]], check=True)
        (last,) = (callback for callback in trainer.callbacks if isinstance(callback, LastCheckpoint))
        while not last.interrupts.received:
            time.sleep(0.01)

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self.losses.append(float(outputs["loss"]))
        self.trained.append(batch.index.tolist())

    def on_test_batch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, *_: Any) -> None:
        self.tested += batch.index.tolist()

    def on_test_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.folder.mkdir(exist_ok=True)
        told = {"losses": self.losses, "trained": self.trained, "tested": self.tested}
        (self.folder / f"{trainer.global_rank}.json").write_text(json.dumps(told))
