"""`make options`: the table of options, from the parsers themselves. Imports everything that the commands import."""

import argparse
import importlib
import itertools
import json
import re
from collections.abc import Callable, Iterable
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin

import docstring_parser
import pytorch_lightning as pl

from cct_lightning.ablation.grid import ablations
from cct_lightning.commands.help.table import CHOICE, LIKE, RUN_COMMANDS, TABLE
from cct_lightning.commands.main import COMMANDS
from cct_lightning.commands.models import models_parser
from cct_lightning.commands.parser import function_parser
from cct_lightning.compat import parser_actions, type_of_option
from cct_lightning.config.parser import run_parser
from cct_lightning.config.recipes import recipes
from cct_lightning.data.augment.policies import POLICIES
from cct_lightning.data.datasets.sources import SOURCES
from cct_lightning.models.arch import BASELINES, PUBLISHED
from cct_lightning.models.complexity import POOL_COSTS, POSITION_COSTS, TOKENIZER_COSTS
from cct_lightning.system.atomic import write_text
from cct_lightning.training.loss import LOSSES
from cct_lightning.training.optim.optimizers import OPTIMIZERS

# Last part of an option's name, or all of it -> values to complete, where others are possible, too.
_VALUES: dict[str, Iterable[str]] = {
    "config": recipes(),
    "grid": ablations(),
    "ablation": ablations(),
    "arch": (*PUBLISHED, *BASELINES),
    "names": (*PUBLISHED, *BASELINES),
    "tokenizer": TOKENIZER_COSTS,
    "pool": POOL_COSTS,
    "position": POSITION_COSTS,
    "loss": LOSSES,
    "optimizer": OPTIMIZERS,
    "data.name": sorted(SOURCES),
    "augment": POLICIES,
    "resume": ("auto", "never"),
    "tracking.logger": ("wandb", "tensorboard", "mlflow", "csv"),
    "accelerator": ("auto", "cpu", "gpu", "mps"),
    "strategy": ("auto", "ddp", "fsdp"),
    "device": ("auto", "cpu", "cuda", "mps"),
}

# What libraries say of these differs between their versions.
_HELP = {"print_config": "Print all options with their values, and stop; `=skip_default` leaves the defaults out."}


def types(hint: Any) -> tuple[list[str], list[str | int]]:
    """Return the names of the types that an annotation takes, and its choices."""
    origin, arguments = get_origin(hint), get_args(hint)
    if origin in (Union, UnionType):
        names, choices = zip(*map(types, arguments), strict=True)
        return list(dict.fromkeys(itertools.chain(*names))), list(itertools.chain(*choices))
    if origin is Literal:
        return [CHOICE], list(arguments)
    if isinstance(origin, type):
        items = dict.fromkeys(name for argument in arguments for name in types(argument)[0])
        kind = {"Sequence": "list", "Iterable": "list"}.get(origin.__name__, origin.__name__)
        return [f"{kind} of {', '.join(items)}" if kind in ("list", "tuple") and CHOICE not in items else kind], []
    return ([] if hint is None else ["null" if hint is NoneType else hint.__name__]), []


def _plain(documentation: str) -> str:
    """Return documentation in one line, without the roles of Sphinx: :class:`~a.b.Name` is `Name`."""
    return " ".join(re.sub(r":\w+:`~?(?:[\w.]+\.)?([^`]+)`", r"`\1`", documentation).replace("``", "`").split())


def _option(action: argparse.Action) -> dict[str, Any]:
    """Return what the table holds of an option; what is empty is left out."""
    names, choices = types(type_of_option(action))
    if action.const is True:  # argparse's store_true
        names = ["bool"]
    found = {
        "name": action.dest,
        "types": names,
        "choices": choices,
        "values": list(_VALUES.get(action.dest) or _VALUES.get(action.dest.rpartition(".")[2]) or ()),
        "positional": not action.option_strings,
        "several": action.nargs in ("+", "*"),
        "help": _HELP.get(action.dest) or _plain(action.help or ""),
    }
    found = {key: value for key, value in found.items() if value}
    if action.default not in (None, argparse.SUPPRESS, [], ()):
        found["default"] = str(action.default) if isinstance(action.default, Path) else action.default
    return found


def _command(parser: argparse.ArgumentParser, summary: str) -> dict[str, Any]:
    # jsonargparse adds an option of its own when it parses.
    actions = [action for action in parser_actions(parser) if action.dest != "print_shtab"]
    names = [action.dest for action in actions]
    groups = {name for name in names if any(f"{name}." in other and not other.endswith(".help") for other in names)}
    shown = [
        action
        for action in actions
        # Left out: help of classes, groups of options, and what is linked, as `data.classes --> model.classes` is.
        if action.dest.rpartition(".")[2] != "help"
        and action.dest not in groups
        and not any(" " in word for word in action.option_strings)
    ]
    options = [_option(action) for action in shown]
    for action in actions:
        for option in options:
            if action.dest == f"{option['name']}.help":
                option["help"] += f" Its arguments: --{action.dest}{'' if action.nargs == 0 else ' CLASS'}."
    return {"summary": summary, "options": options, "names": names}


def build() -> dict[str, Any]:
    """Return the table."""
    commands = {}
    for name, (text, path) in COMMANDS.items():
        if name in RUN_COMMANDS:
            found = _command(run_parser(name), text)
        elif name == "models":
            parser = models_parser()
            found = {**_command(parser, text), "note": parser.epilog}
        else:
            module, _, function_name = path.partition(":")
            function: Callable[..., Any] = getattr(importlib.import_module(f"cct_lightning.{module}"), function_name)
            doc = docstring_parser.parse(function.__doc__ or "")
            found = _command(function_parser(function, prog=f"cct {name}"), doc.short_description or text)
            found["note"] = " ".join((doc.long_description or "").split())
        commands[name] = found
    for name in RUN_COMMANDS:
        if name != LIKE:  # what is said of `fit` is not said again
            commands[name]["options"] = [
                one for one in commands[name]["options"] if one not in commands[LIKE]["options"]
            ]
            commands[name]["names"] = [one for one in commands[name]["names"] if one not in commands[LIKE]["names"]]
    return {"lightning": pl.__version__, "commands": commands}


def as_text(table: dict[str, Any]) -> str:
    """Return the table as JSON with one option per line, so that its changes can be read."""
    commands = []
    for name, command in table["commands"].items():
        rest = {key: value for key, value in command.items() if key != "options"}
        options = ",\n".join(json.dumps(option, ensure_ascii=False) for option in command["options"])
        commands.append(f'{json.dumps(name)}: {json.dumps(rest)[:-1]}, "options": [\n{options}\n]}}')
    joined = ",\n".join(commands)
    return f'{{"lightning": {json.dumps(table["lightning"])}, "commands": {{\n{joined}\n}}}}\n'


if __name__ == "__main__":
    write_text(TABLE, as_text(build()))
