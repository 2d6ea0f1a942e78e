"""The run folder: `runs/<name>/<id>/` holds all that repeats, continues or compares a run.

    config.yaml       the resolved configuration; `cct fit --config` accepts it
    environment.json  versions, device, git commit
    metrics.csv       every logged value
    best.ckpt         the epoch with the best validation accuracy
    last.ckpt         the last epoch, or the moment of an interruption: what a run continues from
    prev.ckpt         the last.ckpt before it, should that one be damaged
    summary.json      status, parameters, MACs, best val/acc, test/acc, time, memory
    test_predictions.npz  what it predicted for the test images, see `predictions.py`
    wandb/            the W&B run
"""  # fmt: skip

import hashlib
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


def choose_run_dir(run_dir: str | None, name: str, *, config: dict[str, Any]) -> Path:
    """Return the absolute path of the run folder; nothing is created.

    Args:
        run_dir: The folder the user fixed; None makes a fresh one under `runs/<name>/`.
        name: Name of the run: model and data set.
        config: The resolved configuration: several runs of one cluster job each have their own folder.

    Returns:
        The folder. All processes that one launch starts get the same.

    Raises:
        InputError: Processes on several machines that share no name of their job.
    """
    if run_dir is not None:
        return Path(run_dir).expanduser().absolute()
    if RUN_DIR_VARIABLE not in os.environ or "LOCAL_RANK" not in os.environ:
        job = _job()
        digest = hashlib.sha256(json.dumps(config, sort_keys=True, default=str).encode()).hexdigest()[:6]
        ident = f"{job}-{digest}" if job else f"{time.strftime('%Y%m%d-%H%M%S')}-{secrets.token_hex(3)}"
        folder = Path("runs") / re.sub(r"[^\w.=-]+", "-", name) / re.sub(r"[^\w.-]+", "-", ident)
        os.environ[RUN_DIR_VARIABLE] = str(folder.absolute())
    return Path(os.environ[RUN_DIR_VARIABLE])


def _job() -> str:
    # A cluster's job restarts with the same id, and so continues in the same folder.
    if os.environ.get("SLURM_JOB_ID"):
        return "-".join(os.environ[key] for key in ("SLURM_JOB_ID", "SLURM_ARRAY_TASK_ID") if os.environ.get(key))
    torchrun = os.environ.get("TORCHELASTIC_RUN_ID", "")
    if torchrun != "none":
        return torchrun
    # torchrun without an id: its processes on one machine know each other by their parent and when it began.
    try:
        began = Path(f"/proc/{os.getppid()}/stat").read_text().rsplit(")", 1)[1].split()[19]
    except (OSError, IndexError):
        began = ""
    if not began or os.environ.get("GROUP_WORLD_SIZE", "1") != "1":
        raise InputError("Processes that torchrun starts need to agree on a folder: give --run_dir.")
    return f"torchrun-{os.getppid()}-{began}"


def check_writable(run_dir: Path) -> None:
    """Raise `InputError` where the run folder, or the nearest parent that exists, cannot be written."""
    parent = run_dir
    while not parent.exists():
        parent = parent.parent
    writable = parent.is_dir() and os.access(parent, os.W_OK | os.X_OK)
    held = [path for path in (run_dir / "config.yaml", run_dir / "metrics.csv") if path.exists()]
    if not writable or not all(os.access(path, os.W_OK) for path in held):
        raise InputError(
            f"Cannot write the run folder {run_dir}: {parent} is not a writable folder; give another --run_dir."
        )


def make_folder(run_dir: Path) -> None:
    """Make the run folder.

    Raises:
        InputError: It cannot be made: on a read-only or full file system, or in one of the system's own.
    """
    try:
        run_dir.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(
            f"Cannot make the run folder {run_dir} ({error.strerror or error}): give another --run_dir."
        ) from error


def tilde(path: str) -> str:
    """Return a path below the home folder as ~/..., so that what is shared names no user; any other text as it is."""
    home = os.path.expanduser("~")
    inside = len(home) > 1 and (path + "/").startswith(home + "/")
    return "~" + path[len(home) :] if inside else path


def without_home(value: Any) -> Any:
    """Return nested plain values with `tilde` applied to every text: a shared config names no user."""
    if isinstance(value, dict):
        return {key: without_home(item) for key, item in value.items()}
    if isinstance(value, list):
        return [without_home(item) for item in value]
    return tilde(value) if isinstance(value, str) else value
