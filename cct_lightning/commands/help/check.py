"""Typos and wrong values of plain options, found from the table: the parser itself needs seconds of imports.

What this does not know for sure it leaves to the parser: arguments of classes, values of other types, and the Trainer's
options where another version of Lightning is installed than the table was made with.
"""

import re
from collections.abc import Sequence
from functools import reduce
from importlib.metadata import version
from operator import or_
from typing import Any, Literal

import yaml

from cct_lightning.commands.help.table import CHOICE, RUN_COMMANDS, Option, command, lightning_version
from cct_lightning.config.options import flatten
from cct_lightning.config.recipes import expand_configs, recipes
from cct_lightning.errors import InputError

_PLAIN = {"int": int, "float": float, "bool": bool, "null": type(None)}


def spelled(args: Sequence[str], flags: Sequence[str]) -> list[str]:
    """Return the words after a command as its parser takes them: --dry-run is --dry_run, and a flag alone is true."""
    words: list[str] = []
    for word, following in zip(args, [*args[1:], ""], strict=False):
        option, equals, value = word.partition("=")
        if option.startswith("--"):
            option = "--" + option[2:].replace("-", "_")
            if option[2:] in flags and not equals and following.lower() not in ("true", "false"):
                equals, value = "=", "true"
        words.append(option + equals + value)
    return words


def check(name: str, args: Sequence[str]) -> None:
    """Check the words after a command as far as the table tells.

    Args:
        name: The command.
        args: The words after it; recipes by name.

    Raises:
        InputError: No such recipe, an unknown option, or a value that a plain option cannot have.
    """
    found = command(name)
    options = {option.name: option for option in found.options if not option.positional}
    if name not in RUN_COMMANDS:
        words = spelled(args, [key for key, option in options.items() if option.types == ("bool",)])
    elif args and args[0] in recipes():
        raise InputError(f"Unknown option: {args[0]}. Did you mean '--config {args[0]}'?")
    else:
        words = expand_configs(args)
    plain: list[str] = []
    for word, following in zip(words, [*words[1:], "--"], strict=False):
        key, equals, content = word.removeprefix("--").partition("=")
        if word == "--":
            break
        if not word.startswith("--") or " " in key:
            continue
        value = [] if equals or following.startswith("--") else [following]
        if key == "config":
            given = [(inner, inner) for inner, _ in flatten(yaml.safe_load(content))]  # of a recipe
        else:
            given = [(key, " ".join([word, *value]))]
        for wanted, typed in given:
            if not _is_known(re.sub(r"\+(?=\.|$)", "", wanted), found.names, options):
                from cct_lightning.config.one_sentence import unknown_option

                raise InputError(unknown_option(typed, found.names))
        if key in options and not _may_differ(key) and _annotation(options[key]) is not None:
            plain += [word, *value]
    if plain:
        _parse(name, plain, options)


def _may_differ(key: str) -> bool:
    return key.startswith("trainer.") and version("pytorch-lightning") != lightning_version()


def _is_known(key: str, names: Sequence[str], options: dict[str, Option]) -> bool:
    """Tell whether a name is an option, or may be an argument of a class that an option names: `model.pool.k`."""
    parts = key.split(".")
    return key in names or any(".".join(parts[:n]) in options for n in range(1, len(parts))) or _may_differ(key)


def _annotation(option: Option) -> Any:
    """Return the type that an option is parsed by; None where it needs more than Python's own types."""
    plain: dict[str, Any] = dict(_PLAIN)
    if option.choices and all(isinstance(choice, str) for choice in option.choices):
        plain[CHOICE] = Literal[option.choices]
    if not option.types or option.several or not set(option.types) <= plain.keys():
        return None
    return reduce(or_, (plain[name] for name in option.types))


def _parse(name: str, words: Sequence[str], options: dict[str, Option]) -> None:
    """Parse the plain options, which says what is wrong as the whole parser would."""
    from cct_lightning.config.one_sentence import OneSentence

    parser = OneSentence(prog=f"cct {name}", allow_abbrev=False)
    for key in dict.fromkeys(word[2:].partition("=")[0] for word in words if word.startswith("--")):
        parser.add_argument(f"--{key}", type=_annotation(options[key]))
    parser.parse_args(words)
