"""`RunRecord`: what a run writes about itself beside its metrics, to the run folder and to W&B."""

import contextlib
import os
import time
from collections.abc import Mapping
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback, ModelCheckpoint, Timer
from pytorch_lightning.loggers import WandbLogger

from cct_lightning.config.resolved import ResolvedConfig
from cct_lightning.data.batch import Batch
from cct_lightning.runs.checkpoints import RunCheckpoint
from cct_lightning.runs.early_terminate import EarlyTerminate
from cct_lightning.runs.environment import environment
from cct_lightning.runs.folder import RunFolder
from cct_lightning.runs.interrupts import Stopped
from cct_lightning.runs.metrics import VAL_ACC, VAL_LOSS, metric
from cct_lightning.runs.metrics_csv import MetricsCsv
from cct_lightning.system.atomic import write_json
from cct_lightning.system.machine import peak_memory


def memory_gb(device: torch.device) -> float | None:
    """Return the most memory that was used so far, in GB: of the GPU where there is one, else of this process."""
    peak = torch.cuda.max_memory_allocated(device) if device.type == "cuda" else peak_memory()
    return None if peak is None else peak / 1e9


def _stopped_by(trainer: pl.Trainer) -> str:
    """Return what ended the training: the name of the Trainer's limit, `early_terminate`, or `callback`."""
    whole = trainer.fit_loop.epoch_loop.batch_progress.is_last_batch  # an epoch that was cut short is counted, too
    if whole and trainer.max_epochs not in (None, -1) and trainer.current_epoch >= trainer.max_epochs:
        return "max_epochs"
    if 0 < trainer.max_steps <= trainer.global_step:
        return "max_steps"
    if any(isinstance(callback, EarlyTerminate) and callback.stopped for callback in trainer.callbacks):  # type: ignore[attr-defined]
        return "early_terminate"
    timers = [callback.time_remaining() for callback in trainer.callbacks if isinstance(callback, Timer)]  # type: ignore[attr-defined]
    return "max_time" if any(left is not None and left <= 0 for left in timers) else "callback"


def beside_sweep(config: ResolvedConfig, locked: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options of a run that are left to say in W&B's config, where what a sweep has set is locked.

    Of a group that it has set in part (`model: {parameters: ...}`), the options go by their dotted names.
    """
    # A group that has all options is our own, of a call before.
    parts = {
        key
        for key, value in locked.items()
        if isinstance(value, Mapping) and key in config.options and value.keys() < config.options[key].keys()
    }
    whole = {key: value for key, value in config.options.items() if key not in locked}
    return whole | {key: value for key, value in config.flat.items() if key.split(".")[0] in parts}


class RunRecord(Callback):
    """Keep `summary.json` and `environment.json`, and W&B's config and summary; log images per second.

    The clock runs from the start of a training epoch to its last batch; validations within it do not count.

    Args:
        folder: Run folder.
        config: The resolved configuration.
        costs: What the model costs, for the summary: parameters, MACs.
        before: The summary of a run that is continued.
    """

    def __init__(
        self, *, folder: RunFolder, config: ResolvedConfig, costs: dict[str, Any], before: dict[str, Any] | None = None
    ) -> None:
        self.folder, self.config = folder, config
        kept = {key: value for key, value in (before or {}).items() if key != "reason"}
        self.summary: dict[str, Any] = {**kept, "status": "running", **costs}
        self.began = time.perf_counter()
        self.epoch_began = self.epoch_ended = self.validation_began = self.validating = 0.0
        self.epoch_images = self.images = self.timed_images = 0
        self.seconds = self.elapsed_before = 0.0

    def _update(self, trainer: pl.Trainer, **values: Any) -> None:
        self.summary |= values
        if not trainer.is_global_zero:
            return
        write_json(self.folder / RunFolder.SUMMARY, self.summary)
        for logger in trainer.loggers:
            if isinstance(logger, WandbLogger):
                logger.experiment.summary.update(values)

    def read_back(self) -> None:
        """Take over what processes of the Trainer's own have written: ddp_fork and ddp_spawn train in such alone."""
        self.summary |= self.folder.summary()

    @property
    def is_stopped(self) -> bool:
        """Whether the run was stopped because it was worse than most others of its ablation."""
        return self.summary.get("stopped_by") == "early_terminate"

    @property
    def elapsed(self) -> float:
        """Seconds since the run began, those of the processes that it was continued from included."""
        return self.elapsed_before + time.perf_counter() - self.began

    def state_dict(self) -> dict[str, Any]:
        """Return the clocks, so that a continued run counts from where it was."""
        counts = {"images": self.images, "timed_images": self.timed_images}
        return {**counts, "seconds": self.seconds, "elapsed": self.elapsed}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue the clocks."""
        if self.summary["status"] == "trained":  # the test loads them with the best epoch; they are ahead of it
            return
        self.images, self.timed_images = state_dict["images"], state_dict["timed_images"]
        self.seconds, self.elapsed_before = state_dict["seconds"], state_dict["elapsed"]

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Write environment and configuration before the first step."""
        if stage != "fit" or not trainer.is_global_zero:
            return
        where = environment()
        write_json(self.folder / RunFolder.ENVIRONMENT, where)
        for logger in trainer.loggers:
            if isinstance(logger, WandbLogger):
                run = logger.experiment
                options = self.config.options
                if os.environ.get("WANDB_SWEEP_ID"):
                    options = beside_sweep(self.config, run.config.as_dict())
                run.config.update({**options, "environment": where}, allow_val_change=True)
                # Other x axes to choose from, which are in the same rows.
                for name in ("epoch", "train/images_seen"):
                    run.define_metric(name)
                for name in (VAL_ACC, VAL_LOSS):
                    run.define_metric(name, summary=metric(name).goal, step_metric="trainer/global_step")
            elif not isinstance(logger, MetricsCsv):
                logger.log_hyperparams(self.config.flat)
        self._update(trainer, **self.summary)

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Drop the metrics that a continued run is about to log again."""
        for logger in trainer.loggers:
            if isinstance(logger, MetricsCsv) and trainer.is_global_zero:
                logger.drop_after(trainer.global_step)
        # Lightning does not call the next hook in an epoch that a continued run takes up in its middle.
        self.on_train_epoch_start(trainer, pl_module)

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Start the clock."""
        self.epoch_began, self.epoch_images, self.validating = time.perf_counter(), 0, 0.0

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Batch, batch_idx: int
    ) -> None:
        """Count the images of all devices."""
        if trainer.is_last_batch and pl_module.device.type != "cpu":
            torch.accelerator.synchronize(pl_module.device)  # or the clock stops while a GPU still has steps to do
        self.epoch_ended = time.perf_counter()
        # A validation before this batch was within the epoch, not at its end.
        self.epoch_began, self.validating = self.epoch_began + self.validating, 0.0
        images = len(batch.image) * trainer.world_size
        self.epoch_images, self.images = self.epoch_images + images, self.images + images

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Log the epoch's images per second."""
        seconds = self.epoch_ended - self.epoch_began
        if self.epoch_images:
            self.timed_images, self.seconds = self.timed_images + self.epoch_images, self.seconds + seconds
            pl_module.log("train/images_per_s", self.epoch_images / seconds, rank_zero_only=True)
        pl_module.log("train/images_seen", float(self.images), rank_zero_only=True)
        if (memory := memory_gb(pl_module.device)) is not None:
            pl_module.log("train/memory_gb", memory, rank_zero_only=True)

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Stop the clock."""
        if pl_module.device.type != "cpu":
            torch.accelerator.synchronize(pl_module.device)  # or training steps that a GPU still has to do count in it
        self.validation_began = time.perf_counter()

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Let the clock run on."""
        self.validating += time.perf_counter() - self.validation_began

    def on_validation_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Put the images seen beside the metrics of the validation, as an x axis."""
        if not trainer.sanity_checking:
            pl_module.log("train/images_seen", float(self.images), rank_zero_only=True)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Sum up the training."""
        values: dict[str, Any] = {
            "status": "trained",
            "epochs": trainer.current_epoch,
            "steps": trainer.global_step,
            "stopped_by": _stopped_by(trainer),
            "seed": self.config.seed,
            "train_seconds": round(self.elapsed, 2),
        }
        if (memory := memory_gb(pl_module.device)) is not None:
            values["memory_gb"] = round(memory, 3)
        if self.seconds:
            values["images_per_s"] = round(self.timed_images / self.seconds, 1)
        for callback in trainer.checkpoint_callbacks:
            if isinstance(callback, ModelCheckpoint) and callback.best_model_score is not None:
                values[f"best_{callback.monitor}"] = float(callback.best_model_score)
            if isinstance(callback, RunCheckpoint) and callback.best_epoch is not None:
                values["best_epoch"] = callback.best_epoch
        self._update(trainer, **values)

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Put the configuration into every checkpoint, for `cct test` wherever the file goes."""
        checkpoint["config"] = self.config.options

    def on_test_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Add the test metrics."""
        metrics = {key: float(value) for key, value in trainer.callback_metrics.items() if key.startswith("test/")}
        self._update(trainer, **metrics)

    def finish(self, trainer: pl.Trainer) -> None:
        """Mark the run as finished, or as stopped for good: training and test are done."""
        self.read_back()
        self._update(trainer, status="stopped" if self.is_stopped else "finished", seconds=round(self.elapsed, 2))

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        """Mark the run as interrupted or failed, with the reason."""
        interrupted = isinstance(exception, KeyboardInterrupt | SystemExit)
        reason = f"{type(exception).__name__}: {exception}".removesuffix(": ")
        if isinstance(exception, Stopped) and exception.name != "SIGINT":
            for logger in trainer.loggers:
                if isinstance(logger, WandbLogger) and trainer.is_global_zero:
                    logger.experiment.mark_preempting()  # its sweep gives the run to the next agent
        # On a full disk, this must not hide the reason.
        with contextlib.suppress(OSError):
            self._update(trainer, status="interrupted" if interrupted else "failed", reason=reason[:500])
