"""The loggers of `--tracking.logger`, by name. Another one is an entry here and a name in `config/tracking.py`."""

import importlib.util
from pathlib import Path

from pytorch_lightning.loggers import Logger

from cct_lightning.config.resolved import ResolvedConfig
from cct_lightning.config.tracking import Tracking
from cct_lightning.errors import InputError
from cct_lightning.tracking.connection import wandb_mode
from cct_lightning.tracking.figure_loggers import MLflow, TensorBoard
from cct_lightning.tracking.wandb_logger import wandb_logger

# What each needs beside our own requirements: one of these packages.
_PACKAGES = {"tensorboard": ("tensorboard", "tensorboardX"), "mlflow": ("mlflow",)}


def chosen_loggers(run_dir: Path, tracking: Tracking, config: ResolvedConfig) -> list[Logger]:
    """Return the loggers of a run that the user chose by name; metrics.csv is written beside them.

    Raises:
        InputError: The package of one is not installed, or MLflow cannot open its store.
    """
    found: list[Logger] = []
    for name in tracking.loggers:
        check_installed(name)
        if name == "wandb":
            mode, why = wandb_mode(tracking.mode)
            if mode != "disabled":
                more = {"mode": mode, "why_offline": why, "job_type": "fit"}
                found.append(wandb_logger(run_dir, tracking, config=config, **more))
        elif name == "tensorboard":
            found.append(TensorBoard(run_dir))
        elif name == "mlflow":
            found.append(
                MLflow(run_dir, experiment=tracking.project or "cct_lightning", name=tracking.name or config.name)
            )
    return found


def check_installed(name: str) -> None:
    """Check that the package of a logger is installed.

    Raises:
        InputError: It is not.
    """
    needed = _PACKAGES.get(name, ())
    if needed and not any(importlib.util.find_spec(package) for package in needed):
        raise InputError(f"The logger {name!r} needs the package {needed[0]}: pip install {needed[0]}")
