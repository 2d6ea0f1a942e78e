"""The state of a run, read from its folder alone: no other record could be lost or disagree."""

import csv
import io
import os
from dataclasses import dataclass
from pathlib import Path

from cct_lightning.runs.folder import DONE, RunFolder, Status
from cct_lightning.runs.lock import is_locked
from cct_lightning.runs.metrics import BEST_VAL_ACC, TEST_ACC, VAL_ACC, counts_from_zero

_TAIL = 1 << 16  # bytes of metrics.csv that hold the last validation


@dataclass(frozen=True, kw_only=True)
class RunState:
    """The state of a run."""

    status: Status  # `interrupted` runs have begun and are not running, `stopped` ones are not to go on
    reason: str = ""  # why it failed
    epoch: int = 0  # epochs completed
    accuracy: float | None = None  # in the test of a finished run, else in the last validation, 0 to 1; None before one
    seconds: float | None = None  # wall time of a run that is done
    began: float | None = None  # when the current attempt began, seconds since 1970
    began_at: int = 0  # epochs that were completed then


def read_state(folder: Path, *, mine: bool = False) -> RunState:
    """Read the state of a run; `mine`: this process holds the lock and does not train, so the lock says nothing."""
    files = RunFolder(folder)
    summary, record = files.summary(), files.record()
    if (done := summary.get("status")) in DONE:
        accuracy = summary.get(TEST_ACC, summary.get(BEST_VAL_ACC))
        seconds, epoch = summary.get("seconds"), int(summary.get("epochs", 0))
        return RunState(status=done, accuracy=accuracy, seconds=seconds, epoch=epoch)
    epoch, accuracy = _last_validation(files / files.METRICS)
    status: Status = "waiting"
    if not mine and is_locked(folder):
        status = "running"
    elif record.get("reason"):
        status = "failed"
    elif summary or (files / files.LAST).exists():
        status = "interrupted"
    return RunState(
        status=status,
        reason=record.get("reason", "") if status == "failed" else "",
        epoch=epoch,
        accuracy=accuracy,
        began=record.get("began"),
        began_at=int(record.get("began_at", 0)),
    )


def _last_validation(path: Path) -> tuple[int, float | None]:
    """Return the epochs completed and the last validation accuracy that a metrics.csv holds."""
    try:
        with path.open("rb") as file:
            header = file.readline().decode()
            begin = file.read(_TAIL).decode(errors="replace")
            file.seek(max(len(header.encode()), os.fstat(file.fileno()).st_size - _TAIL))
            # A line cut in two, at the start of the tail or while it is being written, has no number where one belongs.
            lines = file.read().decode(errors="replace")
    except OSError:
        return 0, None
    from_zero = counts_from_zero(row.get("epoch") for row in csv.DictReader(io.StringIO(header + begin)))
    for row in reversed(list(csv.DictReader(io.StringIO(header + lines)))):
        try:
            if row.get(VAL_ACC):
                return int(row["epoch"]) + from_zero, float(row[VAL_ACC])
        except (KeyError, TypeError, ValueError):
            continue
    return 0, None
