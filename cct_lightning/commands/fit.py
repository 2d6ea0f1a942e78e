"""`cct fit`: parse the options, put the run together, train it."""

from collections.abc import Sequence

from cct_lightning.build import build_run
from cct_lightning.commands.failures import exit_on_known_errors
from cct_lightning.config.parser import parse
from cct_lightning.runs.interrupts import Stopped
from cct_lightning.slurm.requeue import Requeue
from cct_lightning.tracking.progress import quiet_libraries


def fit_command(args: Sequence[str]) -> None:
    """Run `cct fit`; `args` are the words after the command.

    Raises:
        InputError: What the user asked for cannot be done.
    """
    quiet_libraries()
    requeue = Requeue()
    with exit_on_known_errors("fit"):
        try:
            build_run(parse("fit", args)).train()
        except Stopped as stopped:
            requeue.after(stopped)
            raise
