"""Exponential moving average of the weights: what is evaluated, saved for use and tested, beside what is trained.

The decay warms up as in TensorFlow's `ExponentialMovingAverage(num_updates)` and timm's ModelEmaV3; the keys in
checkpoints are those of Lightning's `WeightAveraging`.
"""

import copy
from typing import Any

import torch
from pytorch_lightning import Callback, LightningModule, Trainer
from pytorch_lightning.trainer.states import TrainerFn
from torch import Tensor

from cct_lightning.compat import foreach
from cct_lightning.errors import InputError


class EMA(Callback):
    """Average the weights after every optimizer step; validate, save and test with the average.

    A checkpoint holds the average as `state_dict` and what training continues from as `current_model_state`; the one
    at the end of training, too, so that a longer run continues from it. The module holds the average from the start of
    a validation until its `on_validation_end`, so that pictures that other callbacks draw show what was measured.

    Lightning's `WeightAveraging` saves the average twice at the end of training, keeps it on the CPU beside a GPU,
    loses the trained weights when a validation is interrupted, and has no warm-up.

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
        self._forget()

    def _forget(self) -> None:
        self.weights: list[Tensor] = []  # the average; the trained weights while they are swapped
        self.live: list[Tensor] = []  # parameters and buffers of the module, in the same order
        self.updates = self._last_step = 0  # steps in the average, and the optimizer step of the last of them
        self._swapped = False

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Begin anew with every fit, and free the memory after it."""
        if stage == "fit":
            self._forget()

    teardown = setup

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Copy the weights, or bring a restored average to their device: in `setup` they are on the CPU yet."""
        self.live = [*pl_module.parameters(), *pl_module.buffers()]
        begun = self.weights or self.live
        self.weights = [ours.detach().to(live.device, copy=True) for ours, live in zip(begun, self.live, strict=True)]

    @torch.no_grad()
    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        """Take the weights into the average where the optimizer took a step."""
        if trainer.global_step <= self._last_step:
            return
        self._last_step = trainer.global_step
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates)) if self.updates else 0.0
        pairs = list(zip(self.weights, self.live, strict=True))
        for dtype in {value.dtype for value in self.weights}:
            ours, live = zip(*(pair for pair in pairs if pair[0].dtype == dtype), strict=True)
            if decay and dtype.is_floating_point:
                foreach("lerp_")(ours, live, 1 - decay)
            else:  # the first weights, and counters such as BatchNorm's
                foreach("copy_")(ours, live)
        self.updates += 1

    @torch.no_grad()
    def _swap(self) -> None:
        for ours, live in zip(self.weights, self.live, strict=True):
            kept = ours.clone()
            ours.copy_(live)
            live.copy_(kept)
        self._swapped = not self._swapped

    def on_validation_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Put the average in place of the trained weights."""
        if self.weights and not self._swapped:
            self._swap()

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Put the trained weights back; after other callbacks, since a module's own come last."""
        if self._swapped:
            self._swap()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Put the trained weights back where a validation was interrupted."""
        self.on_validation_end(trainer, pl_module)

    on_train_end = on_validation_epoch_start  # leave the average in the module

    def state_dict(self) -> dict[str, Any]:
        """Return the optimizer step of the last update."""
        return {"latest_update_step": self._last_step}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore it."""
        self._last_step = state_dict["latest_update_step"]

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Save average and trained weights, whichever of them the module holds."""
        if not self.weights:
            return
        ours = copy.deepcopy(checkpoint["state_dict"])
        self._swap()
        other = copy.deepcopy(pl_module.state_dict())
        self._swap()
        average, trained = (ours, other) if self._swapped else (other, ours)
        updates = {"n_averaged": torch.tensor(self.updates)}
        checkpoint |= {"state_dict": average, "current_model_state": trained, "averaging_state": updates}

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Restore average and trained weights when fit continues; elsewhere the average, as loaded, is all."""
        if trainer.state.fn == TrainerFn.FITTING and "current_model_state" in checkpoint:
            self.weights = [value.detach().clone() for value in (*pl_module.parameters(), *pl_module.buffers())]
            self.updates = int(checkpoint["averaging_state"]["n_averaged"])
            pl_module.load_state_dict(checkpoint["current_model_state"])
