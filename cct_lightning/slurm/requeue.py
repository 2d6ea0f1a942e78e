"""Back into SLURM's queue, once a run has saved because its time is up (SIGUSR1).

Source: https://slurm.schedmd.com/scontrol.html. Only the run knows that it has saved, and whether it got any further;
an exit code does not say so, since that of a process killed by the signal before it could save is the same.
"""

import atexit
import os
import signal
import subprocess
import sys

from cct_lightning.runs.interrupts import Stopped


class Requeue:
    """Put this process's SLURM job back into the queue when the process ends, where a run asks for it."""

    def __init__(self) -> None:
        self._stopped: Stopped | None = None
        if "SLURM_JOB_ID" in os.environ and hasattr(signal, "SIGUSR1"):
            # SLURM ends the job when it is requeued: only after what loggers do at exit, which register theirs later.
            atexit.register(self._at_exit)
            # A signal before training, or while the best epoch is tested, must not kill what cannot save.
            signal.signal(signal.SIGUSR1, signal.SIG_IGN)

    def after(self, stopped: Stopped) -> None:
        """Requeue at the end of the process, where SIGUSR1 has stopped its run; the first rank speaks for all."""
        if stopped.name == "SIGUSR1" and stopped.code:
            self._stopped = stopped

    def _at_exit(self) -> None:
        if self._stopped is None:
            return
        if not self._stopped.steps:
            print(
                "The job is not requeued, since no step was trained before SIGUSR1 came: give --time well above the "
                "seconds of --signal.",
                file=sys.stderr,
            )
            return
        # SLURM_JOB_ID alone may name all tasks of an array.
        array = os.environ.get("SLURM_ARRAY_JOB_ID")
        job = f"{array}_{os.environ['SLURM_ARRAY_TASK_ID']}" if array else os.environ["SLURM_JOB_ID"]
        try:
            done = subprocess.run(["scontrol", "requeue", job], capture_output=True, encoding="utf-8")
            problem = done.stderr.strip()
        except OSError as error:
            problem = str(error)
        if problem:
            print(f"The job could not be requeued ({problem}): submit it again, with --run_dir.", file=sys.stderr)
