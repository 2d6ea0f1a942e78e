"""W&B whose service may die (killed for memory, disk full, network lost): training goes on, with metrics.csv alone."""

import errno
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import wandb
from pytorch_lightning.loggers import WandbLogger
from pytorch_lightning.loggers.logger import rank_zero_experiment

from cct_lightning.compat import wandb_is_offline, wandb_lost_errors

_LOST: tuple[type[Exception], ...] = (OSError, *wandb_lost_errors())  # a broken or silent connection is an OSError, too
_BLOCK = 1 << 15  # bytes that W&B's run file grows by


class ShieldedWandbLogger(WandbLogger):
    """A WandbLogger that says once that W&B is lost, and does nothing from then on."""

    lost = False

    @property
    @rank_zero_experiment
    def experiment(self) -> Any:
        """The run; an error in a call of it does not reach the training."""
        if self.lost:
            return _Nothing()
        try:
            run = super().experiment
            # On a full disk, W&B's service drops what it should write, without an error.
            if wandb_is_offline(self) and shutil.disk_usage(Path(str(self.save_dir), "wandb")).free < _BLOCK:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return _Shield(run, self.lose)
        except wandb.errors.UsageError:
            raise  # what the user asked for cannot be
        except Exception as error:  # a service that dies while it starts shows as errors of many private classes
            self.lose(error)
            return _Nothing()

    @property
    def is_online(self) -> bool:
        """Whether what is logged goes to a server."""
        return not wandb_is_offline(self)

    def lose(self, error: Exception) -> None:
        """Do without W&B from now on, and say so once."""
        if not self.lost:
            self.lost = True
            reason = getattr(error, "strerror", None) or type(error).__name__
            print(f"W&B is lost ({reason}): training goes on, and metrics go to metrics.csv alone.", flush=True)


class _Nothing:
    # In place of a run that is lost: takes every call, and has every attribute.
    def __getattr__(self, name: str) -> "_Nothing":
        return self

    def __call__(self, *args: Any, **kwargs: Any) -> "_Nothing":
        return self


class _Shield:
    # A run, its config or its summary.
    def __init__(self, inner: Any, lose: Callable[[Exception], None]) -> None:
        self._inner, self._lose = inner, lose

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._inner, name)
        if name in ("config", "summary"):
            return _Shield(value, self._lose)
        if not callable(value):
            return value

        def shielded(*args: Any, **kwargs: Any) -> Any:
            try:
                return value(*args, **kwargs)
            except _LOST as error:
                self._lose(error)
                return None

        return shielded
