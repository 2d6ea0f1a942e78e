"""The run folder: `runs/<name>/<id>/` holds all that repeats, continues or compares a run."""

import json
import math
import os
import re
import secrets
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from cct_lightning.config.options import length_of
from cct_lightning.config.resolved import ResolvedConfig
from cct_lightning.errors import InputError
from cct_lightning.runs.metrics import TEST_ACC
from cct_lightning.system.atomic import write_json
from cct_lightning.system.machine import started_by_hand
from cct_lightning.system.places import local_path

# running -> trained -> finished; a run that ended early is interrupted or failed, one of a grid may wait, and one that
# was worse than most others is stopped for good.
Status = Literal["waiting", "running", "trained", "interrupted", "failed", "stopped", "finished"]
DONE: tuple[Status, ...] = ("finished", "stopped")  # nothing is left to do

# Processes of one launch agree on the folder through this variable, which Lightning's subprocess launcher inherits.
RUN_DIR_VARIABLE = "CCT_RUN_DIR"
_LENGTHS = ("max_epochs", "max_steps", "max_time")


def _limit(config: ResolvedConfig, key: str) -> float:
    """Return the most epochs, steps or seconds that a run may train."""
    return length_of(config.options["trainer"].get(key)) or math.inf


def _read_json(path: Path) -> dict[str, Any]:
    """Return the content of a JSON file; an empty dict where there is none or it is damaged."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


@dataclass(frozen=True)
class RunFolder:
    """A run folder, by the names of its files; reading one that is missing or damaged gives what is there."""

    path: Path  # absolute

    CONFIG = "config.yaml"  # the resolved configuration; `cct fit --config` accepts it
    ENVIRONMENT = "environment.json"  # versions, device, git commit
    METRICS = "metrics.csv"  # every logged value
    BEST = "best.ckpt"  # the epoch with the best validation accuracy
    LAST = "last.ckpt"  # the last epoch, or the moment of an interruption: what a run continues from
    PREVIOUS = "prev.ckpt"  # the last.ckpt before it, should that one be damaged
    NAN = "nan.ckpt"  # the state in which the loss became NaN
    SUMMARY = "summary.json"  # status, parameters, MACs, best val/acc, test/acc, time, memory
    PREDICTIONS = "test_predictions.npz"  # what it predicted for the test images, see `predictions.py`
    WANDB = "wandb"  # the W&B run
    RECORD = "ablation.json"  # in an ablation: its place in the grid, how often it was tried, why it failed
    LOG = "log.txt"  # in an ablation: what its processes printed, of all attempts
    LOCK = ".lock"  # held by the process that trains the run, and names it

    def __truediv__(self, name: str) -> Path:
        return self.path / name

    def config(self) -> ResolvedConfig | None:
        """Return the configuration of the run; None where there is none.

        Raises:
            InputError: It is damaged.
        """
        return ResolvedConfig.read(self / self.CONFIG)

    def summary(self) -> dict[str, Any]:
        """Return what the run has reached; empty where there is nothing."""
        return _read_json(self / self.SUMMARY)

    def environment(self) -> dict[str, Any]:
        """Return versions, device and git commit of the run; empty where there is nothing."""
        return _read_json(self / self.ENVIRONMENT)

    def record(self) -> dict[str, Any]:
        """Return the run's place in an ablation; empty for any other run."""
        return _read_json(self / self.RECORD)

    def note(self, **values: Any) -> None:
        """Add values to the run's place in an ablation."""
        write_json(self / self.RECORD, {**self.record(), **values})

    @property
    def to_test(self) -> Path:
        """The checkpoint to test and to use: of the best epoch where there was a validation, else the last."""
        return best if (best := self / self.BEST).is_file() else self / self.LAST

    def is_finished(self, asked: ResolvedConfig) -> bool:
        """Tell whether the run is done: trained for as long as is asked for, and tested where that is asked for.

        Raises:
            InputError: The folder's config.yaml is damaged, or it is done with another option of the Trainer.
        """
        summary, stored = self.summary(), self.config()
        if summary.get("status") not in DONE or "train_seconds" not in summary or stored is None:
            return False
        before, now = ({key: _limit(c, key) for key in _LENGTHS} for c in (stored, asked))
        stopped_by = summary.get("stopped_by")
        epochs = summary.get("epochs", 0) - (stopped_by != "max_epochs")  # the last one may have been cut short
        reached = epochs >= now["max_epochs"] or summary.get("steps", 0) >= now["max_steps"]
        asked_for = ["max_time"] if stopped_by == "max_time" else _LENGTHS
        if not reached and any(now[key] > before[key] for key in asked_for):
            return False
        lengths = {f"trainer.{key}" for key in _LENGTHS}
        if stopped_by == "callback":  # another one, or more of its patience, does not stop there
            lengths.add("trainer.callbacks")
            if stored.results.get("trainer.callbacks") != asked.results.get("trainer.callbacks"):
                return False
        for key in sorted(k for k in stored.results if k.startswith("trainer.") and k not in lengths):
            if stored.results[key] != asked.results.get(key):
                was, wanted = (config.flat.get(key) for config in (stored, asked))  # 1 is not 1.0 here
                raise InputError(
                    f"The run in {self.path} is finished, and {key} was {was} where {wanted} is asked for: choose "
                    "another --run_dir, or train longer."
                )
        return summary["status"] == "stopped" or TEST_ACC in summary or not asked.options.get("test_best", True)

    def check_writable(self) -> None:
        """Raise `InputError` where the folder, or the nearest parent that exists, cannot be written."""
        parent = self.path
        while not parent.exists():
            parent = parent.parent
        writable = parent.is_dir() and os.access(parent, os.W_OK | os.X_OK)
        held = [path for path in (self / self.CONFIG, self / self.METRICS, self / self.LOCK) if path.exists()]
        if not writable or not all(os.access(path, os.W_OK) for path in held):
            raise InputError(
                f"Cannot write the run folder {self.path}: {parent} is not a writable folder; give another --run_dir."
            )

    def make(self) -> None:
        """Make the folder.

        Raises:
            InputError: It cannot be made: on a read-only or full file system, or in one of the system's own.
        """
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(
                f"Cannot make the run folder {self.path} ({error.strerror or error}): give another --run_dir."
            ) from error

    @classmethod
    def choose(cls, run_dir: str | None, config: ResolvedConfig) -> "RunFolder":
        """Return the folder of a run; nothing is created.

        Args:
            run_dir: The folder the user fixed; None takes a fresh one under `runs/<name>/`.
            config: The run: several runs of one cluster job each have their own folder.

        Returns:
            The folder. All processes that one launch starts get the same.

        Raises:
            InputError: An address, or processes on several machines that share no name of their job.
        """
        if run_dir is not None:
            return cls(local_path(run_dir).absolute())
        owner, _, inherited = os.environ.get(RUN_DIR_VARIABLE, "").partition(":")
        if not inherited or owner == str(os.getpid()) or "LOCAL_RANK" not in os.environ:
            job = _job()
            if not job and (config.options.get("trainer") or {}).get("num_nodes", 1) != 1:
                raise InputError("A run on several machines needs one folder that all of them see: give --run_dir.")
            ident = f"{job}-{config.digest}" if job else f"{time.strftime('%Y%m%d-%H%M%S')}-{secrets.token_hex(3)}"
            folder = Path("runs") / re.sub(r"[^\w.=-]+", "-", config.name) / re.sub(r"[^\w.-]+", "-", ident)
            # With the process that chose it, whose next run chooses anew: Lightning gives it a LOCAL_RANK, too.
            inherited = str(folder.absolute())
            os.environ[RUN_DIR_VARIABLE] = f"{os.getpid()}:{inherited}"
        return cls(Path(inherited))


def _job() -> str:
    # A run that `wandb agent` takes up again, after a preemption, has the id that it had.
    if os.environ.get("WANDB_SWEEP_ID") and os.environ.get("WANDB_RUN_ID"):
        return "-".join(os.environ[key] for key in ("WANDB_SWEEP_ID", "WANDB_RUN_ID"))
    # A cluster's job restarts with the same id, and so continues in the same folder.
    if os.environ.get("SLURM_JOB_ID"):
        return "-".join(os.environ[key] for key in ("SLURM_JOB_ID", "SLURM_ARRAY_TASK_ID") if os.environ.get(key))
    if started_by_hand() and os.environ["WORLD_SIZE"] != "1":
        raise InputError("Processes that are started one by one need to agree on a folder: give --run_dir.")
    torchrun = os.environ.get("TORCHELASTIC_RUN_ID", "")
    if torchrun != "none":
        return torchrun
    # torchrun without an id: its processes on one machine know each other by their parent and when it began.
    try:
        began = Path(f"/proc/{os.getppid()}/stat").read_text(encoding="utf-8").rsplit(")", 1)[1].split()[19]
    except (OSError, IndexError):
        began = ""
    if not began or os.environ.get("GROUP_WORLD_SIZE", "1") != "1":
        raise InputError("Processes that torchrun starts need to agree on a folder: give --run_dir.")
    return f"torchrun-{os.getppid()}-{began}"
