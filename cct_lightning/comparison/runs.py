"""What a comparison needs to know of runs: read from run folders, and from those alone."""

import os
import shlex
from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from cct_lightning.config.options import CODE, DERIVED, SEED, SOMETIMES, text, tilde
from cct_lightning.config.recipes import options_of
from cct_lightning.config.resolved import ResolvedConfig
from cct_lightning.errors import InputError
from cct_lightning.runs.folder import RunFolder
from cct_lightning.runs.state import read_state
from cct_lightning.system.places import local_path


@dataclass(frozen=True, kw_only=True)
class Run:
    """A run as a comparison sees it.

    Attributes:
        name: How to call it: its path below the folders that were given, or its name in W&B.
        status: `finished`, `failed`, `interrupted`, `running` or `waiting`.
        reason: Why it failed.
        config: Its options, all concrete.
        complete: Whether they are known; of a run that never started only those of its grid may be.
        summary: Final metrics and costs.
        index: Place in its grid.
        ablation: The ablation that it belongs to; empty for any other run.
        began: When its last attempt in an ablation began, in seconds since 1970; None when unknown.
        command: What repeats it in a terminal; empty where that is unknown.
        folder: Its folder; None for a run read from W&B.
        linked: Choice of its grid that sets several options -> its `name`, and which `options` they are.
    """

    name: str
    status: str
    reason: str = ""
    config: ResolvedConfig = field(default_factory=lambda: ResolvedConfig({}))
    complete: bool = True
    summary: Mapping[str, Any] = field(default_factory=dict)
    index: int | None = None
    ablation: str = ""
    began: float | None = None
    command: str = ""
    folder: Path | None = None
    linked: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    @property
    def seed(self) -> int | None:
        """The seed; None when unknown."""
        return self.config.seed

    @cached_property
    def compared(self) -> dict[str, Any]:
        """Dotted option -> normal value, of those that can change a result, the seed left out; linked choices first."""
        found: dict[str, Any] = {key: choice["name"] for key, choice in self.linked.items()}
        found |= {key: value for key, value in self.config.results.items() if key != SEED}
        return {**found, "model.arch": self.config.arch} if found.get("model.arch") == "compact" else found


def find_runs(paths: Sequence[str]) -> list[tuple[str, Path]]:
    """Find run folders: those given, and those below the folders given; name and folder of each, sorted by name.

    Raises:
        InputError: A path is no folder, or there is no run.
    """
    found: dict[Path, str] = {}
    for path in map(local_path, paths):
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
        if {RunFolder.CONFIG, RunFolder.SUMMARY, RunFolder.RECORD} & set(files):
            folders.clear()
            yield Path(place)
        else:
            folders[:] = [folder for folder in folders if not folder.startswith(".")]


def read_run(name: str, folder: Path) -> Run:
    """Read a run folder, under a name to call it; what is damaged counts as missing."""
    files = RunFolder(folder)
    summary, record = files.summary(), files.record()
    try:
        config, complete = files.config(), True
    except InputError:
        config = None
    if config is None:
        config, complete = _config_of(record)
    status = str(summary.get("status", "waiting"))
    reason = str(summary.get("reason", "")) if status == "failed" else ""
    if status != "finished" and record:
        state = read_state(folder)
        status, reason = state.status, state.reason
    return Run(
        name=name,
        status="running" if status == "trained" else status,
        reason=reason,
        config=config,
        complete=complete,
        summary=summary,
        index=record.get("index"),
        ablation=str(record.get("ablation", "")),
        began=record.get("began"),
        command=f"cct fit {shlex.join(_words(record)) or f'--config {tilde(str(folder / RunFolder.CONFIG))}'}",
        folder=folder,
        linked=record.get("linked", {}),
    )


def _config_of(record: Mapping[str, Any]) -> tuple[ResolvedConfig, bool]:
    """Return the configuration of a run that wrote none, by the command of its ablation, and whether that is all."""
    words = _words(record)
    try:
        if "command" in record:
            return ResolvedConfig.resolve(options_of(words), stored=True), True
    except InputError:  # why it did not start
        pass
    return ResolvedConfig(options_of(words[len(record.get("command", ())) :])), False


def _words(record: Mapping[str, Any]) -> list[str]:
    """Return the words after `cct fit` of a run of an ablation."""
    given = [f"--{key}={value}" for key, value in record.get("parameters", {}).items()]
    return [*record.get("command", ()), *given]


def read_runs(paths: Sequence[str]) -> list[Run]:
    """Find and read runs; see `find_runs`."""
    return [read_run(name, folder) for name, folder in find_runs(paths)]


def differing(runs: Sequence[Run]) -> list[str]:
    """Return the options in which the results of runs may differ, the seed left out.

    What the name of a model, a data set or a linked choice decides is left out where the name says it; a name is left
    out where the same model has several.
    """
    keys = dict.fromkeys(key for run in runs for key in run.compared)
    different = [key for key in keys if len(_values(runs, key)) > 1]
    runs = [run for run in runs if run.complete]
    arch = "model.arch"
    parts = [frozenset({**run.compared, arch: None}.items()) for run in runs]
    if arch in different and not _decided(runs, arch, parts):
        different.remove(arch)
    decides = {parent: {f"{parent.split('.')[0]}.{name}" for name in names} for parent, names in DERIVED.items()}
    for run in runs:
        for choice, linked in run.linked.items():
            decides.setdefault(choice, set()).update(linked["options"])
    for parent in [key for key in decides if key in different]:
        names = [run.compared.get(parent) for run in runs]
        children = {key for key in different for child in decides[parent] if f"{key}.".startswith(f"{child}.")}
        different = [key for key in different if key not in children or not _decided(runs, key, names)]
    return different


def _values(runs: Sequence[Run], key: str) -> set[Any]:
    """Return what runs have for an option, None for one that could have it and has not."""
    sometimes = key in SOMETIMES or key.startswith(f"{CODE}.")  # code of their own, which the others do not use
    return {run.compared.get(key) for run in runs if key in run.compared or (run.complete and not sometimes)}


def _decided(runs: Sequence[Run], key: str, by: Sequence[Hashable]) -> bool:
    """Tell whether runs that agree in `by` agree in an option."""
    known: dict[Hashable, Any] = {}
    return all(
        known.setdefault(name, run.compared.get(key)) == run.compared.get(key)
        for run, name in zip(runs, by, strict=True)
    )


def beside_others(runs: Sequence[Run]) -> set[str]:
    """Return the names of finished runs that ran at the same time as another one of their ablation.

    They shared a machine as far as one can know, and so their times are no measurement.
    """
    timed = [
        (run.ablation, run.began, run.began + float(run.summary["seconds"]), run.name)
        for run in runs
        if run.began is not None and isinstance(run.summary.get("seconds"), int | float)
    ]
    found: set[str] = set()
    last = ("", 0.0, 0.0, "")  # of the runs so far, the one that ended last
    for each in sorted(timed):
        if each[0] == last[0] and each[1] < last[2]:
            found |= {each[3], last[3]}
        last = max(last, each, key=lambda one: (one[0], one[2]))
    return found


def values_of(run: Run, keys: Sequence[str]) -> dict[str, str]:
    """Return what a run has for some options, as text; `default` where an option is null or not set."""
    values = {}
    for key in keys:
        given = run.config.flat.get(key)
        value = given if isinstance(given, Mapping) else run.compared.get(key, given)
        values[key] = "default" if value is None else text(value)
    return values
