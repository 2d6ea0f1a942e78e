"""`last.ckpt`: what a run continues from, saved only where the continued run is exactly the undisturbed one.

That is between two batches, once the step before is logged, its gradients are used and its average is taken: before
the first batch of the next epoch, every few minutes within a long epoch, when a signal asks the run to end, and at
the end of training. A signal during validation saves, too: the continued run validates again from the first image.
An error saves nothing, because it may have come in the middle of a step.
"""

import sys
import time
from pathlib import Path
from typing import Any

import torch
from pytorch_lightning import LightningModule, Trainer
from pytorch_lightning.callbacks import Checkpoint, EarlyStopping
from torch import distributed

from cct_lightning.compat import make_restart_exact, start_next_epoch
from cct_lightning.runs.checkpoint_io import BackgroundCheckpointIO
from cct_lightning.runs.folder import RunFolder
from cct_lightning.runs.interrupts import Interrupts, Stopped

_STEPS_BETWEEN_TALKS = 5  # of several processes about signals and time: each talk costs a round between them


class LastCheckpoint(Checkpoint):
    """Keep last.ckpt in a run folder.

    Args:
        run_dir: The folder.
        every_minutes: Minutes between two saves within an epoch.
        least_seconds: Seconds between a save and that of the end of an epoch, which comes with a later one where epochs
            are shorter. The end of the run, and a signal, always save.
    """

    def __init__(self, *, run_dir: Path, every_minutes: float, least_seconds: float = 0.0) -> None:
        self.path, self.every_seconds = run_dir / RunFolder.LAST, 60 * every_minutes
        self.least_seconds = min(least_seconds, self.every_seconds)
        self.interrupts = Interrupts()
        self._between_batches = self._at_the_end = False
        self._saved_at, self._saved_step, self._first_step = 0.0, -1, 0
        self._talk: Any = None  # a process group, where there are several processes

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Listen to signals."""
        self.interrupts.listen()
        self._at_the_end = False
        # Over the CPU: over NCCL, every talk would wait for the steps that the GPUs have not done yet.
        self._talk = distributed.new_group(backend="gloo") if trainer.world_size > 1 else None
        self._saved_at, self._saved_step = time.monotonic(), trainer.global_step
        self._first_step = trainer.global_step

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Save, or stop, where the accumulated gradients were just used."""
        steps, rest = divmod(batch_idx, trainer.accumulate_grad_batches)
        if rest:
            return
        number, due = self._decide(trainer, steps)
        self._between_batches = True
        try:
            if number:
                raise Stopped(number, quiet=not trainer.is_global_zero)
            if due and trainer.global_step > self._saved_step:
                self._save(trainer)
        except Stopped as stopped:
            self._end(trainer, stopped)
            raise
        finally:
            self._between_batches = False

    def _decide(self, trainer: Trainer, steps: int) -> tuple[int, bool]:
        # The signal to obey, and whether it is time to save. Rank 0 decides, or ranks would wait for each other.
        since = time.monotonic() - self._saved_at
        number, due = self.interrupts.received, since >= (self.every_seconds if steps else self.least_seconds)
        if self._talk is not None:
            if steps % _STEPS_BETWEEN_TALKS:
                return 0, False
            said = torch.tensor([number, due])
            distributed.broadcast(said, src=0, group=self._talk)
            number, due = int(said[0]), bool(said[1])
        return number, due

    def on_validation_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        """Stop; several processes wait for the end of the validation, since their batches are not in step."""
        if self.interrupts.received and trainer.world_size == 1 and not trainer.sanity_checking:
            raise Stopped(self.interrupts.received)

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Save when a signal came in validation, now that the trained weights are back in place of their average."""
        if isinstance(exception, Stopped) and trainer.validating:
            self._end(trainer, exception)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save the end of training; a longer run continues where it is, also in the middle of an epoch."""
        self._at_the_end = True
        self._save(trainer)
        self._wait(trainer)

    def _end(self, trainer: Trainer, stopped: Stopped) -> None:
        if trainer.global_step > self._saved_step or trainer.validating:
            self._save(trainer)
        self._wait(trainer)
        stopped.steps = trainer.global_step - self._first_step
        if trainer.is_global_zero:
            print(
                f"Stopped by {stopped.name} at step {trainer.global_step}; with the same --run_dir the run continues.",
                file=sys.stderr,
            )

    def _save(self, trainer: Trainer) -> None:
        # What was logged first: a continued run does not log it again.
        for logger in trainer.loggers:
            logger.save()
        trainer.save_checkpoint(self.path, weights_only=False)
        self._saved_at, self._saved_step = time.monotonic(), trainer.global_step

    def _wait(self, trainer: Trainer) -> None:
        if isinstance(trainer.strategy.checkpoint_io, BackgroundCheckpointIO):
            trainer.strategy.checkpoint_io.flush()

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Continue in the next epoch; the patience that is asked for wins over the checkpoint's."""
        start_next_epoch(trainer, checkpoint)
        for callback in trainer.callbacks:  # type: ignore[attr-defined]
            if isinstance(callback, EarlyStopping) and (state := checkpoint["callbacks"].get(callback.state_key)):
                state["patience"] = callback.patience

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Put the loops' progress into the form that Lightning restarts from exactly."""
        if trainer.training or trainer.validating:
            make_restart_exact(trainer, checkpoint, between_batches=self._between_batches, at_the_end=self._at_the_end)
