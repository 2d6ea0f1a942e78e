"""What a comparison needs to know of runs: read from run folders, and from those alone."""

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from cct_lightning.ablation.grid import SEED
from cct_lightning.ablation.state import RECORD, read_json, read_state
from cct_lightning.errors import InputError

# libyaml's loader is ten times as fast as the one in Python; both are safe.
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

# Options that say where and how a run is watched, and nothing about what it computes.
_NEUTRAL = {
    SEED, "run_dir", "resume", "data.root", "data.cache_dir", "data.download", "data.num_workers",
    "trainer.default_root_dir", "trainer.logger", "trainer.enable_progress_bar", "trainer.enable_model_summary",
    "trainer.log_every_n_steps",
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Run:
    """A run as a comparison sees it.

    Attributes:
        name: How to call it: its path below the folders that were given, or its name in W&B.
        status: `finished`, `failed`, `interrupted`, `running` or `waiting`.
        reason: Why it failed.
        config: Dotted option -> value; options that are null are left out.
        complete: Whether `config` holds all options; a run that failed early has only those of its grid.
        summary: Final metrics and costs.
        seed: Seed; None when unknown.
        index: Place in its grid.
        folder: Its folder; None for a run read from W&B.
    """

    name: str
    status: str
    reason: str = ""
    config: Mapping[str, Any] = field(default_factory=dict)
    complete: bool = True
    summary: Mapping[str, Any] = field(default_factory=dict)
    seed: int | None = None
    index: int | None = None
    folder: Path | None = None


def flatten(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return nested options as dotted ones, without those that are null."""
    flat: dict[str, Any] = {}
    for key, value in config.items():
        if isinstance(value, Mapping):
            flat |= flatten(value, f"{prefix}{key}.")
        elif value is not None:
            flat[f"{prefix}{key}"] = value
    return flat


def matters(key: str) -> bool:
    """Tell whether an option can change the result of a run, the seed apart."""
    return key not in _NEUTRAL and not key.startswith(("tracking.", "environment."))


def find_runs(paths: Sequence[str]) -> list[tuple[str, Path]]:
    """Find run folders.

    Args:
        paths: Run folders, or folders with run folders below.

    Returns:
        Name and folder of each, sorted by name.

    Raises:
        InputError: A path is no folder, or there is no run.
    """
    found: dict[Path, str] = {}
    for path in map(Path, paths):
        if not path.is_dir():
            raise InputError(f"No folder {path}: give run folders, or a folder with run folders below.")
        below = list(_runs_below(path))
        if not below:
            raise InputError(f"There is no run in {path}: a run folder holds a config.yaml of `cct fit`.")
        for folder in below:
            alone = folder == path or len(paths) > 1
            found[folder.absolute()] = str(folder if alone else folder.relative_to(path))
    return sorted((name, folder) for folder, name in found.items())


def _runs_below(path: Path) -> Iterator[Path]:
    for place, folders, files in os.walk(path):
        if {"config.yaml", "summary.json", RECORD} & set(files):
            folders.clear()
            yield Path(place)
        else:
            folders[:] = [folder for folder in folders if not folder.startswith(".")]


def read_run(name: str, folder: Path) -> Run:
    """Read a run folder; what is damaged counts as missing.

    Args:
        name: How to call the run.
        folder: The folder.
    """
    summary, record = read_json(folder / "summary.json"), read_json(folder / RECORD)
    try:
        config = yaml.load((folder / "config.yaml").read_text(), Loader=_LOADER)
    except (OSError, UnicodeDecodeError, yaml.YAMLError):
        config = None
    complete = isinstance(config, dict)
    options = flatten(config) if complete else dict(record.get("parameters", {}))
    status = str(summary.get("status", "waiting"))
    reason = str(summary.get("reason", "")) if status == "failed" else ""
    if status != "finished" and record:
        state = read_state(folder)
        status, reason = state.status, state.reason
    return Run(
        name=name,
        status="running" if status == "trained" else status,
        reason=reason,
        config=options,
        complete=complete,
        summary=summary,
        seed=options.get(SEED),
        index=record.get("index"),
        folder=folder,
    )


def read_runs(paths: Sequence[str]) -> list[Run]:
    """Find and read runs; see `find_runs`."""
    return [read_run(name, folder) for name, folder in find_runs(paths)]


def differing(runs: Sequence[Run]) -> list[str]:
    """Return the options in which runs differ, the seed and what does not matter left out.

    Args:
        runs: A run whose options are not all known takes part with those of its grid.
    """
    whole = [run for run in runs if run.complete]
    keys = dict.fromkeys(key for run in whole for key in run.config)
    different = [key for key in keys if len({str(run.config.get(key)) for run in whole}) > 1]
    for run in runs:
        for key, value in run.config.items() if not run.complete else ():
            if any(str(value) != str(other.config.get(key)) for other in runs if key in other.config):
                different.append(key)
    return [key for key in dict.fromkeys(different) if matters(key)]


def values_of(run: Run, keys: Sequence[str]) -> dict[str, str]:
    """Return what a run has for some options, as text; `default` where an option is null or not set."""
    return {key: str(run.config.get(key, "default")) for key in keys}
