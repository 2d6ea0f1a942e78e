"""Single fields of a grid file: seeds, design, command; and that no option is set twice."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from cct_lightning.ablation.values import Distribution, Linked
from cct_lightning.config.options import SEED
from cct_lightning.errors import InputError, nearest


def read_seeds(path: Path, content: Mapping[str, Any], entries: Mapping[str, Any]) -> dict[str, Any]:
    """Return the parameter that `seeds: 5` is short for; none without that field.

    Raises:
        InputError: It is no number, or the seeds are a parameter already.
    """
    count = content.get("seeds")
    if count is None:
        return {}
    if type(count) is not int or count < 1:
        raise InputError(f"The field seeds of {path} is {count!r}: give how many, such as 5 for the seeds 0 to 4.")
    if SEED in entries:
        raise InputError(f"{path} has the seeds twice: keep `seeds` or the parameter {SEED}.")
    if content["method"] != "grid":
        raise InputError(
            f"The field seeds of {path} is for grids: a search draws single runs; repeat its best after it."
        )
    return {SEED: {"values": list(range(count))}}


def read_design(path: Path, content: Mapping[str, Any]) -> Literal["full", "one_at_a_time"]:
    """Return which combinations a grid has.

    Raises:
        InputError: Neither of them, or a search.
    """
    design = content.get("design", "full")
    if design not in ("full", "one_at_a_time"):
        hint = nearest(str(design), ("full", "one_at_a_time"))
        raise InputError(f"The design of {path} is {design!r}: choose full or one_at_a_time.{hint}")
    if content["method"] != "grid" and "design" in content:
        raise InputError(f"The design of {path} is for grids: leave it out of a search.")
    return "one_at_a_time" if design == "one_at_a_time" else "full"


def check_linked(path: Path, parameters: Mapping[str, tuple[Any, ...]], drawn: Mapping[str, Distribution]) -> None:
    """Check that no option is set twice.

    Raises:
        InputError: By two linked choices, or by one and a parameter.
    """
    set_by = dict.fromkeys([*parameters, *drawn], "a parameter")
    choices = {**parameters, **{key: found.values or () for key, found in drawn.items()}}
    for key, values in choices.items():
        for option in {option for value in values if isinstance(value, Linked) for option in value.options}:
            if option in set_by:
                raise InputError(f"{path} sets {option} by {key} and by {set_by[option]}: keep one of them.")
            set_by[option] = key


def read_command(path: Path, program: Any, command: Any) -> tuple[str, ...]:
    """Return the words after `cct fit` that all runs share.

    Raises:
        InputError: The command runs something else.
    """
    given = map(str, command) if isinstance(command, list) else ()
    words = [word for word in given if word not in ("${env}", "${interpreter}")]
    words = [str(program) if word == "${program}" else word for word in words]
    words = ["cct", *words[2:]] if words[:2] == ["-m", "cct_lightning"] else words
    if words[:2] != ["cct", "fit"] or words[-1:] != ["${args}"] or any(word.startswith("${") for word in words[:-1]):
        raise InputError(
            f"The command of {path} must be a list that runs `cct fit`, "
            'such as ["${env}", "${program}", "fit", "--config=cifar10", "${args}"] with the program cct.'
        )
    return tuple(words[2:-1])
