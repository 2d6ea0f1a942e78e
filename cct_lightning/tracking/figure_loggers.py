"""TensorBoard and MLflow: the metrics and pictures that W&B gets, the pictures as figures."""

import os
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from matplotlib.figure import Figure
from pytorch_lightning.loggers import MLFlowLogger, TensorBoardLogger

from cct_lightning.analysis.calibration import plot_reliability, reliability_of
from cct_lightning.analysis.confusion import confusion_matrix, plot_confusion
from cct_lightning.analysis.images import plot_predictions
from cct_lightning.analysis.overlay import plot_overlays
from cct_lightning.analysis.pictures import Maps
from cct_lightning.errors import InputError
from cct_lightning.runs.metrics import logged_row
from cct_lightning.system.atomic import write_text
from cct_lightning.tracking.seen import Seen


@runtime_checkable
class FigureLogger(Protocol):
    """A logger that takes figures."""

    def log_figure(self, name: str, figure: Figure, step: int) -> None:
        """Log a figure."""


class TensorBoard(TensorBoardLogger):
    """Lightning's TensorBoardLogger, in the folder `tensorboard` of a run folder."""

    def __init__(self, run_dir: Path) -> None:
        super().__init__(run_dir, name="tensorboard", version="")

    def log_metrics(self, metrics: Any, step: int | None = None) -> None:
        """Log a row, with the epoch counted from 1."""
        super().log_metrics(logged_row(metrics), step)

    def log_figure(self, name: str, figure: Figure, step: int) -> None:
        """Log a figure."""
        self.experiment.add_figure(name, figure, step)


class MLflow(MLFlowLogger):
    """Lightning's MLFlowLogger, which keeps its run's id in the run folder, so that a continued run stays one run.

    It writes where MLflow does by itself: to the server of MLFLOW_TRACKING_URI, else into the working directory, where
    `mlflow ui` finds it.

    Args:
        run_dir: The run folder.
        experiment: Name of the experiment: the project.
        name: Name of the run.

    Raises:
        InputError: MLflow cannot open its store.
    """

    def __init__(self, run_dir: Path, *, experiment: str, name: str) -> None:
        self.id_file = run_dir / "mlflow_run_id"
        known = self.id_file.read_text(encoding="utf-8").strip() if self.id_file.is_file() else None
        uri = os.environ.get("MLFLOW_TRACKING_URI") or "sqlite:///mlflow.db"
        try:
            super().__init__(experiment_name=experiment, run_name=name, tracking_uri=uri, run_id=known)
        except Exception as error:  # a store that this installation cannot open; each kind has errors of its own
            raise InputError(f"MLflow cannot open {uri} ({' '.join(str(error).split())[:200]}).") from error

    def log_metrics(self, metrics: Any, step: int | None = None) -> None:
        """Log a row, with the epoch counted from 1."""
        if not self.id_file.is_file() and self.run_id is not None:
            write_text(self.id_file, self.run_id)
        super().log_metrics(logged_row(metrics), step)

    def log_figure(self, name: str, figure: Figure, step: int) -> None:
        """Log a figure as an artifact."""
        self.experiment.log_figure(self.run_id, figure, f"{name}/step{step}.png")


def figures(seen: Seen) -> dict[str, Figure]:
    """Return the pictures of what was seen, each as a figure, under the keys that W&B has."""
    calibration = reliability_of(torch.from_numpy(seen.prob), torch.from_numpy(seen.predicted == seen.label))
    counts = confusion_matrix(
        torch.from_numpy(seen.predicted), torch.from_numpy(seen.label), num_classes=len(seen.classes)
    )
    found = {
        f"{seen.stage}/confusion": plot_confusion(counts, classes=seen.classes),
        f"{seen.stage}/reliability": plot_reliability(calibration),
    }
    if (few := seen.mistakes) is not None:
        label, predicted, prob = (np.array(part) for part in (few.label, few.predicted, few.prob))
        found[f"{seen.stage}/misclassified"] = plot_predictions(
            few.images, label=label, predicted=predicted, probability=prob, classes=seen.classes
        )
    for name, drawn in seen.drawn.items():
        if isinstance(drawn, Maps):
            drawn = plot_overlays(seen.images, drawn.values, label=drawn.unit)
        found[name] = drawn
    return found
