"""A grid as one SLURM job array: a task for each run, which finds all that it does in its run folder.

Plain sbatch, since a run saves, continues and is requeued by itself; submitit would add a second record of all this in
pickled files. Source: https://slurm.schedmd.com/job_array.html.
"""

import json
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from cct_lightning.ablation.plan import Planned
from cct_lightning.ablation.trial import write_job
from cct_lightning.errors import InputError
from cct_lightning.slurm import ARRAY
from cct_lightning.system.atomic import write_json

_TASKS = ".slurm.json"  # in the folder of the ablation: run -> its task, as `squeue` names it


def in_queue(folder: Path) -> dict[str, str]:
    """Return the runs of an ablation that SLURM has, waiting or running, and the state of each (`PENDING`, ...).

    Raises:
        InputError: SLURM does not answer.
    """
    tasks = _tasks(folder)
    if not tasks:
        return {}
    states = dict(line.split() for line in _slurm("squeue", "--me", "--noheader", "--array", "--format=%i %T"))
    return {run: states[task] for run, task in tasks.items() if task in states}


def sbatch_options(
    *, partition: str | None, time: str | None, cpus: int | None, gpus: float | None, more: Sequence[str]
) -> list[str]:
    """Return what each run asks SLURM for, as options of sbatch; what is None is as in `array.sbatch`.

    Args:
        partition: Of the cluster.
        time: Limit of the wall time.
        cpus: CPU cores.
        gpus: GPUs, on one machine.
        more: Others, such as `mem=32G`; `array=%4` lets four runs of the grid run at a time.

    Raises:
        InputError: A part of a GPU, or other tasks of the array.
    """
    for word in more:
        if re.fullmatch(r"-*array=(?!%\d+$).*", word):
            raise InputError(f"--sbatch {word}: the grid decides the tasks. For 4 runs at a time give array=%4.")
    if gpus is not None and (gpus < 0 or gpus != int(gpus)):
        raise InputError(f"--gpus_per_run is {gpus:g}: SLURM gives whole GPUs.")
    whole = None if gpus is None else int(gpus)
    named = {"partition": partition, "time": time, "cpus-per-task": cpus, "gpus-per-node": whole}
    given = [f"{key}={value}" for key, value in named.items() if value is not None]
    return [f"--{word.lstrip('-')}" for word in (*given, *more)]


def check_accepted(options: Sequence[str], *, runs: int) -> None:
    """Check that SLURM would take a job array of so many runs; nothing is written or submitted.

    Raises:
        InputError: There is no SLURM here, or it would refuse the job.
    """
    _slurm("sbatch", "--test-only", *_array(runs, options), str(ARRAY))


def submit(todo: Sequence[Planned], *, folder: Path, options: Sequence[str]) -> str:
    """Submit runs as one job array and return its number.

    Args:
        todo: The runs; those that SLURM has already must not be among them.
        folder: Folder of the ablation, which all machines see under this path.
        options: Options of sbatch, such as `--partition=gpu`.

    Raises:
        InputError: There is no SLURM here, or it refuses the job.
    """
    for item in todo:
        item.write_record()
        write_job(item)
    words = [f"--job-name={folder.name}", f"--output={folder}/slurm-%A_%a.log", *_array(len(todo), options)]
    job = _slurm("sbatch", "--parsable", *words, str(ARRAY), sys.executable, *(str(item.folder) for item in todo))
    number = job[0].split(";")[0]  # "12;cluster" where there are several
    new = {item.folder.name: f"{number}_{index}" for index, item in enumerate(todo)}
    write_json(folder / _TASKS, {**_tasks(folder), **new})
    return number


def _array(runs: int, options: Sequence[str]) -> list[str]:
    limit = "".join(word.removeprefix("--array=") for word in options if word.startswith("--array="))
    return [*(word for word in options if not word.startswith("--array=")), f"--array=0-{runs - 1}{limit}"]


def _tasks(folder: Path) -> dict[str, str]:
    path = folder / _TASKS
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}


def _slurm(*command: str) -> list[str]:
    try:
        done = subprocess.run(command, capture_output=True, encoding="utf-8")
    except FileNotFoundError:
        raise InputError(f"There is no SLURM here: `{command[0]}` is not installed.") from None
    if done.returncode:
        raise InputError(f"{command[0]} has failed: {' '.join(done.stderr.split())}")
    return done.stdout.splitlines()
