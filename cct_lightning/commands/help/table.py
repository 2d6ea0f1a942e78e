"""The table of options: what `options.json` holds of each command."""

import functools
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

TABLE = Path(__file__).with_name("options.json")

LIKE = "fit"
RUN_COMMANDS = (LIKE, "validate", "test")  # they share one parser; the table has what they add to `fit`
CHOICE = "choice"  # among the types of an option: one of its `choices`


@dataclass(frozen=True, kw_only=True)
class Option:
    """An option or a positional argument.

    Attributes:
        name: As on the command line, without `--`.
        help: Its documentation.
        types: What it takes, such as `int` and `null`; `choice` stands for the choices. Empty: not said.
        default: Of plain data; None: there is none, or it is null.
        choices: What `choice` stands for; 16 and "16" may both be there.
        values: Values to complete, where others are possible.
        positional: It is given without its name.
        several: It takes several words.
    """

    name: str
    help: str
    types: tuple[str, ...] = ()
    default: Any = None
    choices: tuple[str | int, ...] = ()
    values: tuple[str, ...] = ()
    positional: bool = False
    several: bool = False


@dataclass(frozen=True, kw_only=True)
class Command:
    """A command.

    Attributes:
        summary: What it does.
        options: Those that help shows.
        names: All names that the parser knows, also those that have no page: groups, linked options.
        note: What follows the options in its help.
    """

    summary: str
    options: tuple[Option, ...]
    names: tuple[str, ...]
    note: str = ""


@functools.cache
def _content() -> dict[str, Any]:
    content: dict[str, Any] = json.loads(TABLE.read_text(encoding="utf-8"))
    return content


def lightning_version() -> str:
    """Return the version of Lightning whose Trainer the table describes."""
    return str(_content()["lightning"])


@functools.cache
def command(name: str) -> Command:
    """Return what the table holds of a command."""
    found = _content()["commands"][name]
    options = tuple(_option(one) for one in found["options"])
    names = tuple(found["names"])
    if name in RUN_COMMANDS and name != LIKE:
        options, names = options + command(LIKE).options, names + command(LIKE).names
    return Command(summary=found["summary"], options=options, names=names, note=found.get("note", ""))


def _option(found: dict[str, Any]) -> Option:
    frozen: dict[str, Any] = {key: tuple(value) if isinstance(value, list) else value for key, value in found.items()}
    return Option(**frozen)
