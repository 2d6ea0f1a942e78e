"""What a run shows: one line an epoch, above a bar in a terminal, and none of the libraries' own messages.

All of it fits 80 columns.
"""

import logging
import math
import os
import re
import sys
import time
import warnings
from collections.abc import Sequence
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Callback, ProgressBar, RichProgressBar, Timer
from pytorch_lightning.callbacks.progress.rich_progress import BatchesProcessedColumn, CustomBarColumn
from rich.progress import ProgressColumn, Task, TextColumn
from rich.table import Column
from rich.text import Text

from cct_lightning.runs.checkpoints import RunCheckpoint
from cct_lightning.runs.metrics import LEARNING_RATE, TRAIN_LOSS, TRAIN_SPEED, VAL_ACC, VAL_LOSS
from cct_lightning.system.durations import duration

# Lightning says these on every start; none of them is of use to the user.
_CHATTER = (
    "Seed set to",
    "TPU available",
    "💡 Tip",
    "Loading `train_dataloader`",
    "GPU available: False",
    "Restoring states from",
    "Restored all states",
    "Found current_model_state",
    "Loaded model weights",
    "The following callbacks returned in `LightningModule.configure_callbacks`",
    "`weights_only` was not set",
    "`Trainer.fit` stopped: `max_epochs=",
    "Using bfloat16 Automatic Mixed Precision",
)
_RANK = re.compile(r"^\[rank: \d+\] ")  # before the messages of several processes
_WARNINGS = (
    r".*isinstance\(treespec, LeafSpec\).*",
    r".*Checkpoint directory .* exists and is not empty.*",
    r".*does not have many workers.*",
    r".*when using `ckpt_path`, callbacks used to create the checkpoint.*",
    r".*smaller than the logging interval.*",
    r".*The `srun` command is available on your system but is not used.*",  # as `config/world.py` has seen
    r".*Total length of `list` across ranks is zero.*",  # no validation split, as asked
    r".*use `self.log\('train/(images_seen|images_per_s|memory_gb)', ..., sync_dist.*",  # alike on all devices
)


def quiet_libraries() -> None:
    """Drop the lines that libraries print on every start, and keep every warning that concerns the run."""
    for name in ("pytorch_lightning.utilities.rank_zero", "lightning_fabric.utilities.seed"):
        logging.getLogger(name).addFilter(lambda record: not _RANK.sub("", record.getMessage()).startswith(_CHATTER))
    for pattern in _WARNINGS:
        warnings.filterwarnings("ignore", message=pattern)


def epoch_of(trainer: pl.Trainer) -> str:
    """Return the epoch in training, counted from 1, and of how many: `epoch 3/40`."""
    of_all = f"/{trainer.max_epochs}" if (trainer.max_epochs or -1) > 0 else ""
    return f"epoch {trainer.current_epoch + 1}{of_all}"


_SECONDS_SHOWN = 1.0  # of what is beside the bar: to read a metric, a GPU must finish its step
_DRAWN_PER_SECOND = 5  # by a thread, which the launching of kernels waits for; Lightning's default is 100


class RunClock:
    """Estimates when the training ends, from when it began in this process."""

    def __init__(self, trainer: pl.Trainer) -> None:
        self.began, self.first = time.perf_counter(), trainer.global_step

    def left(self, trainer: pl.Trainer) -> float | None:
        """Return the seconds until the last epoch, step or minute; None before the first step."""
        # By steps: a run may have continued in mid-epoch.
        done, left = trainer.global_step - self.first, trainer.estimated_stepping_batches - trainer.global_step
        times = [(time.perf_counter() - self.began) / done * max(0, left)] if done else []
        timers = [callback for callback in trainer.callbacks if isinstance(callback, Timer)]  # type: ignore[attr-defined]
        times += [seconds for timer in timers if (seconds := timer.time_remaining()) is not None]
        return min(times, default=None)


class _Beside(ProgressColumn):
    """What is right of the bar; it is never wrapped into a second line."""

    def __init__(self, bar: "Progress") -> None:
        super().__init__(Column(no_wrap=True))
        self.bar = bar

    def render(self, task: Task) -> Text:
        """Return the time left, of training the whole run's, and the metrics of training."""
        training = task.id == self.bar.train_progress_bar_id
        return Text(self.bar.beside if training else f"left {duration(task.time_remaining)}")


class Progress(RichProgressBar):
    """Lightning's bar with epochs counted from 1 and the time left of the whole run, on one line."""

    def __init__(self) -> None:
        super().__init__(refresh_rate=_DRAWN_PER_SECOND, leave=False)
        self.beside = ""
        self.clock: RunClock | None = None  # before the training, in the sanity check of the validation
        self._read_at = -math.inf

    def configure_columns(self, trainer: pl.Trainer) -> list[ProgressColumn]:
        """Return the columns: the bar takes the width that the others leave."""
        bar = CustomBarColumn(
            bar_width=None,
            complete_style=self.theme.progress_bar,
            finished_style=self.theme.progress_bar_finished,
            pulse_style=self.theme.progress_bar_pulse,
        )
        description = TextColumn("{task.description}", table_column=Column(no_wrap=True))
        return [description, bar, BatchesProcessedColumn(style=self.theme.batch_progress), _Beside(self)]

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Start the clock."""
        super().on_train_start(trainer, pl_module)
        self.clock, self._read_at = RunClock(trainer), -math.inf

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Count the epoch from 1, as everywhere else."""
        super().on_train_epoch_start(trainer, pl_module)
        if self.progress is not None and self.train_progress_bar_id is not None:
            # As wide as Lightning's `Validation`, so that the bars do not jump.
            self.progress.update(self.train_progress_bar_id, description=f"{epoch_of(trainer).capitalize():10}")

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Show the bar of an epoch that a continued run takes up in its middle, where the hook above is not called."""
        if self.progress is not None and self.train_progress_bar_id is None:
            self.on_train_epoch_start(trainer, pl_module)

    def get_metrics(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> dict[str, Any]:
        """Refresh what is beside the bar where it is a second old.

        Returns:
            Nothing: Lightning's own column of metrics would wrap.
        """
        now = time.monotonic()
        if self.clock is not None and now - self._read_at >= _SECONDS_SHOWN:
            self._read_at = now
            metrics = super().get_metrics(trainer, pl_module)
            shown = {key.removesuffix("_step").removeprefix("train/"): value for key, value in metrics.items()}
            texts = [f"{key} {value:.3f}" for key, value in shown.items() if isinstance(value, float)]
            self.beside = " ".join([f"left {duration(self.clock.left(trainer))}", *texts])
        return {}


class EpochLines(Callback):
    """One line an epoch: `epoch 3/40 train 1.283 val 1.231 acc 0.6472* lr 0.003 1,420/s left 0:00:41`.

    These are the losses of training and validation, the validation accuracy, with a star where it is the best so far,
    the learning rate, images per second, and the time left of the whole run.
    """

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Start the clock from which the time left is estimated."""
        self.clock, self.validated = RunClock(trainer), False

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Note that the epoch has metrics of a validation; else those of an epoch before would be in its line."""
        self.validated = True

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Print the epoch's metrics and the time left."""
        if not trainer.is_global_zero:
            return
        star = "*" if _is_best(trainer) else ""
        forms = {
            TRAIN_LOSS: "train {:.3f}",
            **({VAL_LOSS: "val {:.3f}", VAL_ACC: f"acc {{:.4f}}{star}"} if self.validated else {}),
            LEARNING_RATE: "lr {:.2g}",
            TRAIN_SPEED: "{:,.0f}/s",
        }
        metrics = trainer.callback_metrics
        fields = [form.format(float(metrics[key])) for key, form in forms.items() if key in metrics]
        self.validated = False
        print(*[epoch_of(trainer), *fields, f"left {duration(self.clock.left(trainer))}"], flush=True)


def _is_best(trainer: pl.Trainer) -> bool:
    """Tell whether the last validation was as good as any: best.ckpt is of the later of two that are equally good."""
    for callback in trainer.checkpoint_callbacks:
        if isinstance(callback, RunCheckpoint) and callback.monitor in trainer.callback_metrics:
            best = callback.best_model_score  # of this epoch or of those before, by when it is validated
            return best is None or bool(trainer.callback_metrics[callback.monitor] >= best)
    return False


def with_progress(callbacks: Callback | Sequence[Callback] | None, *, wanted: bool | None) -> dict[str, Any]:
    """Return options of the Trainer: its callbacks with the lines of a run, and with the bar where there is a terminal.

    Args:
        callbacks: Those of the user and of the run; a progress bar among them is used instead.
        wanted: The Trainer's option `enable_progress_bar`.
    """
    found = [callbacks] if isinstance(callbacks, Callback) else list(callbacks or ())
    if wanted is not False and not any(isinstance(callback, ProgressBar) for callback in found):
        # `!cct fit` in a notebook gets something like a terminal, which shows a moving bar as its control characters.
        terminal = sys.stdout.isatty() and "JPY_PARENT_PID" not in os.environ
        found += [EpochLines(), *([Progress()] if terminal else [])]
    # Where it may, Lightning adds its own bar to the lines of a log file.
    bar = wanted is not False and any(isinstance(callback, ProgressBar) for callback in found)
    return {"callbacks": found, "enable_progress_bar": bar}
