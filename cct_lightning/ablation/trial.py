"""One run of an ablation: an ordinary `cct fit` in a process of its own. This is what Ray's workers execute.

The module imports neither torch nor Lightning: a worker starts in a second.
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from cct_lightning.ablation.record import note
from cct_lightning.runs.folder import RunFolder
from cct_lightning.runs.lock import take_lock
from cct_lightning.runs.state import read_state

STOP = ".stop"  # in the folder of the ablation: its runs are to save and end

_BAD_INPUT = 2  # exit code of `cct`: trying again cannot help
_WAIT_FOR_LOCK = 30.0  # seconds that the run of an engine just killed may take to die
_WAIT_FOR_SAVE = 60.0  # seconds that a run may take to save and end


@dataclass(frozen=True, kw_only=True)
class Job:
    """What a worker is to do.

    Attributes:
        folder: Run folder.
        arguments: Words after `cct fit`.
        threads: CPU threads.
        attempts: How often to try.
        cwd: Where `cct ablate` was started: the user's own modules and relative paths are found there.
    """

    folder: Path
    arguments: tuple[str, ...]
    threads: int
    attempts: int
    cwd: Path


def run_job(job: Job) -> str:
    """Train a run to its end, from its checkpoint where it has one.

    Args:
        job: The run.

    Returns:
        Its status.
    """
    lock = _wait_for_lock(job.folder)
    if lock is None:
        note(job.folder, reason="another process trains in this folder")
        return "failed"
    with lock:
        for _ in range(job.attempts):
            if read_state(job.folder, mine=True).status == "finished" or stopping(job.folder):
                break
            code = _attempt(job, lock)
            if read_state(job.folder, mine=True).status != "failed" or code == _BAD_INPUT:
                break
        return read_state(job.folder, mine=True).status


def stopping(folder: Path) -> bool:
    """Tell whether the ablation that a run folder belongs to is to stop."""
    return (folder.parent / STOP).exists()


def _wait_for_lock(folder: Path) -> IO[str] | None:
    deadline = time.monotonic() + _WAIT_FOR_LOCK
    while (lock := take_lock(folder)) is None and time.monotonic() < deadline:
        time.sleep(0.2)
    return lock


def _attempt(job: Job, lock: IO[str]) -> int:
    command = [sys.executable, "-m", "cct_lightning.commands.guard", "fit", *job.arguments]
    environment = {**os.environ, "OMP_NUM_THREADS": str(job.threads), "PYTHONUNBUFFERED": "1"}
    note(job.folder, reason="", began=time.time(), began_at=read_state(job.folder, mine=True).epoch)
    with (job.folder / RunFolder.LOG).open("a") as log:
        # The last word is this folder.
        log.write(f"$ cct fit {subprocess.list2cmdline(job.arguments[:-1])}\n")
        log.flush()
        start = log.tell()
        child = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env=environment,
            cwd=job.cwd,
            # Should this worker be killed, the folder stays locked until the child is dead.
            pass_fds=(lock.fileno(),),
            # Ctrl-C in the terminal is the engine's to handle.
            start_new_session=True,
        )
        stopped = _wait(child, job.folder)
    if read_state(job.folder, mine=True).status != "finished" and child.returncode != 0 and not stopped:
        note(job.folder, reason=_reason(child.returncode, job.folder, start))
    return child.returncode


def _wait(child: "subprocess.Popen[bytes]", folder: Path) -> bool:
    while child.poll() is None:
        if stopping(folder):
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


def _reason(code: int, folder: Path, start: int) -> str:
    with (folder / RunFolder.LOG).open(errors="replace") as log:
        log.seek(start)
        lines = [line.strip() for line in log if line.strip()]
    if code < 0:
        hint = ", perhaps for want of memory" if -code == signal.SIGKILL else ""
        return f"killed by {signal.Signals(-code).name}{hint}"
    last = lines[-1] if lines else "no message"
    return f"{last[:300]} (exit code {code})"


def trial(config: dict[str, Any]) -> None:
    """Ray Tune's function: one run.

    Args:
        config: `job`, as a dict of plain types.
    """
    from ray import tune

    tune.report({"status": run_job(job_of(config["job"]))})


def plain(job: Job) -> dict[str, Any]:
    """Return a job as plain types, for Ray."""
    return {**vars(job), "folder": str(job.folder), "arguments": list(job.arguments), "cwd": str(job.cwd)}


def job_of(values: dict[str, Any]) -> Job:
    """Return the job that `plain` took apart."""
    arguments: Sequence[str] = values["arguments"]
    places = {key: Path(values[key]) for key in ("folder", "cwd")}
    return Job(**{**values, **places, "arguments": tuple(arguments)})
