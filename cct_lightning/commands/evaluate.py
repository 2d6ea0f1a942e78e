"""`cct validate` and `cct test`: evaluate a checkpoint with the options of the run that it comes from."""

import copy
import functools
import re
from collections.abc import Container, Sequence
from pathlib import Path

import pytorch_lightning as pl
from jsonargparse import Namespace
from pytorch_lightning.loggers import WandbLogger

from cct_lightning.commands.failures import exit_on_known_errors
from cct_lightning.config.options import CODE, LINKS, SEED
from cct_lightning.config.own_code import changed_code, check_plain, import_paths
from cct_lightning.config.parser import instantiate, parse, plain
from cct_lightning.config.recipes import expand_configs
from cct_lightning.config.resolved import ResolvedConfig
from cct_lightning.config.world import find_world
from cct_lightning.data.arguments import seed32
from cct_lightning.errors import InputError
from cct_lightning.models.weights.reader import read_checkpoint
from cct_lightning.runs.folder import RunFolder
from cct_lightning.system.importing import check_imports
from cct_lightning.system.places import local_path
from cct_lightning.tracking.connection import wandb_mode
from cct_lightning.tracking.progress import quiet_libraries, with_progress
from cct_lightning.tracking.wandb_logger import wandb_logger
from cct_lightning.training.checks import match_classes
from cct_lightning.training.trainer import build_trainer

_PLACES = ("root", "cache_dir")  # options of the data that say where files are


def evaluate(command: str, args: Sequence[str]) -> None:
    """Run the command `validate` or `test`; in `args`, the words after it, options win over those of the checkpoint.

    Raises:
        InputError: What the user asked for cannot be done.
    """
    quiet_libraries()
    with exit_on_known_errors(command):
        options = evaluation_options(command, args)
        world = find_world(options.trainer)
        pl.seed_everything(seed32(SEED, options[SEED]), workers=True)
        built = instantiate(command, options)
        checkpoint = read_checkpoint(Path(options.ckpt_path))
        match_classes(built.model, built.data, checkpoint)
        if changed := changed_code((checkpoint.get("config") or {}).get(CODE), plain(options)):
            print(f"The code of {', '.join(changed)} has changed since the run was trained.")
        logger: WandbLogger | bool = False
        mode, why = wandb_mode(options.tracking.mode)
        tracked = "wandb" in built.tracking.loggers and mode != "disabled"
        if command == "test" and options.run_dir is not None and tracked:
            folder = local_path(options.run_dir).absolute()
            config = ResolvedConfig.resolve(plain(options))
            logger = wandb_logger(folder, options.tracking, mode=mode, why_offline=why, config=config, job_type="test")
        launch = world.trainer_options(built.trainer.plugins)
        launch |= with_progress(built.trainer.callbacks, wanted=built.trainer.enable_progress_bar)
        trainer = build_trainer(built.trainer, logger=logger, enable_checkpointing=False, **launch)
        limit = "limit_test_batches" if command == "test" else "limit_val_batches"
        if getattr(trainer, limit) == 0:
            raise InputError(f"trainer.{limit} 0 evaluates nothing: give at least 1.")
        run = trainer.test if command == "test" else trainer.validate
        run(built.model, datamodule=built.data, ckpt_path=options.ckpt_path, weights_only=True)


validate_command = functools.partial(evaluate, "validate")
test_command = functools.partial(evaluate, "test")


def _repeated(words: Sequence[str], *, named: Container[str]) -> set[str]:
    """Return what the user types, but for the names of files (`named`), which their authors choose."""
    kept: list[str] = []
    for before, word in zip(["", *words], words, strict=False):
        if word.partition("=")[0] not in named and before not in named:
            kept.append(word)
    return {token for word in expand_configs(kept) for token in re.split(r"[\s=:,\[\]{}\"']+", word)}


def evaluation_options(command: str, args: Sequence[str]) -> Namespace:
    """Parse the words of `test` or `validate` on top of the model and the data of the run that a checkpoint comes from.

    `--run_dir DIR` means its best checkpoint, and its folders and tracking as config.yaml there says.

    Raises:
        InputError: No checkpoint is given, or it cannot be used.
    """
    rest = list(args)
    found: dict[str, str | None] = {"--ckpt_path": None, "--run_dir": None}
    for word, value in zip(rest, [*rest[1:], ""], strict=False):
        option, equals, inline = word.partition("=")
        if option in found:
            found[option] = inline if equals else value
    path, run_dir = found["--ckpt_path"], found["--run_dir"]
    folder = None if run_dir is None else RunFolder(local_path(run_dir))
    if path is None and folder is not None:
        checkpoint = folder.to_test
        if not checkpoint.is_file():
            raise InputError(f"No checkpoint in {run_dir}: --run_dir takes the folder of a run of `cct fit`.")
        path = str(checkpoint)
        rest.append(f"--ckpt_path={path}")
    if path is None:
        if "--print_config" in {word.partition("=")[0] for word in rest}:
            return parse(command, rest)
        raise InputError(f"`cct {command}` needs a trained model: give --run_dir RUN_FOLDER or --ckpt_path FILE.")
    content = read_checkpoint(Path(path))
    hparams = content["hyper_parameters"]
    # A converted checkpoint names its model alone; the data comes from the command line.
    config = content.get("config") or {"model": {k: v for k, v in hparams.items() if k not in LINKS}}
    base = copy.deepcopy({key: config[key] for key in ("model", "data", SEED) if key in config})
    if damaged := [key for key in ("model", "data") if not isinstance(base.get(key, {}), dict)]:
        raise InputError(f"The checkpoint {path} is damaged: its options of the {damaged[0]} are no options.")
    # A checkpoint may be anybody's: where data and results are, only the user says, who may name the run's own folder.
    data, own = base.setdefault("data", {}), folder.config() if folder is not None else None
    places = {key: data.pop(key, None) for key in _PLACES}
    if own is not None:
        data |= {key: own.options["data"].get(key) for key in _PLACES}
        base["tracking"] = own.options.get("tracking", {})
    elif (root := places["root"]) is not None and not any(word.startswith("--data.root") for word in args):
        print(f"The data.root of the checkpoint ({root}) is not followed: say --data.root, or --run_dir.")
    # The weights are in the checkpoint, and with them the position embedding that they hold.
    if base.get("model", {}).pop("pretrained", None) and "position" in hparams:
        base["model"]["position"] = hparams["position"]
    pictures = base.get("tracking", {}).get("pictures") or ()
    named = import_paths(base) | {str(picture) for picture in pictures if "." in str(picture)}
    check_imports(named, Path(path), _repeated(rest, named=found))
    theirs = {"model": base.get("model"), "data": {key: value for key, value in data.items() if key not in _PLACES}}
    check_plain(theirs, Path(path))
    return parse(command, rest, base=base)
