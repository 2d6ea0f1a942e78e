"""How a run of an ablation stands, read from its folder alone: no other state could be lost or disagree.

Beside what `cct fit` writes (`cct_lightning.runs.folder`), the folder of a run in an ablation holds

    ablation.json  its place in the grid, its parameters, how often it was tried, why it failed
    log.txt        what its processes printed, of all attempts
    .lock          held by the process that trains it
"""  # fmt: skip

import csv
import io
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from cct_lightning.ablation.grid import GridRun
from cct_lightning.ablation.lock import is_locked
from cct_lightning.runs.folder import tilde
from cct_lightning.system.atomic import write_json

RECORD = "ablation.json"
LOG = "log.txt"
Status = Literal["waiting", "running", "interrupted", "failed", "finished"]

_TAIL = 1 << 16  # bytes of metrics.csv that hold the last validation


@dataclass(frozen=True, kw_only=True)
class RunState:
    """How a run stands.

    Attributes:
        status: `interrupted` runs have begun and are not running.
        reason: Why it failed.
        epoch: Epochs completed.
        accuracy: Test accuracy of a finished run, else that of the last validation, 0 to 1; None before the first.
        seconds: Wall time of a finished run.
        began: When the current attempt began, seconds since 1970.
        began_at: Epochs that were completed then.
    """

    status: Status
    reason: str = ""
    epoch: int = 0
    accuracy: float | None = None
    seconds: float | None = None
    began: float | None = None
    began_at: int = 0


def read_json(path: Path) -> dict[str, Any]:
    """Return the content of a JSON file; an empty dict where there is none or it is damaged."""
    try:
        content = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def read_state(folder: Path, *, mine: bool = False) -> RunState:
    """Read how a run stands.

    Args:
        folder: Run folder.
        mine: This process holds the lock and no training runs, so that the lock tells nothing.
    """
    summary, record = read_json(folder / "summary.json"), read_json(folder / RECORD)
    if summary.get("status") == "finished":
        accuracy = summary.get("test/acc", summary.get("best_val/acc"))
        seconds, epoch = summary.get("seconds"), int(summary.get("epochs", 0))
        return RunState(status="finished", accuracy=accuracy, seconds=seconds, epoch=epoch)
    epoch, accuracy = last_validation(folder / "metrics.csv")
    status: Status = "waiting"
    if not mine and is_locked(folder):
        status = "running"
    elif record.get("reason"):
        status = "failed"
    elif summary or (folder / "last.ckpt").exists():
        status = "interrupted"
    return RunState(
        status=status,
        reason=record.get("reason", "") if status == "failed" else "",
        epoch=epoch,
        accuracy=accuracy,
        began=record.get("began"),
        began_at=int(record.get("began_at", 0)),
    )


def last_validation(path: Path) -> tuple[int, float | None]:
    """Return the epochs completed and the last validation accuracy that a metrics.csv tells of."""
    try:
        with path.open("rb") as file:
            header = file.readline().decode()
            file.seek(max(file.tell(), os.fstat(file.fileno()).st_size - _TAIL))
            # A line cut in two, at the start of the tail or while it is being written, has no number where one belongs.
            lines = file.read().decode(errors="replace")
    except OSError:
        return 0, None
    for row in reversed(list(csv.DictReader(io.StringIO(header + lines)))):
        try:
            if row.get("val/acc"):
                return int(row["epoch"]) + 1, float(row["val/acc"])
        except (KeyError, TypeError, ValueError):
            continue
    return 0, None


def write_record(folder: Path, run: GridRun, ablation: str) -> None:
    """Make the folder of a run and note what it is for; what an earlier attempt noted stays."""
    folder.mkdir(parents=True, exist_ok=True)
    ours = {
        "ablation": ablation,
        "variant": run.variant,
        "index": run.index,
        "command": list(run.command),
        "parameters": {key: tilde(value) if isinstance(value, str) else value for key, value in run.parameters.items()},
    }
    write_json(folder / RECORD, {**read_json(folder / RECORD), **ours})


def note(folder: Path, **values: Any) -> None:
    """Add values to the record of a run."""
    write_json(folder / RECORD, {**read_json(folder / RECORD), **values})
