"""Run `cct` as on Windows: the package finds no POSIX module, attribute or signal; the libraries keep theirs.

python -X warn_default_encoding as_on_windows.py fit --config digits ...
"""

import builtins
import importlib
import os
import pkgutil
import signal
import sys
import warnings
from types import ModuleType
from typing import Any

MODULES = {"fcntl", "grp", "posix", "pty", "pwd", "readline", "resource", "syslog", "termios", "tty"}
# https://docs.python.org/3/library/os.html, "Availability: Unix"; likewise of signal.
MISSING = {
    "os": """chown chroot confstr ctermid fork forkpty geteuid getgid getgroups getloadavg getpgid getpgrp getpriority
        getresuid getuid initgroups killpg lchown major minor mkfifo mknod nice openpty pathconf pipe2 pread preadv
        pwrite register_at_fork sched_getaffinity sched_setaffinity sched_yield setgid setpgid setsid setuid statvfs
        sync sysconf uname wait wait3 waitid wait4 WEXITSTATUS WIFSIGNALED O_CLOEXEC O_NONBLOCK O_DIRECTORY""",
    "signal": """SIGALRM SIGCHLD SIGCONT SIGHUP SIGKILL SIGPIPE SIGQUIT SIGSTOP SIGTSTP SIGUSR1 SIGUSR2 alarm pause
        pthread_kill pthread_sigmask setitimer siginterrupt sigpending sigwait""",
}


class Without(ModuleType):
    """A module without some of its attributes."""

    def __init__(self, module: ModuleType, missing: set[str]) -> None:
        super().__init__(module.__name__)
        self._module, self._missing = module, missing

    def __getattr__(self, name: str) -> Any:
        if name in self._missing:
            raise AttributeError(f"Windows has no {self.__name__}.{name}")
        return getattr(self._module, name)


FOUND = {name: Without(module, set(MISSING[name].split())) for name, module in (("os", os), ("signal", signal))}
ordinary = builtins.__import__


def import_as_on_windows(name: str, importer: Any = None, *args: Any, **kwargs: Any) -> Any:
    if not (importer or {}).get("__name__", "").startswith("cct_lightning"):
        return ordinary(name, importer, *args, **kwargs)
    if name in MODULES:
        raise ModuleNotFoundError(f"No module named {name!r}", name=name)
    return FOUND.get(name) or ordinary(name, importer, *args, **kwargs)


def sync_as_on_windows(descriptor: int) -> None:
    """Windows flushes only files that are open for writing."""
    os.write(descriptor, b"")


if __name__ == "__main__":
    builtins.__import__ = import_as_on_windows
    FOUND["os"].fsync = sync_as_on_windows
    # Its default encoding is not UTF-8.
    warnings.filterwarnings("error", category=EncodingWarning, module="cct_lightning")
    import cct_lightning
    from cct_lightning.commands.main import main

    for module in pkgutil.walk_packages(cct_lightning.__path__, "cct_lightning."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
    sys.exit(main())
