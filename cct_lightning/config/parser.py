"""The options of `cct fit`, `cct test` and `cct validate`: of model, data, Trainer and the run itself.

Names, types, defaults and help come from the signatures of `Classifier`, `ImageDataModule`, `Tracking` and Lightning's
`Trainer`; what is listed here belongs to a run alone.
"""

import functools
from collections.abc import Mapping, Sequence
from enum import Enum
from typing import Any

import torch
import yaml
from jsonargparse import ActionConfigFile, Namespace
from jsonargparse.typing import NonNegativeFloat, register_type
from pytorch_lightning import Trainer
from pytorch_lightning.cli import LightningArgumentParser

from cct_lightning.compat import whole_numbers_first
from cct_lightning.config.one_sentence import OneSentence, class_problem
from cct_lightning.config.options import CLASSES, DEFAULT_SEED, LINKS, PARTS, SEED, WHOLE_OR_SHARE
from cct_lightning.config.recipes import expand_configs
from cct_lightning.config.tracking import Tracking
from cct_lightning.data.datamodule import ImageDataModule
from cct_lightning.errors import InputError
from cct_lightning.models.compact import PART_CLASSES
from cct_lightning.models.parts import complete_spec, plain_spec
from cct_lightning.training.module import Classifier

# Parts of the model, which are written with all arguments where they are the user's own.
BASES = {f"model.{part}": classes for part, classes in PART_CLASSES.items()}

# Defaults of Lightning's classes that config.yaml holds in a form that can be read back: Timer's interval, and the
# device of StochasticWeightAveraging.
yaml.SafeDumper.add_multi_representer(Enum, lambda dumper, member: dumper.represent_data(member.value))
register_type(torch.device)


class RunParser(OneSentence, LightningArgumentParser):
    """Lightning's parser, with errors in one sentence and without abbreviated options."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **{**kwargs, "allow_abbrev": False})  # jsonargparse builds inner parsers with more


@functools.cache
def run_parser(command: str) -> RunParser:
    """Return the parser of a command.

    Args:
        command: `fit`, `test` or `validate`.
    """
    parser = RunParser(prog=f"cct {command}", description=f"Options of `cct {command}`.")
    parser.add_argument(
        "-c", "--config", action=ActionConfigFile, help="A recipe by name, or a YAML file; several may follow."
    )
    parser.add_argument(
        f"--{SEED}",
        type=int,
        default=DEFAULT_SEED,
        help="Seed of the weights, the order of the images, augmentation and dropout.",
    )
    whole_numbers_first(Trainer.__init__, (key.removeprefix("trainer.") for key in WHOLE_OR_SHARE))
    parser.add_lightning_class_args(Trainer, "trainer")
    # The first lines of a run say what the summary would.
    parser.set_defaults({"trainer.enable_model_summary": False})
    parser.add_lightning_class_args(Classifier, "model")
    parser.add_lightning_class_args(ImageDataModule, "data")
    parser.add_argument(
        "--run_dir", type=str | None, default=None, help="Folder of the run; a fresh one under runs/ when null."
    )
    parser.add_argument(
        "--resume",
        type=str,
        default="auto",
        help="Continue from: `auto`, `never` or a checkpoint. `auto` is last.ckpt where the run folder has one, "
        "`never` refuses such a folder, a checkpoint is given by its path.",
    )
    parser.add_argument(
        "--save_every_minutes",
        type=NonNegativeFloat,
        default=10.0,
        help="Minutes between saves of last.ckpt in an epoch. The end of an epoch saves, too, on a GPU at most every "
        "30 seconds.",
    )
    parser.add_argument(
        "--test_best",
        type=bool,
        default=True,
        help="Test the best epoch once, at the end of fit, where the data has a test split.",
    )
    if command != "fit":
        parser.add_argument("--ckpt_path", type=str | None, default=None, help="Checkpoint of a run to evaluate.")
        allow = "Import paths of your own classes that the checkpoint may name, such as my_lab.GemPool."
        parser.add_argument("--allow_import", type=str, nargs="+", default=[], help=allow)
    parser.add_class_arguments(Tracking, "tracking")
    parser.link_arguments(SEED, "data.seed")
    for name in LINKS:
        parser.link_arguments(f"data.{name}", f"model.{name}", apply_on="instantiate")
    return parser


def parse(command: str, args: Sequence[str], *, base: Mapping[str, Any] | None = None) -> Namespace:
    """Parse the words of a command; see `run_parser`.

    Args:
        command: `fit`, `test` or `validate`.
        args: The words after it; recipes by name.
        base: Options below those of the words: of the run that a checkpoint comes from.

    Raises:
        InputError: No such recipe, or a wrong option.
        SystemExit: Help was asked for.
    """
    options: Namespace = run_parser(command).parse_args(expand_configs(args, base=base))
    for key in CLASSES:
        # Of a type that takes any text, the parser takes this for one, too; it means what the model's name decides.
        if options.get(key) == "null" and key.removeprefix("model.") in PARTS:
            options[key] = None
        if options.get(key) is not None:
            part = BASES.get(key)
            options[key] = complete_spec(key, options[key], *part) if part else plain_spec(key, options[key])
    return options


def instantiate(command: str, options: Namespace) -> Namespace:
    """Build model, data and the classes that parsed options name.

    Raises:
        InputError: One cannot be built so: an argument is wrong, or a package is missing.
    """
    try:
        built: Namespace = run_parser(command).instantiate(options)
    except ValueError as error:
        if isinstance(error, InputError) or not str(error).startswith(
            ("Does not validate", "Problem with given class")
        ):
            raise
        raise InputError(class_problem(str(error))) from error
    return built


def plain(options: Namespace) -> dict[str, Any]:
    """Return parsed options as nested plain values."""
    found = yaml.safe_load(run_parser("fit").dump(options, skip_unset=False, skip_validation=True))
    return {key: value for key, value in found.items() if key not in ("ckpt_path", "allow_import")}


def defaults(group: str) -> dict[str, Any]:
    """Return the default options of `model`, `data` or `trainer`."""
    return plain(run_parser("fit").get_defaults())[group]
