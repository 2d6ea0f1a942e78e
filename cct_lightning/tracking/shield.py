"""A W&B run that no trouble of W&B ends: without its server it goes on offline, without its service not at all.

A wrong key, a refused project, a server that is gone: the run file is written on this machine whatever happens to the
network, and `wandb sync` uploads it later. Only where W&B's own service dies (killed for memory, disk full) is
metrics.csv alone left.
"""

import errno
import logging
import os
import re
import shlex
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from pytorch_lightning.loggers import WandbLogger
from pytorch_lightning.loggers.logger import rank_zero_experiment

from cct_lightning.compat import set_wandb_offline, wandb_is_offline, wandb_lost_errors
from cct_lightning.errors import InputError
from cct_lightning.runs.labels import relative
from cct_lightning.runs.metrics import logged_row

_BLOCK = 1 << 15  # bytes that W&B's run file grows by


class ShieldedWandbLogger(WandbLogger):
    """A WandbLogger that says where its run is, goes on offline where it cannot be online, and never stops a training.

    Args:
        why_offline: Why the run is offline although it was not asked to be, for the user.
        code: Folder whose Python files are logged; None for none.
        **options: Those of `WandbLogger`.
    """

    lost = False
    announced = False  # the first line about the run was printed

    def __init__(self, *, why_offline: str = "", code: Path | None = None, **options: Any) -> None:
        super().__init__(**options)
        self.why_offline, self.code = why_offline, code

    @property
    @rank_zero_experiment
    def experiment(self) -> Any:
        """The run; an error in a call of it does not reach the training."""
        if self.lost:
            return _Nothing()
        import wandb

        try:
            run = super().experiment if self.announced or not self.is_online else self._online_or_offline()
            # On a full disk, W&B's service drops what it should write, without an error.
            if not self.is_online and shutil.disk_usage(Path(str(self.save_dir), "wandb")).free < _BLOCK:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        except wandb.errors.UsageError as error:
            raise InputError(f"W&B refuses the options of the run: {first_line(error)}") from error
        except Exception as error:  # a service that dies while it starts shows as errors of many private classes
            self.lose(error)
            return _Nothing()
        if not self.announced:
            self.announced = True
            for handler in logging.getLogger("wandb").handlers:
                handler.handleError = _ignore  # type: ignore[method-assign]
            why = f" ({self.why_offline})" if self.why_offline else ""
            where = f"run {run.url}" if self.is_online else f"is offline{why}: upload later with {self._sync(run)}"
            print(f"W&B {where}", flush=True)
            if self.code is not None:
                _Shield(run, self.lose).log_code(str(self.code), exclude_fn=_is_installed)
        return _Shield(run, self.lose)

    def _online_or_offline(self) -> Any:
        import wandb

        try:
            return super().experiment
        except wandb.errors.UsageError:
            raise  # what the user asked for cannot be
        except Exception as error:
            self.why_offline = first_line(error)
            set_wandb_offline(self)
            wandb.teardown()  # the service takes the id of the run for used
            return super().experiment

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Log a row, with the epoch counted from 1."""
        super().log_metrics(logged_row(metrics), step)

    @property
    def is_online(self) -> bool:
        """Whether what is logged goes to a server."""
        return not wandb_is_offline(self)

    def lose(self, error: Exception) -> None:
        """Do without W&B from now on, and say so once."""
        if not self.lost:
            self.lost = True
            logging.getLogger("asyncio").addFilter(_is_no_write_to_it)
            reason = getattr(error, "strerror", None) or type(error).__name__
            print(f"W&B is lost ({reason}): training goes on, and metrics go to metrics.csv alone.", flush=True)

    def finish(self, exit_code: int = 0) -> tuple[str, str] | None:
        """End the run, so that the next run of this process is a run of its own.

        Returns:
            A title and where the run is, its address or the command that uploads it; None where there is none.
        """
        shield = self.experiment
        if self.lost:
            return None
        run = shield.unshielded
        try:
            run.finish(exit_code=exit_code)
        except TimeoutError:
            return "W&B did not take it all", f"upload the rest with {self._sync(run)}"
        except wandb_lost_errors() as error:
            self.lose(error)
            return None
        return ("W&B run", run.url) if self.is_online else ("W&B run, to upload", self._sync(run))

    def _sync(self, run: Any) -> str:
        """Return the command that uploads a run, and the earlier parts of a run that was continued."""
        parts = {Path(run.settings.sync_dir)}
        parts |= {file.parent for file in Path(str(self.save_dir)).glob(f"wandb/offline-run-*/run-{run.id}.wandb")}
        paths = [relative(part) for part in sorted(parts) if not (part / f"run-{run.id}.wandb.synced").exists()]
        online = "--include-online " if self.is_online else ""
        return f"wandb sync {online}{' '.join(map(_quoted, paths))}"


def _ignore(record: logging.LogRecord) -> None:
    """Say nothing of a line of W&B's own log that a full disk has no room for; logging would print a traceback."""


def _is_no_write_to_it(record: logging.LogRecord) -> bool:
    # W&B goes on writing to a service that has died, each time with a warning.
    return record.getMessage() != "socket.send() raised exception."


def _is_installed(path: str, root: str) -> bool:
    # Virtual environments, caches and W&B's own folders are not the user's code.
    parts = Path(path).relative_to(root).parts
    return any(part.startswith(".") or part in ("site-packages", "wandb") for part in parts)


def _quoted(path: str) -> str:
    # A quoted ~ is no home folder for the shell.
    return f"~/{shlex.quote(path[2:])}" if path.startswith("~/") else shlex.quote(path)


def first_line(error: Exception) -> str:
    """Return what an error of W&B says, in one line."""
    status = re.search(r"\b(?:error|encountered) (40[134])\b", str(error))
    if status:
        what = {"401": "the key is refused", "403": "the project is refused", "404": "no such user, team or project"}
        return f"{what[status[1]]}, {status[1]}"
    if re.search("deadline exceeded|Timed out|connection refused", str(error)):
        return "its server does not answer"
    return (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")[:200]


class _Nothing:
    # In place of a run that is lost: takes every call, and has every attribute.
    def __getattr__(self, name: str) -> "_Nothing":
        return self

    def __call__(self, *args: Any, **kwargs: Any) -> "_Nothing":
        return self

    def __contains__(self, key: str) -> bool:
        return False


class _Shield:
    # A run, its config or its summary.
    def __init__(self, inner: Any, lose: Callable[[Exception], None]) -> None:
        self.unshielded, self._lose = inner, lose

    def __contains__(self, key: str) -> bool:
        return key in self.unshielded

    def __getattr__(self, name: str) -> Any:
        value = getattr(self.unshielded, name)
        if name in ("config", "summary"):
            return _Shield(value, self._lose)
        if not callable(value):
            return value

        def shielded(*args: Any, **kwargs: Any) -> Any:
            try:
                return value(*args, **kwargs)
            except wandb_lost_errors() as error:
                self._lose(error)
                return None

        return shielded
