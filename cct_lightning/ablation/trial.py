"""One run of an ablation: an ordinary `cct fit` in a process of its own. Ray's workers and SLURM's tasks execute it.

    python -m cct_lightning.ablation.trial RUN_FOLDER     as a task of a job array

The module imports neither torch nor Lightning: a worker starts in a second.
"""  # fmt: skip

import dataclasses
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import IO, Any

from cct_lightning.ablation.grid import words
from cct_lightning.ablation.plan import Planned
from cct_lightning.errors import InputError
from cct_lightning.runs.folder import DONE, RunFolder
from cct_lightning.runs.interrupts import STOPPED
from cct_lightning.runs.lock import LOCKED_VARIABLE, take_lock
from cct_lightning.runs.state import RunState, read_state

STOP = ".stop"  # in the folder of the ablation: its runs are to save and end

_BAD_INPUT = 2  # exit code of `cct`: trying again cannot help
_WAIT_FOR_LOCK = 30.0  # seconds that the run of an engine just killed may take to die
_WAIT_FOR_SAVE = 60.0  # seconds that a run may take to save and end


@dataclass(frozen=True, kw_only=True)
class Job:
    """What a worker is to do, in plain types, which Ray and JSON hand on."""

    folder: str  # of the run
    arguments: list[str]  # words after `cct fit`; the last is the folder
    threads: int  # of the CPU
    attempts: int
    cwd: str  # where `cct ablate` was started: the user's own modules and relative paths are found there


def job_of(item: Planned, *, threads: int) -> Job:
    """Return what a worker is to do for a run of the plan, with so many threads of the CPU."""
    tracking = {"tracking.group": item.folder.parent.name, "tracking.name": item.run.name}
    extra = words({key: v for key, v in {**tracking, **item.run.defaults}.items() if key not in item.run.parameters})
    # A run that failed before this command gets one more try, any other one two.
    attempts = 1 if item.state.status == "failed" else 2
    arguments = [*item.run.arguments, *extra, f"--run_dir={item.folder}"]
    return Job(folder=str(item.folder), arguments=arguments, threads=threads, attempts=attempts, cwd=str(Path.cwd()))


def write_job(item: Planned) -> None:
    """Note in a run's folder what its task is to do; the task knows how many cores it has."""
    RunFolder(item.folder).note(job=vars(job_of(item, threads=0)))


def run_task(folder: Path) -> int:
    """Do what `write_job` has noted, as a SLURM task, and return the exit code; what SLURM signals, the run gets."""
    threads = int(os.environ.get("SLURM_CPUS_PER_TASK", "1"))
    job = Job(**{**RunFolder(folder).record()["job"], "threads": threads})
    status = run_job(job, signals=(signal.SIGTERM, signal.SIGUSR1))
    return 0 if status in DONE else 1


def trial(config: dict[str, Any]) -> None:
    """Ray Tune's function: one run, whose `Job` is `config["job"]` as a dict."""
    from ray import tune

    tune.report({"status": run_job(Job(**config["job"]))})


def run_job(job: Job, *, signals: Sequence[signal.Signals] = ()) -> str:
    """Train a run to its end, from its checkpoint where it has one; pass signals on to it; return its status."""
    files = RunFolder(Path(job.folder))
    deadline = time.monotonic() + _WAIT_FOR_LOCK
    while (lock := take_lock(files.path)) is None and time.monotonic() < deadline:
        time.sleep(0.2)
    if lock is None:
        files.note(reason="another process trains in this folder")
        return "failed"
    with lock:
        if (chosen := _chosen(files)) is None:
            return "failed"
        job = dataclasses.replace(job, arguments=[*job.arguments[:-1], *words(chosen), job.arguments[-1]])
        for _ in range(job.attempts):
            if _state(files).status in DONE or _stopping(files):
                break
            code = _attempt(job, files, lock, signals)
            if _state(files).status != "failed" or code == _BAD_INPUT:
                break
        return _state(files).status


def _chosen(files: RunFolder) -> dict[str, Any] | None:
    """Return the options that a run of a search by `bayes` has chosen, which it does first; None where it cannot."""
    record = files.record()
    if "space" in record and "chosen" not in record:
        from cct_lightning.ablation.bayes import choose

        try:
            choose(files)
        except Exception as error:  # of any class: Ray would keep it in its own files, and the state would be `waiting`
            files.note(reason=str(error) if isinstance(error, InputError) else f"{type(error).__name__}: {error}")
            return None
    return dict(files.record().get("chosen", {}))


def _state(files: RunFolder) -> RunState:
    return read_state(files.path, mine=True)


def _stopping(files: RunFolder) -> bool:
    return (files.path.parent / STOP).exists()


def _attempt(job: Job, files: RunFolder, lock: IO[str], signals: Sequence[signal.Signals]) -> int:
    files.note(reason="", began=time.time(), began_at=_state(files).epoch)
    with (files / files.LOG).open("a", encoding="utf-8") as log:
        log.write(f"$ cct fit {subprocess.list2cmdline(job.arguments[:-1])}\n")
        log.flush()
        start = log.tell()
        child = subprocess.Popen(
            [sys.executable, "-m", "cct_lightning.commands.guard", "fit", *job.arguments],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env={
                **os.environ,
                "OMP_NUM_THREADS": str(job.threads),
                "PYTHONUNBUFFERED": "1",
                LOCKED_VARIABLE: job.folder,
            },
            cwd=job.cwd,
            # Should this worker be killed, the folder stays locked until the child is dead.
            pass_fds=(lock.fileno(),),
            # Ctrl-C in the terminal is the engine's to handle.
            start_new_session=True,
        )

        told = False

        def pass_on(number: int, frame: FrameType | None) -> None:
            nonlocal told
            told = True
            child.send_signal(number)

        for number in signals:
            signal.signal(number, pass_on)
        # One that is told to stop before it can save dies of the signal: it has not failed, and is not tried again.
        stopped = _wait(child, files) or child.returncode in STOPPED or told
    if _state(files).status not in DONE and child.returncode != 0 and not stopped:
        files.note(reason=_reason(child.returncode, files, start))
    return child.returncode


def _wait(child: "subprocess.Popen[bytes]", files: RunFolder) -> bool:
    """Wait for a run to end, or end it where the ablation is to stop, which is returned."""
    while child.poll() is None:
        if _stopping(files):
            # Lightning saves last.ckpt at the next step and ends.
            child.terminate()
            try:
                child.wait(_WAIT_FOR_SAVE)
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()
            return True
        time.sleep(0.1)
    return False


def _reason(code: int, files: RunFolder, start: int) -> str:
    with (files / files.LOG).open(encoding="utf-8", errors="replace") as log:
        log.seek(start)
        lines = [line.rstrip() for line in log if line.strip()]
    if code < 0:
        hint = ", perhaps out of memory" if -code == signal.SIGKILL else ""
        return f"killed by {signal.Signals(-code).name}{hint}"
    last = lines[-1].strip() if lines else "no message"
    tracebacks = [i for i, line in enumerate(lines) if line.startswith("Traceback ")]
    if tracebacks and not last.startswith("cct fit: "):
        # Other libraries may write after it; its own lines above the error are indented.
        after = lines[tracebacks[-1] + 1 :]
        last = next((line for line in after if re.match(r"[A-Za-z_][\w.]*(: |$)", line)), last)
    return f"{last[:300]} (exit code {code})"


if __name__ == "__main__":
    sys.exit(run_task(Path(sys.argv[1])))
