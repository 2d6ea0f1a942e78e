"""`cct ablate`: train a grid of runs. What is done stays done, whatever happens: the same command again continues."""

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from cct_lightning.ablation.array import check_accepted, in_queue, sbatch_options, submit
from cct_lightning.ablation.engine import Node, Share, cluster, divide, run_all
from cct_lightning.ablation.grid import expand, find_grid, override, read_grid
from cct_lightning.ablation.live import counted, plan_table, refreshed, state_table, watching
from cct_lightning.ablation.plan import Planned, make_plan, seconds_left, without_repeats
from cct_lightning.ablation.to_wandb import write_sweep
from cct_lightning.errors import InputError
from cct_lightning.runs.folder import DONE, RunFolder
from cct_lightning.runs.lock import take_lock
from cct_lightning.system.durations import duration
from cct_lightning.system.importing import require_extra
from cct_lightning.system.machine import cores
from cct_lightning.system.places import local_path

_FAILED, _INTERRUPTED = 1, 130  # exit codes


def ablate(
    grid: str,
    *,
    out: str = "runs",
    set: Sequence[str] = (),
    gpus_per_run: float | None = None,
    cpus_per_run: int | None = None,
    address: str | None = None,
    slurm: bool = False,
    partition: str | None = None,
    time: str | None = None,
    sbatch: Sequence[str] = (),
    dry_run: bool = False,
    status: bool = False,
    to_wandb: str | None = None,
) -> None:
    """Train every run of a grid on the GPUs or cores there are; the same command again continues what was killed.

    Args:
        grid: Name of a shipped ablation, or a YAML file in the format of W&B's sweeps.
        out: Folder; the runs go to OUT/ABLATION/RUN. On a cluster, all machines see it under this path.
        set: Options of `cct fit` for all runs, such as data.root=/data; a list replaces the values of a varied one.
        gpus_per_run: GPUs of each run, also a fraction such as 0.5; 1 where there are any.
        cpus_per_run: CPU cores of each run; all cores shared evenly when null.
        address: A running Ray cluster, auto or host:port; this machine alone when null.
        slurm: Submit one SLURM job array, a task for each run, and end; each run gets 1 GPU and 8 cores by default.
        partition: SLURM's partition.
        time: SLURM's time limit of each run, such as 4:00:00 (24 hours by default).
        sbatch: Other options of sbatch, such as account=my_lab mem=32G.
        dry_run: Print the plan and stop: runs, parameters, MACs, estimated time.
        status: Print how far each run is, and stop.
        to_wandb: Write a file that `wandb sweep` takes, for a grid with fields that W&B does not know, and stop.

    Raises:
        InputError: A grid, an option or data with which the runs would not start.
        SystemExit: Code 1 when a run failed, 130 when interrupted.
    """
    if not (dry_run or status or slurm):
        require_extra("ablate", "ray", purpose="cct ablate")
    # Parsed first, since the imports take seconds.
    settings = override(read_grid(find_grid(grid)), set)
    if to_wandb is not None:
        write_sweep(settings, find_grid(grid), to_wandb)
        return
    if settings.search is not None and settings.search.method == "bayes" and not (dry_run or status):
        require_extra("search", "optuna", purpose="the method bayes")
    from cct_lightning.ablation.check import check_runs

    def share(nodes: Sequence[Node]) -> Share:
        return divide(nodes, runs=len(plan), cpus_per_run=cpus_per_run, gpus_per_run=gpus_per_run)

    folder = local_path(out).absolute() / settings.name
    if (old := folder.with_name(settings.file)).is_dir():  # of a version that did not follow `name`
        folder = old
    if not slurm and (partition or time or sbatch):
        raise InputError("--partition, --time and --sbatch are options of a SLURM job: give --slurm, too.")
    options = (
        sbatch_options(partition=partition, time=time, cpus=cpus_per_run, gpus=gpus_per_run, more=sbatch)
        if slurm
        else []
    )
    runs, left_out = without_repeats(check_runs(expand(settings), prepare=not dry_run and not status))
    if left_out:
        print(left_out)
    plan = make_plan(runs, folder)
    if status:
        _print_state(plan, folder)
        return
    if dry_run:
        import torch

        from cct_lightning.comparison.notes import expected_power

        Console().print(plan_table(plan))
        concurrency = share([Node(cpus=cores(), gpus=torch.cuda.device_count())]).concurrency
        left = duration(seconds_left(plan, concurrency=concurrency))
        print(f"{counted(plan)}; time left {left}, {concurrency} at a time on this machine, in {folder}")
        if power := expected_power(folder, [item.run.variant for item in plan]):
            print(power)
        return
    if slurm and (unfinished := [item for item in plan if item.state.status not in DONE]):
        check_accepted(options, runs=len(unfinished))
    folder.mkdir(parents=True, exist_ok=True)
    lock = take_lock(folder)
    if lock is None:
        raise InputError(f"Another `cct ablate` works on {folder}: wait for it, or give another --out.")
    interrupted = False
    with lock:
        todo = [item for item in plan if item.state.status not in DONE]
        print(f"{settings.name}: {len(plan)} runs, {len(plan) - len(todo)} finished before, in {folder}", flush=True)
        if slurm:
            _submit(todo, folder, options)
            return
        if todo:
            with cluster(address) as there:
                each = share(there)
                for item in todo:
                    item.write_record()
                with watching(plan, concurrency=each.concurrency):
                    interrupted = run_all(todo, folder=folder, share=each)
    _conclude(refreshed(plan), folder, interrupted=interrupted)


def _print_state(plan: Sequence[Planned], folder: Path) -> None:
    queue, note = {}, ""
    if any(item.state.status not in DONE for item in plan):
        try:
            queue = in_queue(folder)
        except InputError as error:  # on a machine that sees the folder but not the cluster, for instance
            note = f"What SLURM has of the runs is not known: {error}"
    concurrency = sum(item.state.status == "running" for item in plan) or 1
    Console().print(state_table(plan, concurrency=concurrency, queue=queue))
    if note:
        print(note)


def _submit(todo: Sequence[Planned], folder: Path, options: Sequence[str]) -> None:
    there = in_queue(folder)
    new = [item for item in todo if item.folder.name not in there and item.state.status != "running"]
    if len(new) < len(todo):
        print(f"{len(todo) - len(new)} runs are in SLURM's queue or run already")
    if new:
        print(f"Submitted {len(new)} runs as job {submit(new, folder=folder, options=options)}")
    print("The same command with --status shows how far they are.")


def _conclude(plan: Sequence[Planned], folder: Path, *, interrupted: bool) -> None:
    print(counted(plan))
    failed = [item for item in plan if item.state.status == "failed"]
    for item in failed:
        print(f"  {item.run.name} failed: {item.state.reason}; see {item.folder / RunFolder.LOG}")
    left = [item for item in plan if item.state.status not in (*DONE, "failed")]
    if interrupted or left:
        print("The same command again continues.")
        raise SystemExit(_INTERRUPTED if interrupted else _FAILED)
    if failed:
        print("The same command again tries the failed runs once more.")
        raise SystemExit(_FAILED)
    print(f"Compare them with `cct compare {folder}`")
