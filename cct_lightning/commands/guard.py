"""`python -m cct_lightning.commands.guard fit ...`: a `cct` that does not outlive the process that started it.

Whoever started it may be killed with -9 and so cannot clean up; a run that went on training unseen would write into a
folder that the next engine continues.
"""

import ctypes
import os
import signal
import sys
import threading
import time

from cct_lightning.commands.main import main

_PR_SET_PDEATHSIG = 1  # linux/prctl.h


def die_with_parent() -> None:
    """Have this process killed when its parent ends, however that happens."""
    parent = os.getppid()
    # Ray's processes block signals, and children inherit that.
    signal.pthread_sigmask(signal.SIG_SETMASK, [])
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:
            os._exit(1)
    else:
        threading.Thread(target=_watch, args=(parent,), daemon=True).start()


def _watch(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(1)


if __name__ == "__main__":
    die_with_parent()
    sys.exit(main())
