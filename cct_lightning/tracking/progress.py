"""What a run shows: a bar in a terminal, one line an epoch in a log file, and none of the libraries' own messages."""

import logging
import math
import os
import re
import sys
import time
import warnings
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Callback, RichProgressBar

from cct_lightning.runs.metrics import TRAIN_LOSS, TRAIN_SPEED, VAL_ACC, VAL_LOSS
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


_SECONDS_SHOWN = 1.0  # of the metrics beside the bar: to read one, a GPU must finish its step
_DRAWN_PER_SECOND = 5  # by a thread, which the launching of kernels waits for; Lightning's default is 100


class Progress(RichProgressBar):
    """Lightning's bar, without the version number and without the metrics that would wrap the line."""

    def __init__(self) -> None:
        super().__init__(refresh_rate=_DRAWN_PER_SECOND, leave=False)
        self._shown: dict[str, Any] = {}
        self._read_at = -math.inf

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
        """Return the metrics beside the bar, at most a second old."""
        now = time.monotonic()
        if now - self._read_at >= _SECONDS_SHOWN:
            self._read_at = now
            metrics = super().get_metrics(trainer, pl_module)
            self._shown = {key: value for key, value in metrics.items() if key != "v_num"}
        return self._shown


class EpochLines(Callback):
    """One line an epoch, for logs of batch jobs."""

    def __init__(self) -> None:
        self.began, self.first, self.validated = time.perf_counter(), 0, False

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Start the clock from which the time left is estimated."""
        self.began, self.first, self.validated = time.perf_counter(), trainer.global_step, False

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Note that the epoch has metrics of a validation; else those of an epoch before would be in its line."""
        self.validated = True

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Print the epoch's metrics and the time left."""
        if not trainer.is_global_zero:
            return
        line = epoch_of(trainer)
        for key in (TRAIN_LOSS, VAL_LOSS, VAL_ACC, TRAIN_SPEED):
            if key in trainer.callback_metrics and (self.validated or key not in (VAL_LOSS, VAL_ACC)):
                line += f"  {key} {float(trainer.callback_metrics[key]):{',.0f' if key == TRAIN_SPEED else '.4f'}}"
        self.validated = False
        # By steps: a run may have continued in mid-epoch.
        done, left = trainer.global_step - self.first, trainer.estimated_stepping_batches - trainer.global_step
        seconds = (time.perf_counter() - self.began) / max(1, done) * max(0, left)
        print(f"{line}  left {duration(seconds)}", flush=True)


def progress() -> Callback:
    """Return the bar for a terminal, or the lines for a file or a notebook's cell."""
    # `!cct fit` in a notebook gets something like a terminal, which shows a moving bar as its control characters.
    terminal = sys.stdout.isatty() and "JPY_PARENT_PID" not in os.environ
    return Progress() if terminal else EpochLines()
