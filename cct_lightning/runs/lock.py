"""A lock on a folder that lives as long as the processes that hold it, however they end."""

import os
from pathlib import Path
from typing import IO

from cct_lightning.errors import InputError
from cct_lightning.runs.folder import RunFolder

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]


def take_lock(folder: Path) -> IO[str] | None:
    """Lock an existing folder: return the open lock file, or None when another process holds the lock.

    A child process that inherits the file (`pass_fds`) holds the lock, too: it is free once the last of them has closed
    it or died.

    Raises:
        InputError: This system has no such locks.
    """
    if fcntl is None:
        raise InputError("`cct ablate` needs Linux or macOS: on Windows use WSL, or `wandb sweep` and `wandb agent`.")
    file = (folder / RunFolder.LOCK).open("a+")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.close()
        return None
    file.seek(0)
    file.truncate()
    file.write(f"{os.getpid()} {os.uname().nodename}\n")
    file.flush()
    return file


def is_locked(folder: Path) -> bool:
    """Tell whether a process holds the lock of a folder."""
    if fcntl is None or not (folder / RunFolder.LOCK).exists():
        return False
    with (folder / RunFolder.LOCK).open() as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False
