"""How a run is put together, from top to bottom: `build_run`. The command line, Python and ablations all call it."""

import copy
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from jsonargparse import Namespace
from pytorch_lightning import Callback
from pytorch_lightning.loggers import Logger, WandbLogger
from pytorch_lightning.loggers.logger import DummyLogger

from cct_lightning.compat import end_launched_processes
from cct_lightning.config.options import SEED
from cct_lightning.config.parser import instantiate, plain
from cct_lightning.config.resolved import ResolvedConfig
from cct_lightning.config.world import World, find_world
from cct_lightning.data.arguments import seed32
from cct_lightning.data.datamodule import ImageDataModule
from cct_lightning.data.input_spec import stored_input_spec
from cct_lightning.errors import InputError, TrainingFailed
from cct_lightning.models.weights.hub import is_reference
from cct_lightning.runs.checkpoint_io import checkpoint_io, load_verified
from cct_lightning.runs.checkpoints import checkpoints, find_checkpoint
from cct_lightning.runs.early_terminate import EarlyTerminate
from cct_lightning.runs.folder import RunFolder
from cct_lightning.runs.interrupts import Stopped
from cct_lightning.runs.labels import closing_lines, costs, nothing_left, relative, start_message
from cct_lightning.runs.lock import check_unlocked, locked
from cct_lightning.runs.metrics import LOGGED, VAL_ACC
from cct_lightning.runs.metrics_csv import MetricsCsv
from cct_lightning.runs.predictions import PredictionsFile
from cct_lightning.runs.record import RunRecord
from cct_lightning.runs.result import RunResult
from cct_lightning.system.atomic import remove_leftovers, write_text
from cct_lightning.system.places import local_path
from cct_lightning.tracking.figure_loggers import FigureLogger
from cct_lightning.tracking.loggers import chosen_loggers
from cct_lightning.tracking.media import Media
from cct_lightning.tracking.progress import with_progress
from cct_lightning.tracking.wandb_logger import claim_run_id, finish_wandb, upload
from cct_lightning.training.callbacks.gradient_norm import GradientNorm
from cct_lightning.training.callbacks.learning_rate import LearningRate
from cct_lightning.training.callbacks.nan_guard import StopOnNonFiniteLoss
from cct_lightning.training.callbacks.seeding import StepSeed
from cct_lightning.training.checks import (
    check_continues,
    check_devices,
    check_sharding,
    check_training,
    device_type,
)
from cct_lightning.training.memory import is_out_of_memory, keep_freed_memory, out_of_memory
from cct_lightning.training.module import Classifier
from cct_lightning.training.optim import Optim
from cct_lightning.training.precision import check_precision
from cct_lightning.training.sharding import is_sharded
from cct_lightning.training.trainer import (
    build_trainer,
    check_batches,
    check_callbacks,
    check_plugins,
    check_trainer,
)


@dataclass(kw_only=True)
class Run:
    """A run that is put together and has not begun.

    Attributes:
        options: What the user asked for.
        config: The same, with every option concrete.
        model: The LightningModule.
        data: The LightningDataModule, prepared.
        trainer: Lightning's Trainer with the loggers and callbacks of a run.
        folder: Its folder, which may hold an earlier part of it; None for a trial run (`fast_dev_run`).
        record: What it writes about itself; None for a trial run.
        checkpoint: The checkpoint to continue from; None to begin.
        seen: The summary in its folder when the run was put together.
        notes: Lines for the user.
        finished: Nothing is left to do.
    """

    options: Namespace
    config: ResolvedConfig
    model: Classifier
    data: ImageDataModule
    trainer: pl.Trainer
    folder: RunFolder | None = None
    record: RunRecord | None = None
    checkpoint: Path | None = None
    seen: dict[str, Any] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    finished: bool = False

    def train(self) -> RunResult | None:
        """Train, then test the best epoch once.

        Returns:
            The result; None for a trial run.
        """
        if self.folder is None or self.record is None:
            self._fit_and_test(None)
            return None
        if not self.trainer.is_global_zero:
            if not self.finished:
                self._fit_and_test(self.folder)
            return RunResult(self.folder.path)
        tracked: list[tuple[str, str]] = []
        if self.finished:
            print(nothing_left(self.record.summary))
        else:
            self.folder.make()
            with locked(self.folder.path):
                self._begin(self.folder, self.record)
                self._fit_and_test(self.folder)
                self.record.finish(self.trainer)
                upload(self.trainer.loggers, self.folder, self.options.tracking, self.record.summary)
                tracked = finish_wandb(self.trainer.loggers)
        print(closing_lines(self.record.summary, self.folder, tracked))
        return RunResult(self.folder.path)

    def _begin(self, folder: RunFolder, record: RunRecord) -> None:
        """Write the configuration to the run folder, which is locked, and say what is about to be trained."""
        if folder.summary() != self.seen:
            raise InputError(f"Another process has just trained in {folder.path}: start the same command again.")
        remove_leftovers(folder.path)
        for logger in self.trainer.loggers:
            if isinstance(logger, WandbLogger):
                claim_run_id(logger, folder.path)
        command = f"# cct fit --config {folder.path.name}/{folder.CONFIG}"
        write_text(folder / folder.CONFIG, f"{command}\n{self.config.to_yaml()}")
        print(start_message(self.model, self.data, self.trainer, record.summary))
        continued = f", continued from {self.checkpoint.name}" if self.checkpoint else ""
        print("\n".join([f"Run folder {relative(folder.path)}{continued}", *filter(None, self.notes)]))

    def _fit_and_test(self, folder: RunFolder | None) -> None:
        if self.trainer.strategy.root_device.type == "cpu":
            keep_freed_memory()
        # What FSDP has trained stays sharded, and cannot be wrapped once more: a copy is tested.
        tested = copy.deepcopy(self.model) if is_sharded(self.trainer) else self.model
        try:
            self.trainer.fit(self.model, datamodule=self.data, ckpt_path=self.checkpoint, weights_only=True)
            if self.record is not None:
                self.record.read_back()
            stopped = self.record is not None and self.record.is_stopped
            if folder is not None and self.options.test_best and self.data.has_test and not stopped:
                self.trainer.test(
                    tested, datamodule=self.data, ckpt_path=folder.to_test, verbose=False, weights_only=True
                )
        except BaseException as error:
            # By itself, wandb takes a SystemExit that is raised for a run that has finished.
            code = error.code if isinstance(error, SystemExit) else 130 if isinstance(error, KeyboardInterrupt) else 1
            finish_wandb(self.trainer.loggers, exit_code=int(code or 0))
            if not isinstance(error, Stopped):
                # The others may wait for this process in a collective operation for minutes.
                end_launched_processes(self.trainer)
            if is_out_of_memory(error):
                raise TrainingFailed(self._out_of_memory()) from error
            raise

    def _out_of_memory(self) -> str:
        world, accumulate = self.trainer.world_size, self.trainer.accumulate_grad_batches
        return out_of_memory(
            tokens=costs(self.model)["tokens"],
            img_size=self.data.img_size,
            batch_size=self.data.local_batch_size(world, accumulate),
            global_batch_size=self.data.global_batch_size,
            precision=self.trainer.precision,
        )


def build_run(options: Namespace) -> Run:
    """Put a run together: checks, model and data, folder, loggers, callbacks, Trainer.

    Nothing is written: what is wrong with options or data is found first. Data may be downloaded and decoded.

    Args:
        options: What `cct_lightning.config.parser.parse` returned for `fit`.

    Raises:
        InputError: What the user asked for cannot be done.
    """
    dry = bool(options.trainer.fast_dev_run)
    world = find_world(options.trainer)
    _check_options(options, world, dry=dry)
    _normalize_as_pretrained(options)

    pl.seed_everything(seed32(SEED, options[SEED]), workers=True)
    built = instantiate("fit", options)  # with the callbacks, loggers and plugins of the user's
    model, data, callbacks = built.model, built.data, _listed(built.trainer.callbacks)
    check_callbacks(callbacks, logged=LOGGED)
    check_plugins(_listed(built.trainer.plugins))
    config = ResolvedConfig.resolve(plain(options), world_size=world.size)
    if dry:
        launch = world.trainer_options(built.trainer.plugins)
        shown = with_progress(callbacks, wanted=options.trainer.enable_progress_bar)
        # Lightning keeps no checkpoint of it.
        trainer = build_trainer(built.trainer, logger=DummyLogger(), **shown, **launch)
        _check_built(trainer, model, data)
        return Run(options=options, config=config, model=model, data=data, trainer=trainer)

    folder = RunFolder.choose(options.run_dir, config)
    folder.check_writable()
    seen = folder.summary()
    checkpoint, damage = find_checkpoint(folder.path, options.resume)
    if (stored := folder.config()) is not None:
        stored.check_same_run(config, folder.path)
    if checkpoint is not None:
        check_continues(model, data, load_verified(checkpoint))

    asked: list[Logger] = _listed(built.trainer.logger or None)
    given = built.trainer.logger not in (None, True)
    loggers = [MetricsCsv(folder.path), *(asked if given else chosen_loggers(folder.path, built.tracking, config))]
    before = seen if checkpoint is not None else {}
    record = RunRecord(folder=folder, config=config, costs=costs(model), before=before)
    callbacks += _callbacks(built, folder, record, loggers, data)
    writers = checkpoint_io(options.trainer.strategy, device_type=device_type(options.trainer.accelerator))
    trainer = build_trainer(
        built.trainer,
        logger=loggers,
        **with_progress(callbacks, wanted=options.trainer.enable_progress_bar),
        **world.trainer_options(built.trainer.plugins, *writers),
        default_root_dir=str(local_path(options.trainer.default_root_dir or folder.path)),
    )
    if trainer.is_global_zero:  # which may have the lock already where others are put together
        check_unlocked(folder.path)
    _check_built(trainer, model, data)
    return Run(
        options=options,
        config=config,
        model=model,
        data=data,
        trainer=trainer,
        seen=seen,
        folder=folder,
        record=record,
        checkpoint=checkpoint,
        notes=[damage],
        finished=options.resume == "auto" and checkpoint is not None and folder.is_finished(config),
    )


def _check_options(options: Namespace, world: World, *, dry: bool) -> None:
    """Find what is wrong before data are downloaded or decoded."""
    trainer, optim = options.trainer, Optim(**options.model.optim.as_dict())
    check_trainer(trainer, test_best=options.test_best)
    check_training(
        optim.for_a_trial() if dry else optim,
        epochs=1 if dry else trainer.max_epochs,
        max_steps=trainer.max_steps,
        max_time=trainer.max_time,
        precision=trainer.precision or "32-true",
        device_type=device_type(trainer.accelerator),
        compile=options.model.compile,
        accumulate=trainer.accumulate_grad_batches,
        devices=world.per_node,
        num_nodes=world.num_nodes,
        global_batch_size=options.data.global_batch_size,
    )


def _normalize_as_pretrained(options: Namespace) -> None:
    """Let a run that starts from a checkpoint of ours show its model the pixels that it was trained on.

    Mean and standard deviation are the checkpoint's where the user gives none and the channels agree.
    """
    start, data = options.model.pretrained, options.data
    if not isinstance(start, str) or data.mean or data.std:
        return
    if not (is_reference(start) or Path(start).is_file()):
        return
    spec = stored_input_spec(Path(start).expanduser())
    if spec is None or spec.mean is None or spec.std is None:
        return
    where = ("name", "root", "cache_dir", "download", "img_size", "stored_size", "stream")
    if ImageDataModule(**{key: data[key] for key in where}).in_chans == spec.in_chans:
        data.mean, data.std = list(spec.mean), list(spec.std)


def _check_built(trainer: pl.Trainer, model: Classifier, data: ImageDataModule) -> None:
    """Check once more what the Trainer took: plugins and objects decide, too. Then prepare the data."""
    device = trainer.strategy.root_device.type
    check_precision(trainer.precision, device_type=device)
    check_devices(trainer.num_devices, device)
    check_sharding(trainer, optimizer=model.optim.optimizer, ema_decay=model.ema_decay)
    data.prepare(trainer)
    check_batches(trainer, data)


def _callbacks(
    built: Namespace, folder: RunFolder, record: RunRecord, loggers: list[Logger], data: ImageDataModule
) -> list[Callback]:
    """Return what every run has: its record, its checkpoints, and a stop when the loss becomes NaN."""
    found: list[Callback] = [
        record,
        StepSeed(seed=built[SEED]),
        LearningRate(),
        GradientNorm(),
        StopOnNonFiniteLoss(run_dir=folder.path),
        PredictionsFile(run_dir=folder.path),
        *EarlyTerminate.of(folder),
    ]
    if watched := built.tracking.watch:
        from cct_lightning.tracking.watch import Watch  # which imports wandb

        found.append(Watch(log=watched))
    every = built.tracking.media_every_n_epochs
    if every and any(isinstance(logger, WandbLogger | FigureLogger) for logger in loggers):
        found.append(Media(every_n_epochs=every, pictures=built.tracking.pictures))
    if built.trainer.enable_checkpointing is not False:
        # Where an epoch takes a second, its checkpoint would keep a GPU waiting for a good part of it.
        least = 0.0 if device_type(built.trainer.accelerator) == "cpu" else 30.0
        monitor = VAL_ACC if data.has_val else None
        every = built.save_every_minutes
        found += checkpoints(folder.path, monitor=monitor, every_minutes=every, least_seconds=least)
    return found


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [] if value is None else [value]
