"""Stop a run whose loss became NaN or infinite, before its weights overwrite the last good ones."""

import math
from pathlib import Path
from typing import Any

import torch
from pytorch_lightning import Callback, LightningModule, Trainer
from pytorch_lightning.callbacks import ModelCheckpoint
from torch import Tensor

from cct_lightning.data.batch import Batch
from cct_lightning.errors import TrainingFailed


class StopOnNonFiniteLoss(Callback):
    """Stop when the loss becomes NaN or infinite: save `nan.ckpt`, and say where it happened.

    On a CPU every loss is looked at before its gradients, so `nan.ckpt` has the weights that gave it. A GPU would have
    to be waited for: there losses are looked at many steps at once, and before any checkpoint is written, so that none
    is overwritten by lost weights. The message names the right step in either case.

    `nan.ckpt` keeps epoch, step, batch and the samples' indices in this callback's state.

    Args:
        run_dir: Where `nan.ckpt` goes. None: the Trainer's `default_root_dir`.
        every_n_batches: Batches between two looks. None: 1 on a CPU, 50 elsewhere.

    Raises:
        TrainingFailed: At the look that finds such a loss.
    """

    def __init__(self, *, run_dir: Path | None = None, every_n_batches: int | None = None) -> None:
        self.run_dir, self.every_n_batches = run_dir, every_n_batches
        self._failure: dict[str, Any] = {}
        self._losses: list[Tensor] = []
        self._batches: list[tuple[int, int, int, Tensor]] = []  # epoch, step, batch, indices (B,)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Forget the batch in which a fit before this one was interrupted."""
        self._failure, self._losses, self._batches = {}, [], []

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Batch, batch_idx: int) -> None:
        """Note which batch comes."""
        self._batches.append((trainer.current_epoch, trainer.global_step, batch_idx, batch.index))

    def on_before_backward(self, trainer: Trainer, pl_module: LightningModule, loss: Tensor) -> None:
        """Note its loss, and look when it is time."""
        self._losses.append(loss.detach())
        if len(self._losses) >= (self.every_n_batches or (1 if loss.device.type == "cpu" else 50)):
            self._look(trainer)

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Look before weights are written."""
        self._look(trainer)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Look at the last losses."""
        self._look(trainer)

    def state_dict(self) -> dict[str, Any]:
        """Return what failed, which is nothing but in nan.ckpt."""
        return self._failure

    def _look(self, trainer: Trainer) -> None:
        # A batch has no loss yet when a checkpoint is saved while it is computed.
        losses, self._losses = self._losses, []
        batches, self._batches = self._batches[: len(losses)], self._batches[len(losses) :]
        values = torch.stack(losses).tolist() if losses else []
        lost = next((i for i, value in enumerate(values) if not math.isfinite(value)), None)
        if not trainer.strategy.reduce_boolean_decision(lost is not None, all=False):
            return
        what = "The loss became NaN or infinite in another process"
        if lost is not None:
            epoch, step, batch_idx, index = batches[lost]
            self._failure = {"loss": values[lost], "epoch": epoch, "step": step, "batch_idx": batch_idx}
            self._failure["index"] = index.cpu()
            samples = ", ".join(map(str, index[:8].tolist())) + (", ..." if len(index) > 8 else "")
            where = f"in epoch {epoch + 1} at step {step} (batch {batch_idx}, samples {samples})"
            what = f"The loss became {values[lost]} {where}"
        if not trainer.fast_dev_run:  # type: ignore[attr-defined]
            path = Path(self.run_dir or trainer.default_root_dir) / "nan.ckpt"
            trainer.save_checkpoint(path, weights_only=False)
            what += f", the state is saved in {path}"
            for callback in trainer.checkpoint_callbacks:
                if isinstance(callback, ModelCheckpoint):
                    callback.save_on_exception = False  # it would write lost weights over the last good ones
        bf16 = " or use bf16-mixed in place of 16-mixed" if trainer.precision == "16-mixed" else ""
        raise TrainingFailed(
            f"{what}: lower the learning rate (--model.optim.lr), clip the gradient (--trainer.gradient_clip_val 1)"
            f"{bf16}."
        )
