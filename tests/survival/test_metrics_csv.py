"""metrics.csv: new columns, a run that continues, a line that a kill has cut."""

import csv
import errno
import os
from pathlib import Path

import pytest
import torch

from cct_lightning.runs.metrics_csv import MetricsCsv


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def logger(folder: Path, *metrics: dict[str, float], first: int = 0) -> MetricsCsv:
    found = MetricsCsv(folder).experiment
    for step, values in enumerate(metrics, first):
        found.log_metrics(values, step=step)
        found.save()
    return found


def test_a_new_column_keeps_the_rows(tmp_path: Path) -> None:
    logger(tmp_path / "run", {"b": 1.0}, {"b": torch.tensor(2.0)}, {"a": 3.0}, {"b": 4.0})
    found = rows(tmp_path / "run" / "metrics.csv")
    assert list(found[0]) == ["a", "b", "step"]
    assert [(row["a"], row["b"], row["step"]) for row in found] == [
        ("", "1.0", "0"), ("", "2.0", "1"), ("3.0", "", "2"), ("", "4.0", "3"),
    ]  # fmt: skip


def test_a_run_that_continues_adds_rows_and_drops_what_it_repeats(tmp_path: Path) -> None:
    logger(tmp_path, *({"a": float(step)} for step in range(5)))
    with (tmp_path / "metrics.csv").open("a") as file:
        file.write("9.0,")  # killed in the middle of a line
    continued = MetricsCsv(tmp_path)
    continued.drop_after(3)
    continued.log_metrics({"a": 30.0, "b": 1.0}, step=3)
    continued.finalize("success")
    assert [(row["a"], row["b"], row["step"]) for row in rows(tmp_path / "metrics.csv")] == [
        ("0.0", "", "0"), ("1.0", "", "1"), ("2.0", "", "2"), ("30.0", "1.0", "3"),
    ]  # fmt: skip


def test_a_crash_while_a_column_is_added_loses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = logger(tmp_path, {"a": 1.0})
    before = (tmp_path / "metrics.csv").read_bytes()

    def crash(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "replace", crash)
    monkeypatch.setattr(Path, "replace", crash)
    found.log_metrics({"new": 2.0}, step=1)
    with pytest.raises(OSError, match="No space"):
        found.save()
    assert (tmp_path / "metrics.csv").read_bytes() == before
