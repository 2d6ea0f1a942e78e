"""Other loggers get the metrics and the pictures that W&B gets, under the same keys and the same epochs."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure

from cct_lightning.analysis.pictures import Maps
from cct_lightning.config.tracking import Tracking
from cct_lightning.errors import InputError
from cct_lightning.tracking.figure_loggers import MLflow, TensorBoard, figures
from cct_lightning.tracking.loggers import check_installed
from cct_lightning.tracking.seen import Mistakes, Seen
from cct_lightning.tracking.wandb_media import wandb_media

CLASSES = ["cat", "dog", "zebra"]


@pytest.fixture
def seen() -> Seen:
    rng = np.random.default_rng(0)
    label, predicted = rng.integers(0, 3, 20), rng.integers(0, 3, 20)
    images = rng.integers(0, 256, (2, 3, 8, 8), dtype=np.uint8)
    return Seen(
        stage="val",
        classes=CLASSES,
        label=label,
        predicted=predicted,
        prob=rng.random(20, dtype=np.float32),
        mistakes=Mistakes(images, [0, 1], [1, 2], [0.9, 0.8], [7, 3]),
        images=images,
        drawn={"val/rollout": Maps(rng.random((2, 4, 4)), unit="weight"), "tokenizer/filters": Figure()},
    )


def test_the_keys_are_the_same(seen: Seen) -> None:
    drawn = figures(seen)
    assert all(isinstance(figure, Figure) for figure in drawn.values())
    assert drawn.keys() == wandb_media(seen).keys()


def test_tensorboard_has_metrics_and_pictures(seen: Seen, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    logger = TensorBoard(tmp_path)
    told: list[tuple[str, Any, int]] = []
    monkeypatch.setattr(logger.experiment, "add_scalar", lambda *row: told.append(row))
    monkeypatch.setattr(logger.experiment, "add_figure", lambda *row: told.append(row))
    logger.log_metrics({"val/acc": 0.5, "epoch": 0}, step=3)
    logger.log_metrics({"test/acc": 0.6, "epoch": 1}, step=3)
    for name, figure in figures(seen).items():
        logger.log_figure(name, figure, 3)
    assert ("epoch", 1, 3) in told
    assert ("val/acc", 0.5, 3) in told
    assert {name for name, *_ in told} >= {"val/confusion", "val/misclassified", "val/rollout", "tokenizer/filters"}
    assert [value for name, value, _ in told if name == "epoch"] == [1, 1]
    assert list((tmp_path / "tensorboard").glob("events.*"))


def test_mlflow_keeps_one_run(seen: Seen, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("mlflow", reason="not installed: pip install mlflow")
    monkeypatch.chdir(tmp_path)
    for epoch in range(2):  # the second is the run that continues
        logger = MLflow(tmp_path, experiment="mine", name="one")
        logger.log_metrics({"val/acc": 0.5, "epoch": epoch}, step=epoch)
        for name, figure in figures(seen).items():
            logger.log_figure(name, figure, epoch)
    [run] = logger.experiment.search_runs([logger.experiment.get_experiment_by_name("mine").experiment_id])
    assert [point.value for point in logger.experiment.get_metric_history(run.info.run_id, "epoch")] == [1, 2]
    assert {"val", "tokenizer"} <= {file.path for file in logger.experiment.list_artifacts(run.info.run_id)}


def test_loggers_by_one_word() -> None:
    assert Tracking().loggers == ["wandb"]
    assert Tracking(logger="tensorboard").loggers == ["tensorboard"]
    assert Tracking(logger=["wandb", "csv", "wandb"]).loggers == ["wandb", "csv"]


def test_a_logger_that_is_not_installed_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    check_installed("csv")
    with pytest.raises(InputError, match="needs the package mlflow: pip install mlflow"):
        check_installed("mlflow")
