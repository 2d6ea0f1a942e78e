"""A grid of runs: a file in the format of W&B's sweeps, and its runs.

Source: https://docs.wandb.ai/models/sweeps/define-sweep-configuration. `wandb sweep FILE` takes the same file
unchanged, so a value reaches `cct fit` here as `wandb agent` writes it: `--key=value`.
"""

import dataclasses
import hashlib
import itertools
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from cct_lightning.config.options import SEED, text
from cct_lightning.config.yaml_file import read_yaml
from cct_lightning.errors import InputError, nearest
from cct_lightning.system.places import local_path

_NEEDED = ("program", "command", "method", "parameters")
# What W&B's sweep files may hold, and a grid may carry.
_FIELDS = (*_NEEDED, "name", "description", "metric", "project", "entity", "run_cap")
# What says where a run goes is the engine's to say.
_RESERVED = ("run_dir", "resume", "config")


@dataclass(frozen=True, kw_only=True)
class Grid:
    """A grid as its file has it."""

    name: str  # of the ablation: that of the file
    command: tuple[str, ...]  # words after `cct fit` that all runs share, such as `--config=cifar10`
    parameters: dict[str, tuple[Any, ...]]  # option of `cct fit` -> its values, in the order of the file


@dataclass(frozen=True, kw_only=True)
class GridRun:
    """One run of a grid."""

    name: str  # of its folder: variant and seed
    variant: str  # what differs from the other runs, the seed apart: `arch=cct_7_3x2-pool=seqpool`
    index: int  # place in the grid, from 0
    parameters: dict[str, Any]  # option of `cct fit` -> value
    command: tuple[str, ...]  # words after `cct fit` that all runs of the grid share

    @property
    def arguments(self) -> list[str]:
        """The words after `cct fit`, as `wandb agent` would write them."""
        return [*self.command, *(f"--{key}={value}" for key, value in self.parameters.items())]


def ablations() -> dict[str, Path]:
    """Return the shipped grids by name."""
    folder = Path(__file__).parents[1] / "configs" / "ablations"
    return {path.stem: path for path in sorted(folder.glob("*.yaml"))}


def find_grid(name: str) -> Path:
    """Return the path of a grid: a file as it is, or a shipped one by its name.

    Raises:
        InputError: It is neither.
    """
    known = ablations()
    path = local_path(name) if local_path(name).is_file() else known.get(name)
    if path is not None:
        return path
    raise InputError(f"No ablation {name!r}: choose {', '.join(known)}, or a YAML file.{nearest(name, known)}")


def read_grid(path: Path) -> Grid:
    """Read a grid file.

    Raises:
        InputError: It is not a sweep file of the method `grid` that runs `cct fit`.
    """
    content = read_yaml(path)
    if not isinstance(content, dict):
        raise InputError(f"{path} is no sweep file: it needs the fields {', '.join(_NEEDED)}.")
    for key in content:
        if key not in _FIELDS:
            raise InputError(f"Unknown field {key!r} in {path}: known are {', '.join(_FIELDS)}.{nearest(key, _FIELDS)}")
    for key in _NEEDED:
        if key not in content:
            raise InputError(f"{path} has no field {key!r}: a grid needs {', '.join(_NEEDED)}.")
    if content["method"] != "grid":
        raise InputError(
            f"The method of {path} is {content['method']!r}: `cct ablate` runs grids; "
            "for other methods use `wandb sweep` and `wandb agent`."
        )
    if not isinstance(content["parameters"], dict) or not content["parameters"]:
        raise InputError(f"{path} has no parameters: give a mapping such as model.pool: {{values: [seqpool, mean]}}.")
    values = {str(key): _values(path, str(key), entry) for key, entry in content["parameters"].items()}
    return Grid(name=path.stem, command=_command(path, content["program"], content["command"]), parameters=values)


def _values(path: Path, key: str, entry: Any) -> tuple[Any, ...]:
    where = f"Parameter {key} of {path}"
    if key.startswith("-") or key in _RESERVED:
        raise InputError(
            f"{where} cannot be part of a grid: name options of `cct fit` without dashes, such as model.pool."
        )
    if isinstance(entry, dict) and "parameters" in entry:
        raise InputError(f"{where} is nested: write it flat, with dots, such as model.pool.")
    if not isinstance(entry, dict) or set(entry) not in ({"value"}, {"values"}):
        raise InputError(f"{where} needs `value: ...` or `values: [...]` and nothing else.")
    values = entry.get("values", [entry.get("value")])
    if not isinstance(values, list) or not values:
        raise InputError(f"{where} needs a list of one value or more.")
    return _checked(where, values)


def _checked(where: str, values: Sequence[Any]) -> tuple[Any, ...]:
    for i, value in enumerate(values):
        if value is None:
            # W&B writes null as the text None, which no option takes.
            raise InputError(f"{where} has the value null, which W&B cannot pass on: leave the option out instead.")
        if str(value) in (str(other) for other in values[:i]):
            raise InputError(f"{where} has the value {value} twice.")
    return tuple(values)


def _command(path: Path, program: Any, command: Any) -> tuple[str, ...]:
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


def override(grid: Grid, settings: Sequence[str]) -> Grid:
    """Return the grid with some parameters replaced.

    Args:
        grid: The grid.
        settings: `key=value` fixes an option of `cct fit` for all runs; `key=[a, b]` replaces the values of an option
            that the grid varies.

    Raises:
        InputError: Not of that form.
    """
    parameters = dict(grid.parameters)
    for setting in settings:
        key, equals, text = setting.partition("=")
        key = key.lstrip("-")
        if not equals or not key or key in _RESERVED:
            raise InputError(
                f"--set takes key=value with an option of `cct fit`, such as data.root=/data; got {setting!r}."
            )
        try:
            value = yaml.safe_load(text)
        except yaml.YAMLError:
            value = text
        several = isinstance(value, list) and len(parameters.get(key, ())) > 1
        if several and not value:
            raise InputError(f"--set {key} needs one value or more.")
        # Text stays as typed, so that 1e-3 or 007 reach the option unchanged.
        parameters[key] = _checked(f"--set {key}", value if several else [value if isinstance(value, list) else text])
    return dataclasses.replace(grid, parameters=parameters)


def varied(grid: Grid) -> list[str]:
    """Return the parameters that take more than one value, the seed left out."""
    return [key for key, values in grid.parameters.items() if len(values) > 1 and key != SEED]


def short_names(keys: Sequence[str]) -> dict[str, str]:
    """Return the last part of each dotted key where no other key has it, else the key itself."""
    last = [key.rpartition(".")[2] for key in keys]
    return {key: name if last.count(name) == 1 else key for key, name in zip(keys, last, strict=True)}


def expand(grid: Grid) -> list[GridRun]:
    """Return the runs of a grid, in the order of its file: the last parameter changes fastest."""
    names, runs = short_names(varied(grid)), []
    for index, values in enumerate(itertools.product(*grid.parameters.values())):
        parameters = dict(zip(grid.parameters, values, strict=True))
        shown = {key: text(v) if isinstance(v, Mapping) else v for key, v in parameters.items()}
        variant = "-".join(f"{name}={shown[key]}" for key, name in names.items()) or grid.name
        seed = f"-seed{parameters[SEED]}" if SEED in parameters else ""
        name = file_name(variant, room=100) + seed
        runs.append(GridRun(name=name, variant=variant, index=index, parameters=parameters, command=grid.command))
    return runs


def file_name(words: str, *, room: int) -> str:
    """Return a text as a file name; where characters are lost, a hash keeps different texts apart."""
    name = re.sub(r"[^\w.=-]+", "-", words).strip(".-")
    if name == words and len(name) <= room:
        return name
    return f"{name[: room - 9]}-{hashlib.sha256(words.encode()).hexdigest()[:8]}"
