"""Dropout and stochastic depth as pure functions of (seed, rank, step): nothing to save, nothing to restore."""

from typing import Any

import numpy as np
import torch
from pytorch_lightning import Callback, LightningModule, Trainer


class StepSeed(Callback):
    """Seed PyTorch's generators before every training batch, from the run's seed.

    A run that was interrupted draws what it would have drawn, however often it was started again.
    """

    def __init__(self, *, seed: int) -> None:
        self.seed = seed

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Seed from the epoch and the batch's number in it."""
        key = (self.seed, trainer.global_rank, trainer.current_epoch, batch_idx)
        state = int(np.random.SeedSequence(key).generate_state(1, np.uint64)[0] >> np.uint64(1))
        # Not torch.manual_seed, which asks for every kind of device and takes seventy times as long.
        torch.default_generator.manual_seed(state)
        if pl_module.device.type == "cuda":
            torch.cuda.manual_seed(state)
        elif pl_module.device.type == "mps":
            torch.mps.manual_seed(state)
