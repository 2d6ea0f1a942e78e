"""What a run left, for Python and notebooks."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cct_lightning.runs.folder import RunFolder
from cct_lightning.runs.metrics_table import read_metrics
from cct_lightning.training.module import Classifier

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class RunResult:
    """What a run left in its folder, `run_dir`."""

    run_dir: Path

    @property
    def summary(self) -> dict[str, Any]:
        """Status, parameters, MACs, best validation accuracy, test accuracy, seconds."""
        return RunFolder(self.run_dir).summary()

    @property
    def metrics(self) -> pd.DataFrame:
        """Every logged value: one row for each step that logged, empty where a metric was not logged."""
        return read_metrics(self.run_dir / RunFolder.METRICS)

    def load(self, *, allow_import: Iterable[str] = ()) -> Classifier:
        """Return the model of the best epoch (without a validation split, of the last), in evaluation mode.

        `allow_import` are import paths of your own classes that it may name; those of a run in this process are known.
        """
        return Classifier.load(RunFolder(self.run_dir).to_test, allow_import=allow_import)
