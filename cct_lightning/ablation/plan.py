"""What an ablation is going to do: its runs, the folder and the state of each, and how long it takes."""

import json
import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cct_lightning.ablation.grid import GridRun
from cct_lightning.ablation.values import linked_in
from cct_lightning.config.options import without_home
from cct_lightning.config.resolved import ResolvedConfig
from cct_lightning.errors import InputError
from cct_lightning.runs.folder import RunFolder
from cct_lightning.runs.state import RunState, read_state

_SHOWN = 4  # runs in a sentence


@dataclass(frozen=True, kw_only=True)
class Checked:
    """A run that would start."""

    run: GridRun
    config: ResolvedConfig
    params: int  # trainable
    macs: int  # multiply-accumulates of the forward pass of one image
    epochs: int


@dataclass(frozen=True, kw_only=True)
class Planned(Checked):
    """A run of the plan."""

    folder: Path  # absolute
    state: RunState  # now

    def write_record(self) -> None:
        """Make the folder and note the run's place in the ablation there; what an earlier attempt noted stays."""
        self.folder.mkdir(parents=True, exist_ok=True)
        files, run = RunFolder(self.folder), self.run
        values: dict[str, Any] = {
            "ablation": self.folder.parent.name,
            "variant": run.variant,
            "index": run.index,
            "command": list(run.command),
            "parameters": without_home(run.parameters),
        }
        if run.space is None:
            values["linked"] = linked_in(run.choices)  # also none: the folder may be of a run that never began
        else:
            values["space"] = run.space
            if "point" in files.record():  # it has chosen its values already
                del values["variant"], values["parameters"]
        if run.method != "grid":
            values |= {"method": run.method, "metric": run.metric}
        if run.hyperband is not None:
            values["early_terminate"] = vars(run.hyperband)
        files.note(**values)


def without_repeats(runs: Sequence[Checked]) -> tuple[list[Checked], str]:
    """Leave out runs that would compute the same as an earlier one: of `[0, 0.0]`, say, or of an option without effect.

    Returns:
        The others, and a sentence about those that are left out; empty where none is.
    """
    kept: dict[object, Checked] = {}
    repeats = []
    for each in runs:
        # A run that chooses its values when it starts has no results of its own yet.
        first = kept.setdefault(each.run.name if each.run.space else each.config.results_key, each)
        if first is not each:
            repeats.append(f"{each.run.name} as {first.run.name}")
    more = f" and {len(repeats) - _SHOWN} more" if len(repeats) > _SHOWN else ""
    said = f"Left out, since they would compute the same: {', '.join(repeats[:_SHOWN])}{more}." if repeats else ""
    return list(kept.values()), said


def make_plan(runs: Sequence[Checked], folder: Path) -> list[Planned]:
    """Find or assign the folder of each run, in order; nothing is created.

    A folder belongs to a run whose options compute the same, whatever its name: a grid may grow, and what is done stays
    done.

    Args:
        runs: The runs of the grid.
        folder: Folder of the ablation.

    Raises:
        InputError: A folder of the right name holds a run of other settings.
    """
    there = [RunFolder(path.parent) for path in sorted(folder.glob(f"*/{RunFolder.RECORD}"))]
    by_results = {config.results_key: files.path for files in there if (config := files.config()) is not None}
    # One that has not begun has no configuration yet.
    waiting = {_settings(f.record().get("command"), f.record().get("parameters")): f.path for f in there}
    begun = {waiting.get(_settings(checked.run.command, checked.run.parameters)) for checked in runs}
    plan = []
    for checked in runs:
        run = checked.run
        if run.space is not None:
            own = folder / run.name  # its values, and so its results, are its own to choose
            if own.exists() and not _same_space(RunFolder(own).record().get("space"), run.space):
                raise InputError(f"{own} holds a run of another search: give another --out, or remove the folder.")
            plan.append(Planned(**vars(checked), folder=own, state=read_state(own)))
            continue
        path = by_results.get(checked.config.results_key) or waiting.get(_settings(run.command, run.parameters))
        if path is None:
            path = folder / run.name
            if path.exists() and (path in begun or not _never_began(path)):
                raise InputError(
                    f"{path} holds a run of other settings ({_difference(RunFolder(path), checked)}): give another "
                    "--out, or remove the folder."
                )
        plan.append(Planned(**vars(checked), folder=path, state=read_state(path)))
    return plan


def _same_space(before: Any, now: Mapping[str, Any]) -> bool:
    """Tell whether runs choose from the same; what is excluded may change."""
    return isinstance(before, Mapping) and all(before.get(key) == now[key] for key in ("search", "parameters"))


def _never_began(folder: Path) -> bool:
    """Tell whether a run has failed before it had a configuration: other settings may take its folder."""
    return not (folder / RunFolder.CONFIG).exists() and read_state(folder).status == "failed"


def _settings(command: Any, parameters: Any) -> str:
    return json.dumps([list(command or ()), without_home(parameters or {})], sort_keys=True, default=str)


def _difference(files: RunFolder, checked: Checked) -> str:
    record, stored = files.record(), files.config()
    if not record:
        return "no ablation's"
    if stored is not None:
        return "; ".join(stored.differences(checked.config)) or "another length of training"
    theirs, ours = record.get("parameters", {}), without_home(checked.run.parameters)
    keys = [key for key in {**theirs, **ours} if theirs.get(key) != ours.get(key)]
    if not keys:
        return f"cct fit {' '.join(record.get('command', []))}"
    return ", ".join(f"{key} was {theirs.get(key, 'not set')}, is {ours.get(key, 'not set')}" for key in keys)


def run_seconds(item: Planned, plan: Sequence[Planned]) -> float | None:
    """Estimate the wall time of a run, in seconds, from the finished ones: those of its variant, else all.

    None while no run has finished.
    """
    finished = [other for other in plan if other.state.status == "finished"]  # those that were stopped took less
    done = [(other.run.variant, other.state.seconds) for other in finished if other.state.seconds is not None]
    alike = [seconds for variant, seconds in done if variant == item.run.variant]
    return statistics.fmean(alike or [seconds for _, seconds in done]) if done else None


def run_left(item: Planned) -> float | None:
    """Estimate the seconds left of a running run from the epochs of its current attempt; None for any other."""
    state = item.state
    if state.status != "running" or state.began is None or state.epoch <= state.began_at:
        return None
    return (time.time() - state.began) / (state.epoch - state.began_at) * max(0, item.epochs - state.epoch)


def seconds_left(plan: Sequence[Planned], *, concurrency: int) -> float | None:
    """Estimate the wall time until all runs are done, in seconds.

    Before the first run has finished, by the epochs of the running ones; None while none of these has completed one.

    Args:
        plan: The runs, in their state now.
        concurrency: Runs at the same time.
    """
    left = [item for item in plan if item.state.status in ("waiting", "interrupted", "running")]
    expected = [seconds for item in left if (seconds := run_seconds(item, plan)) is not None]
    if len(expected) == len(left):
        return sum(expected) / max(1, min(concurrency, len(left)))
    running = [(item, seconds) for item in left if (seconds := run_left(item))]
    if not running:
        return None
    total = statistics.fmean(seconds * item.epochs / (item.epochs - item.state.epoch) for item, seconds in running)
    waiting = sum(item.state.status != "running" for item in left)
    return max(seconds for _, seconds in running) + total * waiting / concurrency
