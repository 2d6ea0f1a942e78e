"""Combinations of values: every one, or one change at a time; what is left out; and how a combination is called."""

import hashlib
import itertools
import re
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from cct_lightning.ablation.values import Distribution
from cct_lightning.config.options import SEED, normal, text
from cct_lightning.errors import InputError, nearest

Combination = dict[str, Any]  # option, or name of a linked choice -> value


def combinations(
    parameters: Mapping[str, Sequence[Any]],
    *,
    design: Literal["full", "one_at_a_time"],
    exclude: Sequence[Mapping[str, Any]],
) -> list[Combination]:
    """Return combinations of values in the order of the parameters: the last one changes fastest.

    Args:
        parameters: Option -> its values.
        design: Every combination; or the first value of each, the baseline, and one change of it each, for all seeds.
        exclude: Combinations to leave out; one that names some options leaves all out that have these values.

    Raises:
        InputError: None is left, or not the baseline.
    """
    if design == "full":
        every = [dict(zip(parameters, values, strict=True)) for values in itertools.product(*parameters.values())]
    else:
        first = {key: values[0] for key, values in parameters.items()}
        changes = [{key: value} for key, values in parameters.items() if key != SEED for value in values[1:]]
        seeds = [{SEED: seed} for seed in parameters.get(SEED, ())] or [{}]
        every = [{**first, **change, **seed} for change in ({}, *changes) for seed in seeds]
        if all(is_excluded(each, exclude) for each in every[: len(seeds)]):
            varied = [key for key, values in parameters.items() if key != SEED and len(values) > 1]
            raise InputError(
                f"The field exclude leaves the baseline out ({variant_name(first, varied, alone='all runs')}), which "
                "design: one_at_a_time changes one by one: put other values first, or remove the entry."
            )
    found = [each for each in every if not is_excluded(each, exclude)]
    if not found:
        raise InputError("The field exclude leaves no run: remove an entry.")
    return found


def is_excluded(values: Combination, exclude: Sequence[Mapping[str, Any]]) -> bool:
    """Tell whether an entry of `exclude` names this combination."""
    return any(all(key in values and _same(values[key], value) for key, value in entry.items()) for entry in exclude)


def _same(value: Any, named: Any) -> bool:
    return text(value if isinstance(value, Mapping) else str(value)) == text(named) or normal(value) == normal(named)


def excluded_values(
    where: str, entries: Any, parameters: Mapping[str, Sequence[Any] | Distribution]
) -> tuple[Mapping[str, Any], ...]:
    """Read the field `exclude`: a list of mappings from a parameter to one of its values; short names will do.

    Raises:
        InputError: An entry that names no parameter, or a value that none has.
    """
    if not isinstance(entries, list) or not all(isinstance(entry, Mapping) and entry for entry in entries):
        raise InputError(
            f"The field exclude of {where} needs a list such as [{{model.pool: mean, seed_everything: 1}}]."
        )
    whole = {short: key for key, short in short_names(list(parameters)).items()}
    found = []
    for entry in entries:
        named = {whole.get(key, key): value for key, value in entry.items()}
        for key, value in named.items():
            if key not in parameters:
                raise InputError(f"{where} excludes by {key!r}, which is no parameter of it.{nearest(key, parameters)}")
            has = parameters[key]
            values = has.values if isinstance(has, Distribution) else has
            if values is not None and not any(_same(each, value) for each in values):
                raise InputError(
                    f"{where} excludes {key}: {text(value)}, and {key} takes {', '.join(map(str, values))}."
                )
        found.append(named)
    return tuple(found)


def variant_name(values: Mapping[str, Any], keys: Sequence[str], *, alone: str) -> str:
    """Return what makes a variant, such as `arch=cct_7_3x2-pool=seqpool`; `alone` where nothing does."""
    names = {key: name for key, name in short_names(keys).items() if key in values}
    return "-".join(f"{name}={_shown(values[key])}" for key, name in names.items()) or alone


def _shown(value: Any) -> Any:
    return text(value) if value is None or isinstance(value, Mapping) else value


def short_names(keys: Sequence[str]) -> dict[str, str]:
    """Return the last part of each dotted key where no other key has it, else the key itself."""
    last = [key.rpartition(".")[2] for key in keys]
    return {key: name if last.count(name) == 1 else key for key, name in zip(keys, last, strict=True)}


def file_name(words: str, *, room: int) -> str:
    """Return a text as a file name; where characters are lost, a hash keeps different texts apart."""
    name = re.sub(r"[^\w.=-]+", "-", words).strip(".-")
    if name == words and len(name) <= room:
        return name
    return f"{name[: room - 9]}-{hashlib.sha256(words.encode()).hexdigest()[:8]}"
