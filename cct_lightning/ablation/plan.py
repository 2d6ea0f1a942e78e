"""What an ablation is going to do: its runs, where each goes, how it stands, what it costs and how long it takes."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cct_lightning.ablation.grid import SEED, GridRun
from cct_lightning.ablation.state import RECORD, RunState, read_json, read_state
from cct_lightning.errors import InputError
from cct_lightning.runs.folder import tilde


@dataclass(frozen=True, kw_only=True)
class Planned:
    """A run of the plan.

    Attributes:
        run: The run.
        folder: Its run folder, absolute.
        state: How it stands now.
    """

    run: GridRun
    folder: Path
    state: RunState


@dataclass(frozen=True, kw_only=True)
class Cost:
    """What a run costs.

    Attributes:
        params: Trainable parameters.
        macs: Multiply-accumulates of the forward pass of one image.
        epochs: Epochs.
    """

    params: int
    macs: int
    epochs: int


def make_plan(runs: Sequence[GridRun], folder: Path) -> list[Planned]:
    """Find or assign the folder of each run.

    A folder belongs to a run when command and parameters are the same, whatever its name: a grid may grow, and what
    is done stays done.

    Args:
        runs: The runs of the grid.
        folder: Folder of the ablation.

    Returns:
        One entry per run, in order; nothing is created.

    Raises:
        InputError: A folder of the right name holds a run of other settings.
    """
    there = {path.parent: read_json(path) for path in folder.glob(f"*/{RECORD}")}
    by_settings = {_settings(record.get("command"), record.get("parameters")): path for path, record in there.items()}
    plan = []
    for run in runs:
        found = by_settings.get(_settings(run.command, run.parameters))
        path = found or folder / run.name
        if found is None and path.exists():
            raise InputError(
                f"{path} holds a run of other settings ({_difference(there.get(path, {}), run)}): give another --out, "
                "or remove the folder."
            )
        plan.append(Planned(run=run, folder=path, state=read_state(path)))
    return plan


def _settings(command: Any, parameters: Any) -> str:
    values = {key: tilde(str(value)) for key, value in (parameters or {}).items()}
    return json.dumps([list(command or ()), values], sort_keys=True)


def _difference(record: dict[str, Any], run: GridRun) -> str:
    theirs: dict[str, Any] = record.get("parameters", {})
    ours = {key: tilde(str(value)) for key, value in run.parameters.items()}
    keys = [key for key in {**theirs, **ours} if str(theirs.get(key)) != ours.get(key)]
    if not record:
        return "no ablation's"
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
