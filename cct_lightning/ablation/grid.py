"""A grid of runs, or a search: a file in the format of W&B's sweeps, and its runs.

Source: https://docs.wandb.ai/models/sweeps/define-sweep-configuration. `wandb sweep FILE` takes the same file
unchanged, so a value reaches `cct fit` here as `wandb agent` writes it: `--key=value`. What W&B cannot know (`OURS`),
`to_wandb.py` writes in its terms.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import yaml

from cct_lightning.ablation.combine import Combination, combinations, excluded_values, file_name, variant_name
from cct_lightning.ablation.fields import check_linked, read_command, read_design, read_seeds
from cct_lightning.ablation.search import FIRST_DRAWS, Search, read_hyperband, read_search, space_of
from cct_lightning.ablation.values import (
    RESERVED,
    Distribution,
    checked,
    flat_entries,
    options_in,
    read_values,
)
from cct_lightning.config.options import SEED
from cct_lightning.config.recipes import linked_options
from cct_lightning.config.yaml_file import read_yaml
from cct_lightning.errors import InputError, nearest
from cct_lightning.runs.hyperband import Hyperband
from cct_lightning.system.places import local_path

_NEEDED = ("program", "command", "method", "parameters")
# Fields that W&B's sweeps do not have.
OURS = ("exclude", "design", "seeds", "sampler_seed")
# What W&B's sweep files may hold, and a grid may carry.
_FIELDS = (*_NEEDED, "name", "description", "metric", "project", "entity", "run_cap", "early_terminate", *OURS)


@dataclass(frozen=True, kw_only=True)
class Grid:
    """A grid or a search as its file has it."""

    name: str  # of the ablation: the field `name`, else that of the file
    file: str  # the name of the file, without its ending
    command: tuple[str, ...]  # words after `cct fit` that all runs share, such as `--config=cifar10`
    parameters: dict[str, tuple[Any, ...]]  # option of `cct fit` -> its values, in the order of the file
    drawn: dict[str, Distribution] = field(default_factory=dict)  # option -> what a search draws from
    exclude: tuple[Mapping[str, Any], ...] = ()  # combinations that are left out
    design: Literal["full", "one_at_a_time"] = "full"
    run_cap: int | None = None
    search: Search | None = None
    hyperband: Hyperband | None = None
    tracking: dict[str, str] = field(default_factory=dict)  # W&B's project and entity, where the file names them


@dataclass(frozen=True, kw_only=True)
class GridRun:
    """One run of a grid."""

    name: str  # of its folder: variant and seed
    variant: str  # what differs from the other runs, the seed apart: `arch=cct_7_3x2-pool=seqpool`
    index: int  # place in the grid, from 0
    parameters: dict[str, Any]  # option of `cct fit` -> value, as far as it is known before the run starts
    command: tuple[str, ...]  # words after `cct fit` that all runs of the grid share
    example: dict[str, Any] = field(default_factory=dict)  # what it may choose, to check that it would start
    choices: dict[str, Any] = field(default_factory=dict)  # what `exclude` would name: varied option -> value
    space: dict[str, Any] | None = None  # from what it chooses the others when it starts; see `bayes.py`
    method: str = "grid"  # or that of the search
    metric: str | None = None  # by which the search chooses
    hyperband: Hyperband | None = None  # by what it stops early
    defaults: dict[str, Any] = field(default_factory=dict)  # what the engine adds where the file does not say it

    @property
    def arguments(self) -> list[str]:
        """The words after `cct fit`, as `wandb agent` would write them."""
        return [*self.command, *words(self.parameters)]


def words(parameters: Mapping[str, Any]) -> list[str]:
    """Return options as the words of a command."""
    return [f"--{key}={value}" for key, value in parameters.items()]


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
        InputError: It is not a sweep file that runs `cct fit`.
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
    if not isinstance(content["parameters"], dict) or not content["parameters"]:
        raise InputError(f"{path} has no parameters: give a mapping such as model.pool: {{values: [seqpool, mean]}}.")
    name = content.get("name", path.stem)
    if not isinstance(name, str) or not name.strip():
        raise InputError(f"The name of {path} is {name!r}: give a text.")
    run_cap = content.get("run_cap")
    if run_cap is not None and (type(run_cap) is not int or run_cap < 1):
        raise InputError(f"The run_cap of {path} is {run_cap!r}: give the most runs, a whole number from 1.")
    search = read_search(str(path), content)
    entries = flat_entries(str(path), content["parameters"])
    values = read_values(str(path), {**entries, **read_seeds(path, content, entries)}, draws=search is not None)
    grid = Grid(
        name=file_name(name, room=100),
        file=path.stem,
        command=read_command(path, content["program"], content["command"]),
        parameters={key: found for key, found in values.items() if not isinstance(found, Distribution)},
        drawn={key: found for key, found in values.items() if isinstance(found, Distribution)},
        design=read_design(path, content),
        run_cap=run_cap,
        search=search,
        hyperband=read_hyperband(str(path), content),
        tracking={key: str(content[key]) for key in ("project", "entity") if content.get(key)},
    )
    if search is not None and not grid.drawn:
        raise InputError(f"{path} searches nothing: give a parameter values or a range, or the method grid.")
    check_linked(path, grid.parameters, grid.drawn)
    found = excluded_values(str(path), content.get("exclude", []), {**grid.parameters, **grid.drawn})
    return dataclasses.replace(grid, exclude=found)


def override(grid: Grid, settings: Sequence[str]) -> Grid:
    """Return the grid with some parameters replaced.

    Args:
        grid: The grid.
        settings: `key=value` fixes an option of `cct fit` for all runs; `key=[a, b]` replaces the values of an option
            that the grid varies.

    Raises:
        InputError: Not of that form.
    """
    parameters, drawn = dict(grid.parameters), dict(grid.drawn)
    for setting in settings:
        key, equals, given = setting.partition("=")
        key = key.lstrip("-")
        if not equals or not key or key in RESERVED:
            raise InputError(
                f"--set takes key=value with an option of `cct fit`, such as data.root=/data; got {setting!r}."
            )
        try:
            value = yaml.safe_load(given)
        except yaml.YAMLError:
            value = given
        several = isinstance(value, list) and (len(parameters.get(key, ())) > 1 or key in drawn)
        if several and not value:
            raise InputError(f"--set {key} needs one value or more.")
        # Text stays as typed, so that 1e-3 or 007 reach the option unchanged.
        single = value if isinstance(value, list) or linked_options(key, value) else given
        found = checked(f"--set {key}", key, value if several else [single])
        if key in drawn and several:
            drawn[key] = Distribution(kind="categorical", fields={"values": found})
        else:
            drawn.pop(key, None)
            parameters[key] = found
    return dataclasses.replace(grid, parameters=parameters, drawn=drawn)


def varied(grid: Grid) -> list[str]:
    """Return the parameters that take more than one value, the seed left out."""
    several = [key for key, values in grid.parameters.items() if len(values) > 1]
    return [key for key in (*several, *grid.drawn) if key != SEED]


def expand(grid: Grid) -> list[GridRun]:
    """Return the runs of a grid, in the order of its file: the last parameter changes fastest. Of a search, its draws.

    Raises:
        InputError: None is left, or a search has fewer combinations than it is to draw.
    """
    if grid.search is None:
        found = combinations(grid.parameters, design=grid.design, exclude=grid.exclude)[: grid.run_cap]
    else:
        fixed = {key: values[0] for key, values in grid.parameters.items()}
        # Those that `bayes` begins with stand for all: what it chooses later depends on results.
        runs = grid.search.runs if grid.search.method == "random" else min(grid.search.runs, FIRST_DRAWS)
        draws = grid.search.draw(grid.drawn, grid.exclude, runs=runs)
        found = [{**fixed, **draws[index % runs]} for index in range(grid.search.runs)]
    return [_run(grid, index, values) for index, values in enumerate(found)]


def _run(grid: Grid, index: int, values: Combination) -> GridRun:
    keys = varied(grid)
    variant = variant_name(values, keys, alone=grid.name)
    defaults: dict[str, Any] = {f"tracking.{key}": value for key, value in grid.tracking.items()}
    if grid.search is not None:
        defaults["test_best"] = False  # choosing among many runs by the test images would make them training data
    parameters = options_in(values)
    run = GridRun(
        name=file_name(variant, room=100) + (f"-seed{values[SEED]}" if SEED in values else ""),
        variant=variant,
        index=index,
        parameters=parameters,
        command=grid.command,
        method=grid.search.method if grid.search else "grid",
        metric=grid.search.metric if grid.search else None,
        hyperband=grid.hyperband,
        choices={key: values[key] for key in keys},
        defaults={key: value for key, value in defaults.items() if key not in parameters},
    )
    if grid.search is None or grid.search.method == "random":
        return run
    name, space = f"trial-{index:03}", space_of(grid.search, grid.drawn, grid.exclude)
    known = {key: value for key, value in parameters.items() if key in grid.parameters}
    chosen = {key: value for key, value in parameters.items() if key not in known}
    return dataclasses.replace(run, name=name, variant=name, parameters=known, example=chosen, space=space)
