"""What an ablation is going to do: its runs, the folder and the state of each, and how long it takes."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cct_lightning.ablation.grid import GridRun
from cct_lightning.config.options import SEED, without_home
from cct_lightning.config.resolved import ResolvedConfig
from cct_lightning.errors import InputError
from cct_lightning.runs.folder import RunFolder
from cct_lightning.runs.state import RunState, read_state


@dataclass(frozen=True, kw_only=True)
class Planned:
    """A run of the plan.

    Attributes:
        run: The run.
        folder: Its run folder, absolute.
        state: Its state now.
    """

    run: GridRun
    folder: Path
    state: RunState


def make_plan(runs: Sequence[GridRun], configs: Sequence[ResolvedConfig], folder: Path) -> list[Planned]:
    """Find or assign the folder of each run.

    A folder belongs to a run whose options compute the same, whatever its name: a grid may grow, and what is done stays
    done.

    Args:
        runs: The runs of the grid.
        configs: The configuration of each.
        folder: Folder of the ablation.

    Returns:
        One entry per run, in order; nothing is created.

    Raises:
        InputError: A folder of the right name holds a run of other settings.
    """
    there = [RunFolder(path.parent) for path in sorted(folder.glob(f"*/{RunFolder.RECORD}"))]
    stored = {files.path: files.config() for files in there}
    by_results = {config.results_key: path for path, config in stored.items() if config is not None}
    # One that has not begun has no configuration yet.
    waiting = {_settings(f.record().get("command"), f.record().get("parameters")): f.path for f in there}
    plan = []
    for run, config in zip(runs, configs, strict=True):
        path = by_results.get(config.results_key) or waiting.get(_settings(run.command, run.parameters))
        if path is None:
            path = folder / run.name
            if path.exists():
                raise InputError(
                    f"{path} holds a run of other settings ({_difference(RunFolder(path), run, config)}): give another "
                    "--out, or remove the folder."
                )
        plan.append(Planned(run=run, folder=path, state=read_state(path)))
    return plan


def _settings(command: Any, parameters: Any) -> str:
    return json.dumps([list(command or ()), without_home(parameters or {})], sort_keys=True, default=str)


def _difference(files: RunFolder, run: GridRun, config: ResolvedConfig) -> str:
    record, stored = files.record(), files.config()
    if not record:
        return "no ablation's"
    if stored is not None:
        return "; ".join(stored.differences(config)) or "another length of training"
    theirs, ours = record.get("parameters", {}), without_home(run.parameters)
    keys = [key for key in {**theirs, **ours} if theirs.get(key) != ours.get(key)]
    if not keys:
        return f"cct fit {' '.join(record.get('command', []))}"
    return ", ".join(f"{key} was {theirs.get(key, 'not set')}, is {ours.get(key, 'not set')}" for key in keys)


def run_seconds(plan: Sequence[Planned]) -> list[float | None]:
    """Estimate the wall time of each run from the finished ones: those of its variant, else the mean of all.

    Returns:
        Seconds, or None while no run has finished.
    """
    done = [(item.run, item.state.seconds) for item in plan if item.state.seconds is not None]
    if not done:
        return [None] * len(plan)
    estimates: list[float | None] = []
    for item in plan:
        alike = [seconds for run, seconds in done if _but_seed(run) == _but_seed(item.run)]
        times = alike or [seconds for _, seconds in done]
        estimates.append(sum(times) / len(times))
    return estimates


def _but_seed(run: GridRun) -> dict[str, Any]:
    return {key: value for key, value in run.parameters.items() if key != SEED}


def seconds_left(plan: Sequence[Planned], *, concurrency: int) -> float | None:
    """Estimate the wall time until all runs are done.

    Returns:
        Seconds, or None while no run has finished.
    """
    left = [
        seconds
        for item, seconds in zip(plan, run_seconds(plan), strict=True)
        if item.state.status in ("waiting", "interrupted", "running")
    ]
    if any(seconds is None for seconds in left):
        return None
    total = sum(seconds for seconds in left if seconds is not None)
    return total / max(1, min(concurrency, len(left)))
