"""What a metric's name says: which way is better, how it is written."""

import json
from pathlib import Path

import pytest

from cct_lightning.comparison.runs import read_runs
from cct_lightning.comparison.variants import compare_runs
from cct_lightning.runs.metrics import METRICS, metric
from comparison.test_compare import done, write_run


@pytest.mark.parametrize("name", ["test/loss", "seconds", "train_seconds", "memory_gb", "params", "my/val_error"])
def test_less_is_better(tmp_path: Path, name: str) -> None:
    for pool, value in (("seqpool", 7.0), ("mean", 3.0), ("max", 5.0)):
        write_run(tmp_path / pool, summary=done(0.5) | {name: value}, model__pool=pool)
    comparison = compare_runs(read_runs([str(tmp_path)]), metric=name)
    assert [variant.values["pool"] for variant in comparison.variants] == ["mean", "max", "seqpool"]
    assert comparison.baseline is comparison.variants[-1], "outside of a grid, the worst is the baseline"


@pytest.mark.parametrize("name", ["test/acc", "best_val/acc", "images_per_s", "test/f1"])
def test_more_is_better(tmp_path: Path, name: str) -> None:
    for pool, value in (("mean", 3.0), ("seqpool", 7.0)):
        write_run(tmp_path / pool, summary=done(0.5) | {name: value}, model__pool=pool)
    comparison = compare_runs(read_runs([str(tmp_path)]), metric=name)
    assert [variant.values["pool"] for variant in comparison.variants] == ["seqpool", "mean"]


def test_how_values_are_written() -> None:
    assert metric("test/acc").text(0.93124) == "93.12"
    assert metric("test/acc").text(0.01, sign=True) == "+1.00"
    assert metric("test/acc").label("test/acc") == "test/acc (%)"
    assert metric("train/loss_step") is metric("val/loss")
    assert metric("macs").text(2_000_000) == "2.0"
    assert metric("memory_gb").label() == "peak memory (GB)"
    assert metric("val/f1").label("val/f1") == "val/f1"


def test_every_number_of_a_real_summary_is_known() -> None:
    """The folder that version 0.1 left: nothing in it falls back on a guess."""
    summary = json.loads(Path(__file__).parents[1].joinpath("survival/version_0_1/summary.json").read_text())
    numbers = [key for key, value in summary.items() if isinstance(value, float | int)]
    assert [key for key in numbers if metric(key) not in METRICS.values()] == []
