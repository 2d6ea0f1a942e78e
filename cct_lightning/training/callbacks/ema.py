"""Exponential moving average of the weights: what is evaluated, saved for use and tested, beside what is trained.

Source: Lightning's `WeightAveraging`, with what it lacks: a decay that warms up (Abadi et al., TensorFlow's
`ExponentialMovingAverage(num_updates)`; timm's ModelEmaV3), no synchronization with the device each step, the
averaged weights in a test that follows fit, and whole state when an exception interrupts validation.
"""

import warnings
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import WeightAveraging
from torch import Tensor

from cct_lightning.errors import InputError


class EMA(WeightAveraging):
    """Average the weights after every optimizer step; validate, save and test with the average.

    A checkpoint holds the average as `state_dict` and what training continues from as `current_model_state`.

    Args:
        decay: Share of the old average that stays at each step; 0.9998 remembers about 5,000 steps. It starts small,
            min(decay, (1 + n) / (10 + n)) after n steps, so that short runs are not averages of their beginning.

    Raises:
        InputError: A decay that is not between 0 and 1.
    """

    def __init__(self, *, decay: float = 0.9998) -> None:
        if not 0 < decay < 1:
            raise InputError(f"ema_decay is {decay}: it must lie between 0 and 1, such as 0.9998, or be null for none.")
        self.decay = decay
        self._swapped = False
        super().__init__(multi_avg_fn=self._average)

    @torch.no_grad()
    def _average(self, averaged: tuple[Tensor, ...], current: tuple[Tensor, ...], _: Tensor | int) -> None:
        assert self._average_model is not None
        steps = int(self._average_model.n_averaged)
        if averaged[0].is_floating_point():
            torch._foreach_lerp_(averaged, current, 1 - min(self.decay, (1 + steps) / (10 + steps)))
        else:
            torch._foreach_copy_(averaged, current)  # counters, such as BatchNorm's

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Copy the model when fit begins."""
        with warnings.catch_warnings():
            # It warns of sharded models, because the Classifier compiles in the hook where they would be built.
            warnings.filterwarnings("ignore", message=".*overrides the configure_model")
            super().setup(trainer, pl_module, stage)
        if self._average_model is not None:
            # On a GPU, reading the counter every step would wait for the device.
            self._average_model.n_averaged = self._average_model.n_averaged.cpu()

    def on_validation_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Put the average in place of the trained weights."""
        super().on_validation_epoch_start(trainer, pl_module)
        self._swapped = self._average_model is not None

    def on_validation_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Put the trained weights back."""
        super().on_validation_epoch_end(trainer, pl_module)
        self._swapped = False

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        """Put the trained weights back before a checkpoint is saved of a run that was stopped in validation."""
        if self._swapped:
            self.on_validation_epoch_end(trainer, pl_module)

    def on_load_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Restore average and trained weights when fit resumes; outside of fit `state_dict` is the average already."""
        if self._average_model is not None:
            super().on_load_checkpoint(trainer, pl_module, checkpoint)

    def teardown(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Forget the average once the model holds it, or a test of a checkpoint would load the trained weights."""
        if stage == "fit":
            self._average_model = None
