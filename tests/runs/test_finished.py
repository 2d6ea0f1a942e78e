"""A run is finished where what the Trainer was asked for is reached; the same command with more goes on."""

from pathlib import Path
from typing import Any

import pandas as pd
import pytest

import cct_lightning
from cct_lightning.config.resolved import ResolvedConfig
from cct_lightning.runs.folder import RunFolder
from cct_lightning.runs.labels import nothing_left
from cct_lightning.runs.metrics import TEST_ACC
from cct_lightning.system.atomic import write_json, write_text


def resolved(**trainer: Any) -> ResolvedConfig:
    return ResolvedConfig.resolve({"data": {"name": "digits"}, "trainer": trainer})


def stopping(patience: int) -> list[dict[str, Any]]:
    # No epoch improves by so much on the first.
    arguments = {"monitor": "val/loss", "patience": patience, "min_delta": 100.0}
    return [{"class_path": "pytorch_lightning.callbacks.EarlyStopping", "init_args": arguments}]


STOPS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    # What the Trainer was asked for, and how the training ended.
    "epochs": ({"max_epochs": 4}, {"epochs": 4, "steps": 40, "stopped_by": "max_epochs"}),
    "steps": ({"max_epochs": 4, "max_steps": 15}, {"epochs": 2, "steps": 15, "stopped_by": "max_steps"}),
    "time": ({"max_epochs": 4, "max_time": "00:01:00:00"}, {"epochs": 2, "steps": 20, "stopped_by": "max_time"}),
    "early": ({"max_epochs": 4, "callbacks": stopping(1)}, {"epochs": 2, "steps": 20, "stopped_by": "callback"}),
    "version 0.1": ({"max_epochs": 4}, {"epochs": 4}),
}
ASKED: dict[str, tuple[str, dict[str, Any], bool]] = {
    "fewer epochs": ("epochs", {"max_epochs": 3}, True),
    "more epochs": ("epochs", {"max_epochs": 5}, False),
    "no limit of epochs": ("epochs", {"max_epochs": -1, "max_steps": 50}, False),
    "steps that were reached": ("epochs", {"max_epochs": -1, "max_steps": 30}, True),
    "more steps": ("steps", {"max_epochs": 4, "max_steps": 16}, False),
    "no limit of steps": ("steps", {"max_epochs": 4}, False),
    "no limit of steps, the epoch cut short": ("steps", {"max_epochs": 2}, False),
    "no limit of steps, epochs reached": ("steps", {"max_epochs": 1}, True),
    "more time": ("time", {"max_epochs": 4, "max_time": "00:02:00:00"}, False),
    "no limit of time": ("time", {"max_epochs": 4}, False),
    "more epochs in the same time": ("time", {"max_epochs": 8, "max_time": "00:01:00:00"}, True),
    "more epochs, stopped early": ("early", {"max_epochs": 5, "callbacks": stopping(1)}, False),
    "more patience": ("early", {"max_epochs": 4, "callbacks": stopping(2)}, False),
    "no early stop": ("early", {"max_epochs": 4}, False),
    "version 0.1, more epochs": ("version 0.1", {"max_epochs": 5}, False),
    **{f"the same, {name}": (name, asked, True) for name, (asked, _) in STOPS.items()},
}


@pytest.mark.parametrize("case", ASKED)
def test_finished_is_what_was_asked_for_and_reached(case: str, tmp_path: Path) -> None:
    name, asked, finished = ASKED[case]
    trainer, summary = STOPS[name]
    folder = RunFolder(tmp_path)
    write_text(folder / folder.CONFIG, resolved(**trainer).to_yaml())
    write_json(folder / folder.SUMMARY, {"status": "finished", "train_seconds": 9.0, TEST_ACC: 0.9, **summary})
    assert folder.is_finished(resolved(**asked)) is finished


@pytest.mark.parametrize(("stop", "more"), [("max_time", "--trainer.max_time"), ("callback", "--trainer.callbacks")])
def test_a_finished_run_says_why_it_ended(stop: str, more: str) -> None:
    assert more in nothing_left({"stopped_by": stop})


def train(folder: Path, **options: Any) -> dict[str, Any]:
    common = {"run_dir": str(folder), "mode": "disabled", "limit_train_batches": 2, "warmup_epochs": 0}
    return cct_lightning.fit("digits", **common, **options).summary


def test_an_early_stop_goes_on_with_more_patience(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    summary = train(tmp_path, max_epochs=5, callbacks=stopping(1))
    assert (summary["epochs"], summary["stopped_by"]) == (2, "callback")
    assert train(tmp_path, max_epochs=5, callbacks=stopping(1)) == summary
    assert "nothing is left to do" in capsys.readouterr().out
    summary = train(tmp_path, max_epochs=5, callbacks=stopping(3))
    assert (summary["epochs"], summary["stopped_by"]) == (4, "callback")


def test_steps_go_on_with_more_steps_and_with_no_limit(tmp_path: Path) -> None:
    summary = train(tmp_path, max_epochs=2, max_steps=1)
    assert (summary["steps"], summary["stopped_by"]) == (1, "max_steps")
    summary = train(tmp_path, max_epochs=2, max_steps=3)
    assert (summary["steps"], summary["stopped_by"]) == (3, "max_steps")
    summary = train(tmp_path, max_epochs=2)
    assert (summary["steps"], summary["epochs"], summary["stopped_by"]) == (4, 2, "max_epochs")


def test_steps_that_end_with_an_epoch_go_on_in_the_next(tmp_path: Path) -> None:
    whole, two = tmp_path / "whole", tmp_path / "two"
    train(whole, max_epochs=3, max_steps=6, schedule="constant")
    train(two, max_epochs=1, max_steps=2, schedule="constant")
    train(two, max_epochs=3, max_steps=6, schedule="constant")
    columns = ["epoch", "step", "train/images_seen", "train/loss", "val/loss"]
    first, second = (pd.read_csv(folder / RunFolder.METRICS)[columns] for folder in (whole, two))
    pd.testing.assert_frame_equal(first, second)
