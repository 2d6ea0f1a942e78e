"""`cct fit | validate | test`: LightningCLI with the project's parts, run folder and messages."""

import copy
from pathlib import Path
from typing import Any

import torch
import yaml
from jsonargparse import Namespace
from pytorch_lightning import Callback, Trainer
from pytorch_lightning.callbacks import LearningRateMonitor
from pytorch_lightning.cli import ArgsType, LightningArgumentParser, LightningCLI
from pytorch_lightning.loggers import Logger, WandbLogger

from cct_lightning.commands.evaluate import with_checkpoint_options
from cct_lightning.commands.failures import exit_on_known_errors
from cct_lightning.commands.parser import OneSentence
from cct_lightning.config.run_options import add_run_options, add_seed
from cct_lightning.data.datamodule import ImageDataModule
from cct_lightning.errors import InputError
from cct_lightning.runs.checkpoint_io import AtomicCheckpointIO, load_verified
from cct_lightning.runs.checkpoints import checkpoints, find_checkpoint
from cct_lightning.runs.folder import check_writable, choose_run_dir, make_folder, without_home
from cct_lightning.runs.interrupts import Stopped
from cct_lightning.runs.labels import costs, relative, report, run_name, start_message, tags
from cct_lightning.runs.metrics_csv import MetricsCsv
from cct_lightning.runs.predictions import PredictionsFile
from cct_lightning.runs.record import RunRecord
from cct_lightning.runs.resume import check_same_run, is_finished, read_summary
from cct_lightning.system.atomic import remove_leftovers, write_text
from cct_lightning.tracking.media import WandbMedia, upload_checkpoints
from cct_lightning.tracking.progress import Progress, progress, quiet_libraries
from cct_lightning.tracking.wandb_logger import claim_run_id, wandb_logger, wandb_mode
from cct_lightning.training.callbacks.gradient_norm import GradientNorm
from cct_lightning.training.callbacks.nan_guard import StopOnNonFiniteLoss
from cct_lightning.training.callbacks.seeding import StepSeed
from cct_lightning.training.checks import check_devices, check_training, device_type, devices_asked_for
from cct_lightning.training.memory import keep_freed_memory
from cct_lightning.training.module import Classifier
from cct_lightning.training.optim import Optim
from cct_lightning.training.precision import check_precision
from cct_lightning.training.sharding import check_sharding, is_sharded


class Parser(OneSentence, LightningArgumentParser):
    """LightningCLI's parser, with errors in one sentence and without abbreviated options."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **{**kwargs, "allow_abbrev": False})


class CctCLI(LightningCLI):
    """LightningCLI that makes the run folder, tracks the run and tests the best epoch.

    Args:
        args: The command and its options.
    """

    def __init__(self, args: list[str]) -> None:
        super().__init__(
            Classifier,
            ImageDataModule,
            save_config_callback=None,  # `before_fit` writes config.yaml, once all input has proved good
            parser_class=Parser,
            args=args,
            # `before_fit` says what the summary would, in one line.
            trainer_defaults={"enable_model_summary": False},
            auto_configure_optimizers=False,
            load_from_checkpoint_support=False,  # a checkpoint's hyperparameters are what Classifier was given
        )

    @staticmethod
    def subcommands() -> dict[str, set[str]]:
        """The Trainer's methods that are commands, and their arguments that are not options."""
        skip = {"model", "datamodule", "weights_only"}
        return {
            "fit": skip | {"train_dataloaders", "val_dataloaders", "ckpt_path"},  # --resume takes a checkpoint
            "validate": skip | {"dataloaders", "verbose"},
            "test": skip | {"dataloaders", "verbose"},
        }

    def add_default_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Add the seed."""
        add_seed(parser)

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Add the run folder and tracking, and link the model to the data."""
        add_run_options(parser)

    def parse_arguments(self, parser: LightningArgumentParser, args: ArgsType) -> None:
        """Parse what `cct` expanded, without LightningCLI's warning that sys.argv differs."""
        assert isinstance(args, list)
        self.config = parser.parse_args(args)

    def _parse_ckpt_path(self) -> None:
        # LightningCLI lets the options in a checkpoint silently win over those of the command line.
        pass

    def instantiate_classes(self) -> None:
        """Build data, model and Trainer, once the options fit each other: data may be downloaded on the way."""
        if self.subcommand == "fit":
            options: Namespace = self.config["fit"]
            trainer, optim = options.trainer, Optim(**options.model.optim.as_dict())
            check_training(
                optim.for_a_trial() if trainer.fast_dev_run else optim,
                epochs=1 if trainer.fast_dev_run else trainer.max_epochs,
                precision=trainer.precision or "32-true",
                device_type=device_type(trainer.accelerator),
                compile=options.model.compile,
                accumulate=trainer.accumulate_grad_batches,
                devices=devices_asked_for(trainer.devices),
                num_nodes=trainer.num_nodes,
                global_batch_size=options.data.global_batch_size,
            )
        super().instantiate_classes()
        if self.trainer.strategy.root_device.type == "cuda":
            # TF32 where a run is in float32, as PyTorch has it for convolutions anyway, and timm's training for all.
            torch.set_float32_matmul_precision("high")

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        """Build the Trainer with the run folder, the loggers and the checkpoints."""
        config = self._get(self.config_init, "trainer")
        self.dry = bool(config.fast_dev_run)
        if self.subcommand != "fit" or self.dry:
            logger = not self.dry and self.test_logger()
            return super().instantiate_trainer(logger=logger, enable_checkpointing=False, **kwargs)
        options: Namespace = self.config_init["fit"]
        plain = self.plain_config()
        self.run_dir = choose_run_dir(options.run_dir, run_name(self.model, self.datamodule), config=plain)
        check_writable(self.run_dir)
        self.checkpoint, self.damage = find_checkpoint(self.run_dir, options.resume)
        check_same_run(self.run_dir, plain)
        if self.checkpoint is not None:
            self.model.check_continues(load_verified(self.checkpoint))
        self.finished = options.resume == "auto" and self.checkpoint is not None and is_finished(self.run_dir, plain)
        told_before = read_summary(self.run_dir) if self.checkpoint is not None else {}
        self.record = RunRecord(run_dir=self.run_dir, config=plain, costs=costs(self.model), before=told_before)
        loggers = self.loggers(options)
        bar = [progress()] if config.enable_progress_bar is not False else []
        callbacks = [*_listed(config.callbacks), *self.callbacks(options, loggers), *bar]
        try:
            return super().instantiate_trainer(
                logger=loggers,
                callbacks=callbacks,
                plugins=[*_listed(config.plugins), *checkpoint_io(config)] or None,
                default_root_dir=config.default_root_dir or str(self.run_dir),
                # Lightning would add its own bar beside the lines of a log file.
                enable_progress_bar=any(isinstance(callback, Progress) for callback in bar),
                **kwargs,
            )
        except ValueError as error:
            # A combination of devices and strategy that Lightning refuses.
            raise InputError(" ".join(str(error).split())) from error

    def loggers(self, options: Namespace) -> list[Logger]:
        """Return metrics.csv, and W&B or the loggers of the configuration."""
        mode, self.note = wandb_mode(options.tracking.mode)
        asked = options.trainer.logger
        if asked not in (None, True):
            return [MetricsCsv(self.run_dir), *_listed(asked or None)]
        return [MetricsCsv(self.run_dir), *([self.wandb(options, mode)] if mode != "disabled" else [])]

    def wandb(self, options: Namespace, mode: str) -> WandbLogger:
        """Return the W&B logger of this run."""
        return wandb_logger(
            self.run_dir if self.subcommand == "fit" else Path(options.run_dir).expanduser().absolute(),
            options.tracking,
            mode=mode,
            name=run_name(self.model, self.datamodule),
            tags=tags(self.model, self.datamodule),
            job_type=str(self.subcommand),
        )

    def callbacks(self, options: Namespace, loggers: list[Logger]) -> list[Callback]:
        """Return what every run has: its record, its checkpoints, and a stop where the loss is lost."""
        found: list[Callback] = [
            self.record,
            StepSeed(seed=options.seed_everything),
            LearningRateMonitor("step"),
            GradientNorm(),
            StopOnNonFiniteLoss(run_dir=self.run_dir),
            PredictionsFile(run_dir=self.run_dir),
        ]
        if options.tracking.media_every_n_epochs and any(isinstance(logger, WandbLogger) for logger in loggers):
            found.append(WandbMedia(every_n_epochs=options.tracking.media_every_n_epochs))
        if options.trainer.enable_checkpointing is not False:
            found += checkpoints(
                self.run_dir,
                monitor="val/acc" if self.datamodule.has_val else None,
                every_minutes=options.save_every_minutes,
            )
        return found

    def plain_config(self) -> dict[str, Any]:
        """Return the resolved configuration as plain types, without what belongs to this one run folder."""
        parser = self._parser(self.subcommand)
        config = yaml.safe_load(parser.dump(self.config[str(self.subcommand)], skip_none=False, skip_validation=True))
        return without_home({**config, "base": None, "run_dir": None, "resume": "auto"})

    def before_fit(self) -> None:
        """Find what is wrong with options and data, then make the run folder."""
        # Once more, of what the Trainer took: plugins and objects decide, too.
        check_precision(self.trainer.precision, device_type=self.trainer.strategy.root_device.type)
        check_devices(self.trainer.num_devices, self.trainer.strategy.root_device.type)
        check_sharding(self.trainer, optimizer=self.model.optim.optimizer, ema_decay=self.model.ema_decay)
        self.datamodule.prepare(self.trainer)
        if self.dry or not self.trainer.is_global_zero:
            return
        if self.finished:
            print("The run is finished: nothing is left to do. Train longer with a larger --trainer.max_epochs.")
            print(report(self.record.summary, self.run_dir, self.best))
            return
        make_folder(self.run_dir)
        remove_leftovers(self.run_dir)
        for logger in self.trainer.loggers:
            if isinstance(logger, WandbLogger):
                claim_run_id(logger, self.run_dir)
        config = yaml.safe_dump(self.plain_config(), sort_keys=False, allow_unicode=True)
        write_text(self.run_dir / "config.yaml", f"# cct fit --config {self.run_dir.name}/config.yaml\n{config}")
        print(start_message(self.model, self.datamodule, self.record.summary))
        continued = f", continued from {self.checkpoint.name}" if self.checkpoint else ""
        print(f"Run folder {relative(self.run_dir)}{continued}")
        for note in (self.damage, self.note):
            if note:
                print(note)

    def fit(self, model: Classifier, datamodule: ImageDataModule) -> None:
        """Train, then test the best epoch once."""
        if self.dry:
            self.trainer.fit(model, datamodule=datamodule)
            return
        if self.finished:
            return
        if self.trainer.strategy.root_device.type == "cpu":
            keep_freed_memory()
        # What FSDP has trained stays in pieces, and cannot be wrapped once more: a copy is tested.
        tested = copy.deepcopy(model) if is_sharded(self.trainer) else model
        try:
            self.trainer.fit(model, datamodule=datamodule, ckpt_path=self.checkpoint, weights_only=True)
            if self.config.fit.test_best and datamodule.has_test:
                self.trainer.test(tested, datamodule=datamodule, ckpt_path=self.best, verbose=False, weights_only=True)
        except BaseException as error:
            if not isinstance(error, Stopped):
                self.end_other_processes()
            raise
        self.record.finish(self.trainer)
        self.upload()
        if self.trainer.is_global_zero:
            print(report(self.record.summary, self.run_dir, self.best))

    @property
    def best(self) -> Path:
        """The checkpoint to test: of the best epoch where there was a validation, else of the last."""
        best = self.run_dir / "best.ckpt"
        return best if best.is_file() else self.run_dir / "last.ckpt"

    def end_other_processes(self) -> None:
        """End what this process launched: the others may wait for it in a collective operation for minutes."""
        for process in getattr(self.trainer.strategy.launcher, "procs", ()):
            process.kill()

    def test_logger(self) -> WandbLogger | bool:
        """Return a logger for a W&B run of the job type `test`, where `cct test` is given a run folder."""
        options: Namespace = self.config_init[self.subcommand]
        mode, _ = wandb_mode(options.tracking.mode)
        if self.subcommand != "test" or options.run_dir is None or mode == "disabled":
            return False
        return self.wandb(options, mode)

    def upload(self) -> None:
        """Log the checkpoints to W&B: by default only where it is online, since offline they are copied."""
        wanted = self.config.fit.tracking.artifacts
        for logger in self.trainer.loggers if self.trainer.is_global_zero else ():
            online = isinstance(logger, WandbLogger) and not logger._offline
            lost = getattr(logger, "lost", False)
            if isinstance(logger, WandbLogger) and not lost and (online if wanted is None else wanted):
                print(upload_checkpoints(logger, self.run_dir, self.record.summary))


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [] if value is None else [value]


def checkpoint_io(config: Namespace) -> list[AtomicCheckpointIO]:
    """Return what writes checkpoints; nothing for strategies that bring their own."""
    own = any(name in str(config.strategy).lower() for name in ("deepspeed", "modelparallel"))
    return [] if own else [AtomicCheckpointIO()]


def run_lightning(args: list[str]) -> None:
    """Run `fit`, `validate` or `test`.

    Raises:
        InputError: What the user asked for cannot be done.
    """
    quiet_libraries()
    if args[0] != "fit":
        args = with_checkpoint_options(args)
    with exit_on_known_errors(args[0]):
        CctCLI(args)
