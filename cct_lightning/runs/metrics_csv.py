"""`metrics.csv` in the run folder: every logged value, continued where a run continues.

Lightning's CSVLogger deletes what a run wrote before it was interrupted, and empties the file for a moment when a new
column comes. This one does neither.
"""

import csv
from pathlib import Path
from typing import Any

from pytorch_lightning.loggers import Logger
from pytorch_lightning.utilities import rank_zero_only
from torch import Tensor

from cct_lightning.runs.folder import RunFolder
from cct_lightning.runs.metrics import logged_row, present_name
from cct_lightning.runs.metrics_table import complete_rows, present_rows, to_csv
from cct_lightning.system.atomic import write_text


class MetricsCsv(Logger):
    """A row for each call and a column for each metric, in the order of the alphabet; `run_dir` is the run folder."""

    def __init__(self, run_dir: Path) -> None:
        super().__init__()
        self.run_dir, self.path = run_dir, run_dir / RunFolder.METRICS
        self.waiting: list[dict[str, Any]] = []  # rows that are not in the file yet
        self.columns: list[str] | None = None  # of the file; None before it was looked at

    @property
    def name(self) -> str:
        """Nothing: the folder is the run's own."""
        return ""

    @property
    def version(self) -> str:
        """The name of the run folder."""
        return self.run_dir.name

    @property
    def save_dir(self) -> str:
        """The run folder."""
        return str(self.run_dir)

    @property
    def experiment(self) -> "MetricsCsv":
        """The logger itself; Lightning asks for it before the first hook, so the folder is there from then on."""
        self._make_folder()
        return self

    @rank_zero_only
    def _make_folder(self) -> None:
        self.run_dir.mkdir(parents=True, exist_ok=True)

    def log_hyperparams(self, params: Any, *args: Any, **kwargs: Any) -> None:
        """Nothing to do: config.yaml holds them."""

    @rank_zero_only
    def log_metrics(self, metrics: dict[str, Any], step: int | None = None) -> None:
        """Keep a row, to be written by `save`, which Lightning calls after each."""
        values = {key: value.item() if isinstance(value, Tensor) else value for key, value in metrics.items()}
        self.waiting.append({**logged_row(values), "step": step if step is not None else len(values)})

    @rank_zero_only
    def save(self) -> None:
        """Write the rows that wait."""
        if not self.waiting:
            return
        columns = self._known_columns()
        new = {key for row in self.waiting for key in row} - set(columns)
        if new:
            rows: list[dict[str, Any]] = self._rows() if columns else []
            self.columns = sorted([*columns, *new])
            self._rewrite([*rows, *self.waiting])
        else:
            with self.path.open("a", newline="", encoding="utf-8") as file:
                csv.DictWriter(file, fieldnames=columns).writerows(self.waiting)
        self.waiting = []

    @rank_zero_only
    def drop_after(self, step: int) -> None:
        """Forget the rows beyond a step, which a continued run is about to write again, and a half-written one.

        A file of version 0.1 gets epochs and columns as they are written now.
        """
        if columns := self._known_columns():
            self.columns = sorted({present_name(column) for column in columns})
            self._rewrite(present_rows([row for row in self._rows() if int(row["step"]) < step]))

    def _known_columns(self) -> list[str]:
        if self.columns is None:
            header = self.path.read_text(encoding="utf-8").partition("\n")[0] if self.path.is_file() else ""
            self.columns = next(csv.reader([header]), [])
        return self.columns

    def _rows(self) -> list[dict[str, str]]:
        return complete_rows(self.path.read_text(encoding="utf-8"))

    def _rewrite(self, rows: list[dict[str, Any]]) -> None:
        write_text(self.path, to_csv(rows, self.columns or []))
