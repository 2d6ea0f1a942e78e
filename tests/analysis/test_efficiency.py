import math

import pandas as pd
import pytest

from cct_lightning.analysis import (
    data_efficiency,
    plot_data_efficiency,
    plot_schedule,
    published_schedule,
    schedule_efficiency,
)
from cct_lightning.errors import InputError

RUNS = pd.DataFrame(
    {
        "variant": ["CCT", "CCT", "CCT", "ViT"],
        "samples_per_class": [10, 10, 100, 10],
        "epochs": [10, 10, 30, 10],
        "accuracy": [0.5, 0.7, 0.9, 0.3],
        "train_images": 1000,
        "macs": 2e6,
        "seconds": [100.0, 120.0, 330.0, 90.0],
    }
)


def test_data_efficiency() -> None:
    table = data_efficiency(RUNS)
    assert list(table.columns) == ["variant", "samples_per_class", "mean", "std", "runs"]
    first = table.iloc[0]
    assert (first["variant"], first["samples_per_class"], first["runs"]) == ("CCT", 10, 2)
    assert first["mean"] == pytest.approx(0.6)
    assert first["std"] == pytest.approx(math.sqrt(0.02))
    assert math.isnan(table.iloc[1]["std"])
    figure = plot_data_efficiency(table)
    assert [text.get_text() for text in figure.axes[0].get_xticklabels()] == ["10", "100"]


def test_schedule_efficiency() -> None:
    row = schedule_efficiency(RUNS).iloc[0]
    assert row["images_seen"] == 10 * 1000
    assert row["training_macs"] == 3 * 2e6 * 10 * 1000
    assert row["seconds"] == pytest.approx(110)
    assert schedule_efficiency(RUNS.drop(columns="seconds"))["seconds"].isna().all()


def test_published_points() -> None:
    table = published_schedule()
    assert dict(zip(table["epochs"], (100 * table["mean"]).round(2), strict=True)) == {
        300: 96.53,
        1500: 97.48,
        5000: 98.0,
    }
    assert table["images_seen"].tolist() == [15_000_000, 75_000_000, 250_000_000]


def test_plot_schedule() -> None:
    table = schedule_efficiency(RUNS)
    labels = [ax.get_xlabel() for ax in plot_schedule(table).axes]
    assert labels == ["epochs", "images seen", "training MACs", "hours"]
    untimed = schedule_efficiency(RUNS.drop(columns="seconds"))
    figure = plot_schedule(untimed, published=False)
    assert [ax.get_xlabel() for ax in figure.axes] == ["epochs", "images seen", "training MACs"]
    assert {text.get_text() for text in figure.legends[0].get_texts()} == {"CCT", "ViT"}


@pytest.mark.parametrize(
    ("runs", "message"),
    [
        (RUNS.drop(columns="samples_per_class"), "lacks the column samples_per_class"),
        (RUNS.assign(accuracy=96.5), "must be a share between 0 and 1"),
        (RUNS[:0], "is empty"),
    ],
)
def test_bad_tables(runs: pd.DataFrame, message: str) -> None:
    with pytest.raises(InputError, match=message):
        data_efficiency(runs)
