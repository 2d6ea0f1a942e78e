"""Signals that ask a run to end: noted at once, obeyed where the state can be saved exactly.

SIGTERM (preemption, `kill`), SIGINT (Ctrl-C), SIGUSR1 (what schedulers send some minutes before the time is up).
"""

import signal
import sys
import threading
from types import FrameType

# Windows has no SIGUSR1.
_SIGNALS = [getattr(signal, name) for name in ("SIGTERM", "SIGINT", "SIGUSR1") if hasattr(signal, name)]
STOPPED = {128 + number for number in _SIGNALS}  # exit codes of a run that has saved


class Stopped(SystemExit):
    """A run that a signal asked to end, between two batches. Its code is the usual one, 128 + signal.

    Args:
        number: The signal.
        quiet: For all ranks but the first: end with 0, so that no launcher takes it for a failure.

    Attributes:
        name: Of the signal.
        steps: Optimizer steps that this process has trained, set when they are saved.
    """

    steps = 0

    def __init__(self, number: int, *, quiet: bool = False) -> None:
        super().__init__(0 if quiet else 128 + number)
        self.name = signal.Signals(number).name


class Interrupts:
    """Note the first signal; a second Ctrl-C ends at once, as Python would."""

    received = 0  # number of the signal; 0 while there is none

    def listen(self) -> None:
        """Handle the signals; Lightning puts the handlers that were there before back when fit ends."""
        self.received = 0
        if threading.current_thread() is threading.main_thread():
            for number in _SIGNALS:
                signal.signal(number, self._note)

    def _note(self, number: int, frame: FrameType | None) -> None:
        if number == signal.SIGINT:
            if self.received:
                raise KeyboardInterrupt
            print("\nStopping after this batch; Ctrl-C again to stop at once, unsaved.", file=sys.stderr)
        self.received = self.received or number
