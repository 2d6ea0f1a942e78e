"""A lock on a folder that lives as long as the processes that hold it, however they end."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from cct_lightning.errors import InputError
from cct_lightning.runs.folder import RunFolder

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

# `cct ablate` holds the lock for the run that it starts, and names its folder here.
LOCKED_VARIABLE = "CCT_LOCKED_RUN"


def take_lock(folder: Path) -> IO[str] | None:
    """Lock an existing folder: return the open lock file, or None when another process holds the lock.

    A child process that inherits the file (`pass_fds`) holds the lock, too: it is free once the last of them has closed
    it or died. Processes that are forked, such as a DataLoader's workers, do not hold it.

    Raises:
        InputError: This system has no such locks.
    """
    if fcntl is None:
        raise InputError("`cct ablate` needs Linux or macOS: on Windows use WSL, or `wandb sweep` and `wandb agent`.")
    file = (folder / RunFolder.LOCK).open("a+", encoding="utf-8")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.close()
        return None
    except OSError:
        pass  # a file system without locks, as Lustre may be mounted: nothing can be guarded there
    # Workers may outlive a process that is killed by seconds, in which the same command could not continue.
    os.register_at_fork(after_in_child=file.close)
    file.seek(0)
    file.truncate()
    file.write(f"{os.getpid()} {os.uname().nodename}\n")
    file.flush()
    return file


def is_locked(folder: Path) -> bool:
    """Tell whether a process holds the lock of a folder."""
    if fcntl is None or not (folder / RunFolder.LOCK).exists():
        return False
    with (folder / RunFolder.LOCK).open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        except OSError:
            pass
    return False


def check_unlocked(folder: Path) -> None:
    """Check that no other process trains in a run folder.

    Raises:
        InputError: One does; the message says which process on which host.
    """
    if os.environ.get(LOCKED_VARIABLE) != str(folder) and is_locked(folder):
        raise _held(folder)


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold the lock of a run folder, which exists, while a run trains in it.

    Raises:
        InputError: See `check_unlocked`.
    """
    if fcntl is None or os.environ.get(LOCKED_VARIABLE) == str(folder):
        yield
        return
    lock = take_lock(folder)
    if lock is None:
        raise _held(folder)
    with lock:
        yield


def _held(folder: Path) -> InputError:
    process, _, host = (folder / RunFolder.LOCK).read_text(encoding="utf-8").strip().partition(" ")
    who = f"process {process} on {host}" if host else "another process"
    return InputError(
        f"A run is being trained in {folder} ({who}): wait until it ends, stop it, or choose another --run_dir."
    )
