"""`cct fit | validate | test`: LightningCLI with the project's parts, run folder and messages."""

from pathlib import Path
from typing import Any

import torch
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
from cct_lightning.models.summary import summarize
from cct_lightning.tracking.callback import RunRecord
from cct_lightning.tracking.checkpoints import RunCheckpoint
from cct_lightning.tracking.loggers import MetricsCsv, Tracking, claim_run_id, wandb_logger, wandb_mode
from cct_lightning.tracking.media import WandbMedia, upload_checkpoints
from cct_lightning.tracking.predictions import PredictionsFile
from cct_lightning.tracking.progress import Progress, progress, quiet_libraries
from cct_lightning.tracking.run_dir import check_writable, choose_run_dir, tilde, write_atomically
from cct_lightning.training.module import Classifier

# What the data decides and the model needs: linked, never typed twice.
LINKS = ("img_size", "in_chans", "num_classes", "classes", "mean", "std")


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
        mode, self.note = wandb_mode(options.tracking.mode)
        loggers: list[Logger] = [MetricsCsv(self.run_dir)]
        if config.logger is None or config.logger is True:
            if mode != "disabled":
                loggers.append(
                    wandb_logger(
                        self.run_dir,
                        options.tracking,
                        mode=mode,
                        name=run_name(self.model, self.datamodule),
                        tags=tags(self.model, self.datamodule),
                        job_type="fit",
                    )
                )
        elif config.logger:
            loggers += config.logger if isinstance(config.logger, list) else [config.logger]
        self.record = RunRecord(run_dir=self.run_dir, config=self.plain_config(), costs=costs(self.model))
        ours: list[Callback] = [self.record, LearningRateMonitor("step"), PredictionsFile(run_dir=self.run_dir)]
        if options.tracking.media_every_n_epochs and any(isinstance(logger, WandbLogger) for logger in loggers):
            ours.append(WandbMedia(every_n_epochs=options.tracking.media_every_n_epochs))
        if config.enable_progress_bar is not False:
            ours.append(progress())
            # Lightning would add its own bar beside the lines of a log file.
            kwargs["enable_progress_bar"] = isinstance(ours[-1], Progress)
        if config.enable_checkpointing is not False:
            ours += checkpoints(self.run_dir, monitor="val/acc" if self.datamodule.has_val else None)
        callbacks = config.callbacks or []
        callbacks = [*(callbacks if isinstance(callbacks, list) else [callbacks]), *ours]
        root = config.default_root_dir or str(self.run_dir)
        return super().instantiate_trainer(logger=loggers, callbacks=callbacks, default_root_dir=root, **kwargs)

    def plain_config(self) -> dict[str, Any]:
        """Return the resolved configuration as plain types, without what belongs to this one run folder."""
        parser = self._parser(self.subcommand)
        config = yaml.safe_load(parser.dump(self.config[str(self.subcommand)], skip_none=False, skip_validation=True))
        return _tilde({**config, "base": None, "run_dir": None, "resume": "auto"})

    def before_fit(self) -> None:
        """Find what is wrong with the data, then make the run folder."""
        self.datamodule.prepare()
        if self.dry or not self.trainer.is_global_zero:
            return
        self.run_dir.mkdir(parents=True, exist_ok=True)
        for logger in self.trainer.loggers:
            if isinstance(logger, WandbLogger):
                claim_run_id(logger, self.run_dir)
        config = yaml.safe_dump(self.plain_config(), sort_keys=False, allow_unicode=True)
        write_atomically(self.run_dir / "config.yaml", f"# cct fit --config {self.run_dir.name}/config.yaml\n{config}")
        print(self.opening())
        if self.note:
            print(self.note)

    def opening(self) -> str:
        """Return the lines that say what is about to be trained, on what, and where it goes."""
        data, summary = self.datamodule, self.record.summary
        images = ", ".join(f"{len(index):,} {split}" for split, index in data.index.items() if len(index))
        height, width = data.img_size
        tokens = f", {summary['tokens']} tokens" if summary["tokens"] else ""
        where = relative(self.run_dir) + (f", continued from {self.checkpoint.name}" if self.checkpoint else "")
        return (
            f"{self.model.hparams['arch']}: {summary['params']:,} parameters, "
            f"{summary['macs'] / 1e6:,.1f} M MACs{tokens}\n"
            f"{data.name}: {images} images of {height}x{width}, {data.num_classes} classes\n"
            f"Run folder {where}"
        )

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
        return wandb_logger(
            choose_run_dir(options.run_dir, ""),
            options.tracking,
            mode=mode,
            name=run_name(self.model, self.datamodule),
            tags=tags(self.model, self.datamodule),
            job_type="test",
        )

    def upload(self) -> None:
        """Log the checkpoints to W&B: by default only where it is online, since offline they are copied."""
        wanted = self.config.fit.tracking.artifacts
        for logger in self.trainer.loggers if self.trainer.is_global_zero else ():
            online = isinstance(logger, WandbLogger) and not logger._offline
            if isinstance(logger, WandbLogger) and (online if wanted is None else wanted):
                print(upload_checkpoints(logger, self.run_dir, self.record.summary))


def run_name(model: Classifier, data: ImageDataModule) -> str:
    """Return data set, model and what differs from the model's name: `cifar10-cct_7_3x1-pool=class_token`."""
    # Dropout rates and the like are told from the configuration, not from the name.
    parts = [f"{key}={value}" for key, value in model.parts.items() if not key.endswith(("drop", "rate"))]
    return "-".join([str(data.name), str(model.hparams["arch"]), *parts])


def tags(model: Classifier, data: ImageDataModule) -> list[str]:
    """Return W&B's tags: data set, model and its parts."""
    arch = getattr(model.net, "arch", None)
    parts = [arch.tokenizer, arch.pool, f"position-{arch.position}"] if arch is not None else []
    return [str(data.name), str(model.hparams["arch"]), *parts]


def costs(model: Classifier) -> dict[str, Any]:
    """Return parameters and MACs of the model, for the summary."""
    cost = summarize(model.net, tuple(model.hparams["img_size"]), model.hparams["in_chans"])
    return {"params": cost.params, "macs": cost.macs, "tokens": cost.tokens}


def checkpoints(run_dir: Path, *, monitor: str | None) -> list[Callback]:
    """Return the callbacks that keep best.ckpt and last.ckpt.

    Two, because ModelCheckpoint's own `save_last` leaves last.ckpt stale in epochs that are not among the best.
    """
    last = RunCheckpoint(
        dirpath=run_dir,
        filename="last",
        monitor=None,
        save_top_k=1,
        every_n_epochs=1,
        save_on_train_epoch_end=True,
        save_on_exception=True,
        enable_version_counter=False,
    )
    if monitor is None:
        return [last]
    best = RunCheckpoint(
        dirpath=run_dir, filename="best", monitor=monitor, mode="max", save_top_k=1, enable_version_counter=False
    )
    return [best, last]


def find_checkpoint(run_dir: Path, resume: str) -> Path | None:
    """Return the checkpoint to continue from.

    Args:
        run_dir: Run folder.
        resume: `auto`, `never`, or a path.

    Raises:
        InputError: The path is no file, or the folder holds a run that must not be continued.
    """
    last = run_dir / "last.ckpt"
    if resume == "auto":
        return last if last.is_file() else None
    if resume == "never":
        if (run_dir / "config.yaml").exists():
            raise InputError(
                f"{run_dir} holds a run already: choose another --run_dir, or --resume auto to continue it."
            )
        return None
    if not Path(resume).is_file():
        raise InputError(f"No checkpoint at {resume}: --resume takes auto, never, or the path of a checkpoint.")
    return Path(resume)


def _tilde(value: Any) -> Any:
    # A path below the home folder is written as ~/..., so that a shared config names no user.
    if isinstance(value, dict):
        return {key: _tilde(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_tilde(item) for item in value]
    return tilde(value) if isinstance(value, str) else value


def relative(path: Path) -> str:
    """Return a path as the user would type it: relative to the working directory when it lies below."""
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else _tilde(str(path))


def report(summary: dict[str, Any], run_dir: Path, checkpoint: Path) -> str:
    """Return the closing lines of a run."""
    lines = []
    for key, title in (("test/acc", "test accuracy"), ("best_val/acc", "best validation accuracy")):
        if key in summary:
            lines.append((title, f"{100 * summary[key]:.2f} %"))
    offline = sorted((run_dir / "wandb").glob("*run-*"))
    lines += [("training", f"{summary['train_seconds']:.0f} s, {summary.get('images_per_s', 0):,.0f} images/s")]
    lines += [("run folder", relative(run_dir)), ("checkpoint", relative(checkpoint))]
    lines += [("W&B run", relative(offline[-1]))] if offline else []
    return "\n".join(f"{title:26}{value}" for title, value in lines)


def with_checkpoint_options(args: list[str]) -> list[str]:
    """Give `validate` and `test` the options of the run that a checkpoint comes from.

    `--run_dir DIR` stands for its best checkpoint. The run's model and data come first, so that the options
    of the command line win.
    """
    command, *rest = args
    options: dict[str, str | None] = {"--ckpt_path": None, "--run_dir": None}
    for word, value in zip(rest, [*rest[1:], ""], strict=False):
        option, equals, inline = word.partition("=")
        if option in options:
            options[option] = inline if equals else value
    path, run_dir = options["--ckpt_path"], options["--run_dir"]
    if path is None and run_dir is not None:
        folder = Path(run_dir)
        found = [folder / name for name in ("best.ckpt", "last.ckpt") if (folder / name).is_file()]
        if not found:
            raise InputError(f"No checkpoint in {folder}: --run_dir takes the folder of a run of `cct fit`.")
        path = str(found[0])
        rest.append(f"--ckpt_path={path}")
    if path is None:
        if {"--help", "-h", "--print_config"} & {word.partition("=")[0] for word in rest}:
            return args
        raise InputError(f"`cct {command}` needs a trained model: give --run_dir RUN_FOLDER or --ckpt_path FILE.")
    checkpoint = read_checkpoint(Path(path))
    config = checkpoint.get("config", {})
    kept = {key: config[key] for key in ("model", "data", "seed_everything", "tracking") if key in config}
    # The weights are in the checkpoint, and with them the position embedding that they hold.
    if kept.get("model", {}).pop("pretrained", None) and "position" in checkpoint["hyper_parameters"]:
        kept["model"]["position"] = checkpoint["hyper_parameters"]["position"]
    return [command, f"--config={yaml.safe_dump(kept)}", *rest]


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Read a checkpoint without running any code that it may hold.

    Raises:
        InputError: No file, or none that PyTorch's safe loader accepts.
    """
    try:
        return torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except FileNotFoundError:
        raise InputError(f"No checkpoint at {path}.") from None
    except Exception as error:
        reason = str(error).splitlines()[0]
        raise InputError(f"{path} is not a checkpoint that can be read safely ({reason}).") from error


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
