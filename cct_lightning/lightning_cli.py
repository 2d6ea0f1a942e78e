"""`cct fit | validate | test`: LightningCLI with the project's parts, run folder and messages."""

import sys
from typing import Any

import yaml
from jsonargparse import Namespace
from lightning_fabric.utilities.exceptions import MisconfigurationException
from pytorch_lightning import Callback, Trainer
from pytorch_lightning.callbacks import LearningRateMonitor
from pytorch_lightning.cli import ArgsType, LightningArgumentParser, LightningCLI
from pytorch_lightning.loggers import Logger, WandbLogger

from cct_lightning.command import OneSentence
from cct_lightning.data.datamodule import ImageDataModule
from cct_lightning.errors import InputError
from cct_lightning.evaluation import LINKS, with_checkpoint_options
from cct_lightning.tracking.callback import RunRecord
from cct_lightning.tracking.checkpoints import checkpoints, find_checkpoint
from cct_lightning.tracking.labels import costs, opening, relative, report, run_name, tags
from cct_lightning.tracking.loggers import MetricsCsv, Tracking, claim_run_id, wandb_logger, wandb_mode
from cct_lightning.tracking.media import WandbMedia, upload_checkpoints
from cct_lightning.tracking.predictions import PredictionsFile
from cct_lightning.tracking.progress import Progress, progress, quiet_libraries
from cct_lightning.tracking.run_dir import check_writable, choose_run_dir, tilde, write_atomically
from cct_lightning.training.callbacks import GradientNorm, StopOnNonFiniteLoss, TrainingFailed
from cct_lightning.training.checks import check_training
from cct_lightning.training.module import Classifier


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
        """Add the seed, an int, so that every run can be repeated."""
        parser.add_argument(
            "--seed_everything",
            type=int,
            default=0,
            help="Seed of the weights, the order of the images, augmentation and dropout.",
        )

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Add the run folder and tracking, and link the model to the data."""
        parser.add_argument("--base", type=str | None, default=None, help="Recipe that a configuration file builds on.")
        parser.add_argument(
            "--run_dir", type=str | None, default=None, help="Folder of the run; a fresh one under runs/ when null."
        )
        parser.add_argument(
            "--resume",
            type=str,
            default="auto",
            help="`auto` continues from last.ckpt where the run folder has one, `never` refuses such a folder, "
            "or the path of the checkpoint to continue from.",
        )
        parser.add_argument(
            "--test_best",
            type=bool,
            default=True,
            help="Test the best epoch once, at the end of fit, where the data has a test split.",
        )
        parser.add_class_arguments(Tracking, "tracking")
        parser.link_arguments("seed_everything", "data.seed")
        for name in LINKS:
            parser.link_arguments(f"data.{name}", f"model.{name}", apply_on="instantiate")

    def parse_arguments(self, parser: LightningArgumentParser, args: ArgsType) -> None:
        """Parse what `cct` expanded, without LightningCLI's warning that sys.argv differs."""
        assert isinstance(args, list)
        self.config = parser.parse_args(args)

    def _parse_ckpt_path(self) -> None:
        # LightningCLI lets the options in a checkpoint silently win over those of the command line.
        pass

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        """Build the Trainer with the run folder, the loggers and the checkpoints."""
        config = self._get(self.config_init, "trainer")
        self.dry = bool(config.fast_dev_run)
        if self.subcommand != "fit" or self.dry:
            logger = not self.dry and self.test_logger()
            return super().instantiate_trainer(logger=logger, enable_checkpointing=False, **kwargs)
        options: Namespace = self.config_init["fit"]
        self.run_dir = choose_run_dir(options.run_dir, run_name(self.model, self.datamodule))
        check_writable(self.run_dir)
        self.checkpoint = find_checkpoint(self.run_dir, options.resume)
        self.record = RunRecord(run_dir=self.run_dir, config=self.plain_config(), costs=costs(self.model))
        loggers = self.loggers(options)
        bar = [progress()] if config.enable_progress_bar is not False else []
        callbacks = [*_listed(config.callbacks), *self.callbacks(options, loggers), *bar]
        return super().instantiate_trainer(
            logger=loggers,
            callbacks=callbacks,
            default_root_dir=config.default_root_dir or str(self.run_dir),
            # Lightning would add its own bar beside the lines of a log file.
            enable_progress_bar=any(isinstance(callback, Progress) for callback in bar),
            **kwargs,
        )

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
            choose_run_dir(options.run_dir, run_name(self.model, self.datamodule)),
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
            LearningRateMonitor("step"),
            GradientNorm(),
            StopOnNonFiniteLoss(run_dir=self.run_dir),
            PredictionsFile(run_dir=self.run_dir),
        ]
        if options.tracking.media_every_n_epochs and any(isinstance(logger, WandbLogger) for logger in loggers):
            found.append(WandbMedia(every_n_epochs=options.tracking.media_every_n_epochs))
        if options.trainer.enable_checkpointing is not False:
            found += checkpoints(self.run_dir, monitor="val/acc" if self.datamodule.has_val else None)
        return found

    def plain_config(self) -> dict[str, Any]:
        """Return the resolved configuration as plain types, without what belongs to this one run folder."""
        parser = self._parser(self.subcommand)
        config = yaml.safe_load(parser.dump(self.config[str(self.subcommand)], skip_none=False, skip_validation=True))
        return _shared({**config, "base": None, "run_dir": None, "resume": "auto"})

    def before_fit(self) -> None:
        """Find what is wrong with options and data, then make the run folder."""
        check_training(
            self.model.optim,
            epochs=self.trainer.max_epochs or 0,
            precision=self.trainer.precision,
            device_type=self.trainer.strategy.root_device.type,
            compile=self.model.compile_net,
            accumulate=self.trainer.accumulate_grad_batches,
        )
        self.datamodule.prepare(self.trainer)
        if self.dry or not self.trainer.is_global_zero:
            return
        self.run_dir.mkdir(parents=True, exist_ok=True)
        for logger in self.trainer.loggers:
            if isinstance(logger, WandbLogger):
                claim_run_id(logger, self.run_dir)
        config = yaml.safe_dump(self.plain_config(), sort_keys=False, allow_unicode=True)
        write_atomically(self.run_dir / "config.yaml", f"# cct fit --config {self.run_dir.name}/config.yaml\n{config}")
        print(opening(self.model, self.datamodule, self.record.summary))
        continued = f", continued from {self.checkpoint.name}" if self.checkpoint else ""
        print(f"Run folder {relative(self.run_dir)}{continued}")
        if self.note:
            print(self.note)

    def fit(self, model: Classifier, datamodule: ImageDataModule) -> None:
        """Train, then test the best epoch once."""
        if self.dry:
            self.trainer.fit(model, datamodule=datamodule)
            return
        self.trainer.fit(model, datamodule=datamodule, ckpt_path=self.checkpoint, weights_only=True)
        if self.trainer.interrupted:
            return
        best = self.run_dir / ("best.ckpt" if datamodule.has_val else "last.ckpt")
        if self.config.fit.test_best and datamodule.has_test:
            self.trainer.test(model, datamodule=datamodule, ckpt_path=best, verbose=False, weights_only=True)
        self.record.finish(self.trainer)
        self.upload()
        if self.trainer.is_global_zero:
            print(report(self.record.summary, self.run_dir, best))

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
            if isinstance(logger, WandbLogger) and (online if wanted is None else wanted):
                print(upload_checkpoints(logger, self.run_dir, self.record.summary))


def _shared(value: Any) -> Any:
    # A path below the home folder is written as ~/..., so that a shared config names no user.
    if isinstance(value, dict):
        return {key: _shared(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_shared(item) for item in value]
    return tilde(value) if isinstance(value, str) else value


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [] if value is None else [value]


def run_lightning(args: list[str]) -> None:
    """Run `fit`, `validate` or `test`.

    Raises:
        InputError: What the user asked for cannot be done.
    """
    quiet_libraries()
    if args[0] != "fit":
        args = with_checkpoint_options(args)
    try:
        CctCLI(args)
    except MisconfigurationException as error:
        raise InputError(" ".join(str(error).split())) from error
    except TrainingFailed as error:
        print(f"cct {args[0]}: {error}", file=sys.stderr)
        sys.exit(1)
