"""The engine: Ray Tune places the runs of an ablation on the GPUs and cores of a machine or a cluster.

Tune rather than plain Ray tasks: it places runs and starts those of a lost machine again. Ray keeps nothing that
matters, see `runs/state.py`: what a search tries next and which runs stop early is decided from the run folders, where
Tune's samplers and schedulers would forget what they know when killed. Source: https://docs.ray.io/en/latest/tune.
"""

import logging
import os
import shutil
import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

from cct_lightning.ablation.plan import Planned
from cct_lightning.ablation.trial import STOP, job_of, trial
from cct_lightning.errors import InputError
from cct_lightning.runs.lock import is_locked
from cct_lightning.system.machine import cores

_STORAGE = ".ray"  # in the folder of the ablation; removed at the end

# Before Ray is imported. No option of `ray.init` or `Tuner` says the same.
_ENVIRONMENT = {
    "RAY_USAGE_STATS_ENABLED": "0",  # no telemetry
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "1",  # a run that gets no GPU sees none
    "RAY_AIR_NEW_OUTPUT": "0",  # no tables of Tune's, for which `verbose` has no word
    "TUNE_DISABLE_SIGINT_HANDLER": "1",  # Ctrl-C is ours to handle: the runs save
}


@dataclass(frozen=True, kw_only=True)
class Node:
    """What one machine has for runs."""

    cpus: int
    gpus: float


@dataclass(frozen=True, kw_only=True)
class Share:
    """What each run gets: GPUs, also a fraction; CPU cores, its threads without a GPU; and how many run at a time."""

    gpus: float
    cpus: int
    concurrency: int


def divide(
    nodes: Sequence[Node], *, runs: int, cpus_per_run: int | None = None, gpus_per_run: float | None = None
) -> Share:
    """Divide cores and GPUs among runs, each of which fits on one machine.

    Whether some runs are done already makes no difference: a continued run computes on as many threads as before, and
    so gives the same numbers.

    Args:
        nodes: The machines.
        runs: Runs of the grid.
        cpus_per_run: What the user asked for; None shares all cores evenly.
        gpus_per_run: What the user asked for; None is one where there are any.

    Raises:
        InputError: More than any machine has.
    """
    gpus, cpus = max(node.gpus for node in nodes), max(node.cpus for node in nodes)
    if gpus_per_run is not None and gpus_per_run < 0:
        raise InputError(f"--gpus_per_run is {gpus_per_run}: it must be positive.")
    if cpus_per_run is not None and cpus_per_run < 1:
        raise InputError(f"--cpus_per_run is {cpus_per_run}: it must be positive.")
    wanted = min(1.0, gpus) if gpus_per_run is None else gpus_per_run
    if wanted > gpus:
        raise InputError(f"--gpus_per_run is {wanted:g}, but there are {gpus:g} GPUs (on one machine).")
    if (cpus_per_run or 1) > cpus:
        raise InputError(f"--cpus_per_run is {cpus_per_run}, but there are {cpus} CPU cores (on one machine).")
    if wanted >= 1 and wanted != int(wanted):
        raise InputError(f"--gpus_per_run is {wanted:g}: give a whole number, or a fraction below 1.")

    def slots(each: int) -> int:
        return sum(min(n.cpus // each, int(n.gpus / wanted + 1e-9) if wanted else n.cpus) for n in nodes)

    concurrency = min(slots(cpus_per_run or 1), runs)
    # The most cores with which as many runs have a place.
    each = cpus_per_run or next(each for each in range(cpus, 0, -1) if slots(each) >= concurrency)
    return Share(gpus=wanted, cpus=each, concurrency=concurrency)


@contextmanager
def cluster(address: str | None) -> Iterator[list[Node]]:
    """Start Ray on this machine, or join a cluster; give its machines, and end or leave it afterwards.

    Args:
        address: `auto` or host:port of a running cluster; None starts one here.

    Raises:
        InputError: No cluster answers.
    """
    for key, value in _ENVIRONMENT.items():
        os.environ.setdefault(key, value)
    import ray

    # `local`, or Ray would join a cluster that it finds running on this machine, anybody's, and refuse the rest.
    # Nothing is stored in its shared memory; this is the least it takes.
    here = {"address": "local", "num_cpus": cores(), "include_dashboard": False, "object_store_memory": 100 * 2**20}
    options: dict[str, Any] = here if address is None else {"address": address}
    try:
        try:
            ray.init(log_to_driver=False, logging_level=logging.ERROR, **options)
        except (ConnectionError, ValueError, RuntimeError) as error:
            raise InputError(f"No Ray cluster at {address}: {' '.join(str(error).split())[:200]}") from error
        there = [node["Resources"] for node in ray.nodes() if node["Alive"]]
        yield [Node(cpus=int(has.get("CPU", 0)), gpus=float(has.get("GPU", 0))) for has in there]
    finally:
        ray.shutdown()


def run_all(todo: Sequence[Planned], *, folder: Path, share: Share) -> bool:
    """Train runs of the ablation in a folder until all have ended or the user interrupts.

    Returns:
        Whether they were interrupted: then the running ones have saved and ended.
    """
    from ray import tune

    stop = folder / STOP

    class Interrupted(tune.Stopper):
        def __call__(self, trial_id: str, result: dict[str, object]) -> bool:
            return False

        def stop_all(self) -> bool:
            # Runs that are still saving keep their lock.
            return stop.exists() and not any(is_locked(item.folder) for item in todo)

    tuner = tune.Tuner(
        tune.with_resources(trial, {"cpu": share.cpus, "gpu": share.gpus}),
        param_space={"job": tune.grid_search([vars(job_of(item, threads=share.cpus)) for item in todo])},
        # One process serves many runs: to start another takes seconds.
        tune_config=tune.TuneConfig(reuse_actors=True, max_concurrent_trials=share.concurrency),
        run_config=tune.RunConfig(
            name=_STORAGE,
            storage_path=str(folder),
            verbose=0,
            stop=Interrupted(),
            # `trial` raises nothing: a failure is a lost machine or process, and worth another try.
            failure_config=tune.FailureConfig(max_failures=2),
        ),
    )
    stop.unlink(missing_ok=True)
    try:
        with _interruptible(stop):
            tuner.fit()
        return stop.exists()
    finally:
        stop.unlink(missing_ok=True)
        shutil.rmtree(folder / _STORAGE, ignore_errors=True)


@contextmanager
def _interruptible(stop: Path) -> Iterator[None]:
    def handler(number: int, frame: FrameType | None) -> None:
        if stop.exists():
            raise KeyboardInterrupt
        stop.touch()
        print("\nInterrupted: the runs save and end; once more to end at once", flush=True)

    before = {number: signal.signal(number, handler) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, old in before.items():
            signal.signal(number, old)
