"""The run folder: `runs/<name>/<id>/` holds all that repeats, continues or compares a run.

    config.yaml       the resolved configuration; `cct fit --config` accepts it
    environment.json  versions, device, git commit
    metrics.csv       every logged value
    best.ckpt         the epoch with the best validation accuracy
    last.ckpt         the last epoch, or the moment of an interruption
    summary.json      status, parameters, MACs, best val/acc, test/acc, time, memory
    test_predictions.npz  what it predicted for the test images, see `predictions.py`
    wandb/            the W&B run
"""  # fmt: skip

import json
import os
import re
import secrets
import time
from pathlib import Path
from typing import Any

from cct_lightning.errors import InputError

# Processes of one launch agree on the folder through this variable, which Lightning's subprocess launcher inherits.
RUN_DIR_VARIABLE = "CCT_RUN_DIR"


def choose_run_dir(run_dir: str | None, name: str) -> Path:
    """Return the absolute path of the run folder; nothing is created.

    Args:
        run_dir: The folder the user fixed; None makes a fresh one under `runs/<name>/`.
        name: Name of the run: model and data set.

    Returns:
        The folder. All processes that one launch starts get the same.
    """
    if run_dir is not None:
        return Path(run_dir).expanduser().absolute()
    if RUN_DIR_VARIABLE not in os.environ or "LOCAL_RANK" not in os.environ:
        # A cluster's job restarts with the same id, and so continues in the same folder.
        job = os.environ.get("SLURM_JOB_ID") or os.environ.get("TORCHELASTIC_RUN_ID", "none").replace("none", "")
        ident = job or f"{time.strftime('%Y%m%d-%H%M%S')}-{secrets.token_hex(3)}"
        folder = Path("runs") / re.sub(r"[^\w.=-]+", "-", name) / re.sub(r"[^\w.-]+", "-", ident)
        os.environ[RUN_DIR_VARIABLE] = str(folder.absolute())
    return Path(os.environ[RUN_DIR_VARIABLE])


def check_writable(run_dir: Path) -> None:
    """Raise `InputError` where the run folder, or the nearest parent that exists, cannot be written."""
    parent = run_dir
    while not parent.exists():
        parent = parent.parent
    if not parent.is_dir() or not os.access(parent, os.W_OK | os.X_OK):
        raise InputError(
            f"Cannot write the run folder {run_dir}: {parent} is not a writable folder; give another --run_dir."
        )


def tilde(path: str) -> str:
    """Return a path below the home folder as ~/..., so that what is shared names no user; any other text as it is."""
    home = os.path.expanduser("~")
    inside = len(home) > 1 and (path + "/").startswith(home + "/")
    return "~" + path[len(home) :] if inside else path


def write_atomically(path: Path, text: str) -> None:
    """Write a text file so that a reader, or a crash, sees the old or the new one and nothing between."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_text(text)
    temporary.replace(path)


def write_json(path: Path, values: dict[str, Any]) -> None:
    """Write a dict as indented JSON, atomically."""
    write_atomically(path, json.dumps(values, indent=2) + "\n")
