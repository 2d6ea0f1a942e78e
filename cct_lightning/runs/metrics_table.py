"""The table of a metrics.csv of any version, with the names and epochs of today; no torch is imported."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd


from cct_lightning.runs.metrics import counts_from_zero, logged_row, present_name


def to_csv(rows: Iterable[dict[str, Any]], columns: Sequence[str]) -> str:
    """Return rows as the text of a CSV file with these columns."""
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, fieldnames=columns, restval="")
    writer.writeheader()
    writer.writerows(rows)
    return buffer.getvalue()


def complete_rows(text: str) -> list[dict[str, str]]:
    """Return the rows of a metrics.csv but a last line that a kill has cut short."""
    complete, _, _ = text.rpartition("\n")
    return [row for row in csv.DictReader(complete.splitlines()) if (row.get("step") or "").isdigit()]


def present_rows(rows: list[dict[str, str]]) -> list[dict[str, str]]:
    """Return rows of any version with the epochs and the names of today."""
    if counts_from_zero(row.get("epoch") for row in rows):
        for row in rows:
            if row["epoch"]:
                filled = {key: value for key, value in row.items() if value}
                row["epoch"] = str(logged_row({**filled, "epoch": int(row["epoch"])})["epoch"])
    return [{present_name(key): value for key, value in row.items()} for row in rows]


def read_metrics(path: Path) -> pd.DataFrame:
    """Return a metrics.csv of any version: a row for each step that logged, empty where a metric was not logged.

    Raises:
        OSError: There is none.
        ValueError: It is no such table.
    """
    import pandas as pd

    rows = present_rows(complete_rows(path.read_text(encoding="utf-8")))
    return pd.read_csv(io.StringIO(to_csv(rows, sorted({key: None for row in rows for key in row}))))


def history(path: Path, name: str) -> list[float]:
    """Return the finite values of a metric in a metrics.csv of today's version; none where there is no file."""
    try:
        rows = complete_rows(path.read_text(encoding="utf-8"))
    except OSError:
        return []
    found = [float(row[name]) for row in rows if row.get(name)]
    return [value for value in found if math.isfinite(value)]
