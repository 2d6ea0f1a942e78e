"""The values that an option takes in a grid or a search: as W&B's sweeps write them, and linked choices.

Source: https://docs.wandb.ai/models/sweeps/define-sweep-configuration#parameters; the inverse distribution functions
are those of W&B's package `sweeps`.
"""

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

from cct_lightning.config.options import SEED, text
from cct_lightning.config.recipes import linked_options
from cct_lightning.errors import InputError, nearest

# What says where a run goes is the engine's to say.
RESERVED = ("run_dir", "resume", "config")

# Distribution -> the fields that it needs; all of W&B's but beta.
_NEEDS: dict[str, tuple[str, ...]] = {
    "constant": ("value",),
    "categorical": ("values",),
    "categorical_w_probabilities": ("values", "probabilities"),
    **dict.fromkeys(
        ("int_uniform", "uniform", "log_uniform", "log_uniform_values", "inv_log_uniform", "inv_log_uniform_values"),
        ("min", "max"),
    ),
    **dict.fromkeys(("q_uniform", "q_log_uniform", "q_log_uniform_values"), ("min", "max")),
    **dict.fromkeys(("normal", "log_normal", "q_normal", "q_log_normal"), ()),
}
_OPTIONAL = {"q": 1, "mu": 0.0, "sigma": 1.0}
_DIGITS = 4  # that are significant in a value that is drawn: its text in names, tables and commands is the value


@dataclass(frozen=True, kw_only=True)
class Linked:
    """A choice of several options at once, by a short name."""

    name: str
    options: Mapping[str, Any]  # option of `cct fit` -> value

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True, kw_only=True)
class Distribution:
    """Values that a search draws.

    Attributes:
        kind: As W&B calls it.
        fields: min, max, q, mu, sigma; of a categorical one, values and maybe probabilities.
    """

    kind: str
    fields: Mapping[str, Any]

    @property
    def values(self) -> tuple[Any, ...] | None:
        """The values to choose from; None for a range."""
        return self.fields.get("values")

    def place(self, u: float) -> int | float:
        """Return what a random number between 0 and 1 stands for: the place of a value; in a range, a quantile."""
        if self.values is None:
            return u
        weights = self.fields.get("probabilities") or [1 / len(self.values)] * len(self.values)
        return min(sum(u >= below for below in itertools.accumulate(weights)), len(self.values) - 1)

    def at(self, place: int | float) -> Any:
        """Return the value at a place."""
        if self.values is not None:
            return self.values[int(place)]
        u, fields = min(max(place, 1e-9), 1 - 1e-9), self.fields
        if self.kind == "int_uniform":
            return fields["min"] + int(u * (fields["max"] - fields["min"] + 1))
        found = self._continuous(u)
        if not self.kind.startswith("q_"):
            return float(f"{found:.{_DIGITS}g}")
        found = float(f"{round(found / fields['q']) * fields['q']:.12g}")
        return int(found) if isinstance(fields["q"], int) else found

    def plain(self) -> dict[str, Any]:
        """Return the distribution as a file has it."""
        values = [{"name": v.name, **v.options} if isinstance(v, Linked) else v for v in self.values or ()]
        return {"distribution": self.kind, **self.fields, **({"values": values} if values else {})}

    def _continuous(self, u: float) -> float:
        kind, fields = self.kind.removeprefix("q_").removeprefix("inv_"), self.fields
        if kind in ("normal", "log_normal"):
            found = NormalDist(fields["mu"], fields["sigma"]).inv_cdf(u) if fields["sigma"] else fields["mu"]
            return math.exp(found) if kind == "log_normal" else found
        low, high = fields["min"], fields["max"]
        if self.kind == "inv_log_uniform":  # of exponents of 1/x
            low, high = -high, -low
        if kind == "log_uniform_values":
            low, high = math.log(low), math.log(high)
        found = low + u * (high - low)
        return found if kind == "uniform" else math.exp(found)


def options_in(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return options of `cct fit`, those of linked choices in their place."""
    found: dict[str, Any] = {}
    for key, value in values.items():
        found |= value.options if isinstance(value, Linked) else {key: value}
    return found


def linked_in(values: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Return the linked choices among values, in plain types: the name of each, and which options it sets."""
    found = {key: value for key, value in values.items() if isinstance(value, Linked)}
    return {key: {"name": value.name, "options": list(value.options)} for key, value in found.items()}


def flat_entries(where: str, entries: Any, prefix: str = "") -> dict[str, Any]:
    """Return dotted option -> entry; W&B's nested form is `model: {parameters: {pool: {values: [...]}}}`.

    Raises:
        InputError: No mapping, or an option twice.
    """
    found: dict[str, Any] = {}
    for name, entry in entries.items():
        key = f"{prefix}{name}"
        inner = {key: entry}
        if isinstance(entry, Mapping) and "parameters" in entry:
            if set(entry) != {"parameters"} or not isinstance(entry["parameters"], Mapping) or not entry["parameters"]:
                raise InputError(
                    f"Parameter {key} of {where} needs a mapping of options in `parameters`, nothing else."
                )
            inner = flat_entries(where, entry["parameters"], f"{key}.")
        if twice := [option for option in inner if option in found]:
            raise InputError(f"Parameter {twice[0]} of {where} is there twice, nested and with dots: keep one of them.")
        found |= inner
    return found


def read_values(where: str, entries: Mapping[str, Any], *, draws: bool) -> dict[str, tuple[Any, ...] | Distribution]:
    """Read the parameters of a file.

    Args:
        where: The file, for messages.
        entries: Dotted option -> entry, of `flat_entries`.
        draws: The method is a search, which draws values; a grid takes lists alone.

    Returns:
        Option -> its values in the order of the file; a distribution where a search has a choice.

    Raises:
        InputError: An entry is wrong.
    """
    return {key: _read(f"Parameter {key} of {where}", key, entry, draws=draws) for key, entry in entries.items()}


def _read(where: str, key: str, entry: Any, *, draws: bool) -> tuple[Any, ...] | Distribution:
    if key.startswith("-") or key in RESERVED:
        raise InputError(
            f"{where} cannot be part of a grid: name options of `cct fit` without dashes, such as model.pool."
        )
    if not isinstance(entry, Mapping) or not entry:
        raise InputError(f"{where} needs `value: ...` or `values: [...]`.")
    fields = dict(entry)
    kind = fields.pop("distribution", None) or _kind_of(fields)
    if kind not in _NEEDS:
        raise InputError(
            f"{where} has the distribution {kind!r}, which `cct ablate` does not draw from: choose "
            f"{', '.join(_NEEDS)}.{nearest(str(kind), _NEEDS)}"
        )
    fields = {name: value for name, value in _OPTIONAL.items() if _takes(kind, name)} | fields
    if missing := [name for name in _NEEDS[kind] if name not in fields]:
        raise InputError(f"{where} needs {' and '.join(missing)} for the distribution {kind}.")
    if unknown := [name for name in fields if name not in _NEEDS[kind] and not _takes(kind, name)]:
        raise InputError(f"{where} cannot have {unknown[0]!r} beside the distribution {kind}.")
    if kind == "constant":
        return checked(where, key, [fields["value"]])
    if "values" in fields:
        if not isinstance(fields["values"], list) or not fields["values"]:
            raise InputError(f"{where} needs a list of one value or more.")
        fields["values"] = values = checked(where, key, fields["values"])
        if not draws and kind == "categorical":
            return values
        _check_probabilities(where, fields)
    elif not draws and kind != "int_uniform":
        raise InputError(f"{where} is a range, and the method grid needs `values: [...]`; random and bayes draw.")
    else:
        _check_numbers(where, kind, fields)
    if draws:
        return Distribution(kind=kind, fields=fields)
    if kind != "int_uniform":
        raise InputError(f"{where} has probabilities, which the methods random and bayes alone can use.")
    return tuple(range(fields["min"], fields["max"] + 1))  # as W&B's grids


def _kind_of(fields: Mapping[str, Any]) -> str:
    """Return the distribution that W&B takes where none is named."""
    if "values" in fields:
        return "categorical_w_probabilities" if "probabilities" in fields else "categorical"
    if "value" in fields:
        return "constant"
    whole = all(isinstance(fields.get(name), int) for name in ("min", "max"))
    return "int_uniform" if whole else "uniform" if "min" in fields or "max" in fields else "constant"


def _takes(kind: str, name: str) -> bool:
    return (name == "q" and kind.startswith("q_")) or (name in ("mu", "sigma") and kind.endswith("normal"))


def _check_numbers(where: str, kind: str, fields: Mapping[str, Any]) -> None:
    for name, value in fields.items():
        # YAML reads 1e-4 as text, as it wants a dot before the exponent.
        hint = " Write 1.0e-4, not 1e-4: YAML reads that as text." if isinstance(value, str) and "e" in value else ""
        kinds = int if kind == "int_uniform" else int | float
        if not isinstance(value, kinds) or isinstance(value, bool) or not math.isfinite(value):
            what = "a whole number" if kinds is int else "a number"
            raise InputError(f"{where} has {name}: {value!r}, which is not {what}.{hint}")
    if "min" in fields and not fields["min"] < fields["max"]:
        raise InputError(f"{where} has min {fields['min']} and max {fields['max']}: min must be less.")
    if kind.endswith("_values") and fields["min"] <= 0:
        raise InputError(f"{where} has min {fields['min']}: a logarithmic range begins above 0.")
    if fields.get("q", 1) <= 0 or fields.get("sigma", 1) < 0:
        raise InputError(f"{where} needs q above 0 and sigma of at least 0.")


def _check_probabilities(where: str, fields: Mapping[str, Any]) -> None:
    weights = fields.get("probabilities")
    if weights is None:
        return
    right = isinstance(weights, list) and len(weights) == len(fields["values"])
    if not right or not all(isinstance(w, int | float) and w >= 0 for w in weights) or abs(sum(weights) - 1) > 1e-6:
        raise InputError(f"{where} needs one probability for each value, which add up to 1.")


def checked(where: str, key: str, values: Sequence[Any]) -> tuple[Any, ...]:
    """Return a list of values with its linked choices; each value may be there once.

    Raises:
        InputError: A value twice, or a linked choice that is none.
    """
    found = []
    for value in values:
        options = linked_options(key, value)
        found.append(value if options is None else Linked(name=text(value["name"]), options=options))
        if str(found[-1]) in map(str, found[:-1]):
            raise InputError(f"{where} has the value {found[-1]} twice.")
    if any(isinstance(value, Linked) for value in found):
        if not all(isinstance(value, Linked) for value in found):
            raise InputError(f"{where} mixes linked choices with other values: give each a name and options.")
        for option in {option for value in found for option in value.options}:
            if option.startswith("-") or option.partition(".")[0] in (*RESERVED, SEED):
                raise InputError(f"{where} sets {option}, which cannot be part of a linked choice.")
    return tuple(found)
