"""The whole slice: `cct fit --config digits`, what it reaches, and what can be done with what it leaves behind."""

import csv
import json
import os
import re
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from running import Finished
from survival.processes import start
from warm import python, run_cct

import cct_lightning
from cct_lightning.data.datamodule import ImageDataModule
from cct_lightning.training.module import Classifier

pytestmark = pytest.mark.slow

SHORT = ("--config", "digits", "--trainer.max_epochs", "2", "--model.optim.warmup_epochs", "0.5")


def inspect(run_dir: Path, *options: str) -> list[dict[str, Any]]:
    """Read a W&B run file back with wandb's own reader."""
    # The first is the training's; every `cct test --run_dir` adds one of its own.
    file = sorted((run_dir / "wandb").glob("offline-run-*/*.wandb"))[0]
    command = [python(), "-m", "wandb", "leet", "inspect", *options, "--json", str(file)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines() if line.strip()] if not options else [
        json.loads(done.stdout)
    ]  # fmt: skip


@pytest.fixture(scope="module")
def digits_run(tmp_path_factory: pytest.TempPathFactory) -> Finished:
    """`cct fit --config digits`, the whole recipe."""
    cwd = tmp_path_factory.mktemp("digits")
    done = run_cct("fit", "--config", "digits", "--run_dir", "run", cwd=cwd)
    assert done.returncode == 0, done.stderr
    return Finished(cwd / "run", done.stdout)


def test_accuracy(digits_run: Finished) -> None:
    found = re.search(r"test accuracy +([\d.]+) %", digits_run.output)
    assert found is not None
    assert float(found[1]) >= 98.0
    for title in ("run folder", "checkpoint", "W&B run, to upload +wandb sync"):
        path = re.search(rf"{title} +(\S+)", digits_run.output)
        assert path is not None
        assert (digits_run.folder.parent / path[1]).exists()


def test_deterministic_kernels_are_enough(tmp_path: Path) -> None:
    done = run_cct("fit", *SHORT, "--trainer.deterministic", "true", "--trainer.fast_dev_run", "2", cwd=tmp_path)
    assert done.returncode == 0, done.stderr


def test_run_folder(digits_run: Finished) -> None:
    names = {path.name for path in digits_run.folder.iterdir()}
    assert {
        "config.yaml",
        "environment.json",
        "metrics.csv",
        "summary.json",
        "best.ckpt",
        "last.ckpt",
        "wandb",
    } <= names
    summary = json.loads((digits_run.folder / "summary.json").read_text())
    assert summary["status"] == "finished"
    assert summary["test/acc"] >= 0.98
    assert summary["best_val/acc"] > 0.95
    assert summary["images_per_s"] > 0
    assert summary["params"] == 203_275
    assert summary["epochs"] == yaml.safe_load((digits_run.folder / "config.yaml").read_text())["trainer"]["max_epochs"]
    with (digits_run.folder / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert max(float(row["val/acc"]) for row in rows if row["val/acc"]) == pytest.approx(summary["best_val/acc"])
    assert len([row for row in rows if row["test/acc"]]) == 1, "the test split is touched once"
    where = json.loads((digits_run.folder / "environment.json").read_text())
    assert where["torch"] == torch.__version__.split("+")[0]
    assert {"git_commit", "git_dirty", "python", "cpu", "gpus", "wandb"} <= set(where)


def test_wandb_run(digits_run: Finished) -> None:
    records = inspect(digits_run.folder)
    text = json.dumps(records)
    summary = json.loads((digits_run.folder / "summary.json").read_text())
    for key in ("val/acc", "val/acc5", "val/loss", "train/loss", "train/images_per_s", "test/acc", "git_commit"):
        assert key in text, key
    for value in ("cct_2_3x1", "seqpool", "digits", "label_smoothing", "max_epochs", "best_val/acc", "params", "macs"):
        assert value in text, value
    (final,) = inspect(digits_run.folder, "--summary")
    flat = json.dumps(final)
    assert str(summary["params"]) in flat
    assert f"{summary['test/acc']:.4f}"[:6] in flat


def test_checkpoints_hold_plain_data(digits_run: Finished) -> None:
    checkpoint = torch.load(digits_run.folder / "best.ckpt", weights_only=True)
    hparams = checkpoint["hyper_parameters"]
    assert hparams["arch"] == "cct_2_3x1"
    assert hparams["classes"] == [str(digit) for digit in range(10)]
    assert checkpoint["config"]["data"]["name"] == "digits"
    assert all(name.startswith("net.") for name in checkpoint["state_dict"])


def test_python_api_agrees_with_the_command(digits_run: Finished) -> None:
    model = Classifier.load(digits_run.folder / "best.ckpt")
    data = ImageDataModule(name="digits")
    data.prepare()
    right = total = 0
    with torch.no_grad():
        for batch in data.test_dataloader():
            batch = data.on_after_batch_transfer(batch, 0)
            right += int((model(batch.image).argmax(-1) == batch.label).sum())
            total += len(batch.label)
    summary = json.loads((digits_run.folder / "summary.json").read_text())
    assert total == 359
    assert right / total == pytest.approx(summary["test/acc"])


def told_accuracy(out: str) -> float:
    """What `cct test` says on its table."""
    found = re.search(r"test/acc +│ +([\d.]+)", out)
    assert found is not None, out
    return float(found[1])


def test_test_command_repeats_the_accuracy(digits_run: Finished, cct: Callable[..., tuple[int, str, str]]) -> None:
    summary = json.loads((digits_run.folder / "summary.json").read_text())
    for words in (["--run_dir", str(digits_run.folder)], [f"--ckpt_path={digits_run.folder / 'best.ckpt'}"]):
        code, out, err = cct("test", *words)
        assert code == 0, err
        assert told_accuracy(out) == pytest.approx(summary["test/acc"])


@pytest.mark.parametrize("words", [(), ("--trainer.deterministic", "true", "--data.augment", "timm_erasing")])
def test_resolved_config_repeats_the_run(words: tuple[str, ...], tmp_path: Path) -> None:
    first = run_cct("fit", *SHORT, *words, "--run_dir", "first", "--tracking.mode", "disabled", cwd=tmp_path)
    assert first.returncode == 0, first.stderr
    second = run_cct("fit", "--config", "first/config.yaml", "--run_dir", "second", cwd=tmp_path)
    assert second.returncode == 0, second.stderr
    metrics = [(tmp_path / name / "metrics.csv").read_text() for name in ("first", "second")]
    kept = [[_without_machine(row) for row in csv.DictReader(text.splitlines())] for text in metrics]
    assert kept[0] == kept[1]
    config = yaml.safe_load((tmp_path / "second" / "config.yaml").read_text())
    assert config["trainer"]["deterministic"] is (True if words else None)
    weights = [
        torch.load(tmp_path / name / "last.ckpt", weights_only=True)["state_dict"] for name in ("first", "second")
    ]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])


def _without_machine(row: dict[str, str]) -> dict[str, str]:
    return {key: value for key, value in row.items() if key not in ("train/images_per_s", "train/memory_gb")}


def test_a_killed_run_starts_again(tmp_path: Path) -> None:
    for moment in ("config.yaml", "last.ckpt"):
        process = start(tmp_path, "--config", "digits")
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline and not list(tmp_path.glob(f"runs/*/*/{moment}")):
            time.sleep(0.05)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    assert len(list(tmp_path.glob("runs/*/*"))) == 2, "each launch has its own folder"
    done = run_cct("fit", *SHORT, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    (finished,) = (
        path for path in tmp_path.glob("runs/*/*/summary.json") if json.loads(path.read_text())["status"] == "finished"
    )
    assert (finished.parent / "best.ckpt").exists()


def test_a_run_without_validation_tests_its_last_epoch(
    tmp_path: Path, cct: Callable[..., tuple[int, str, str]]
) -> None:
    done = run_cct("fit", *SHORT, "--data.val_fraction", "0", "--run_dir", "run", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "digits: 1,438 train, 359 test images" in done.stdout
    assert "zero" not in done.stderr, "Lightning warns of an empty loader that was asked for"
    folder = tmp_path / "run"
    assert not (folder / "best.ckpt").exists()
    summary = json.loads((folder / "summary.json").read_text())
    assert "best_val/acc" not in summary
    code, out, err = cct("test", "--run_dir", str(folder))
    assert code == 0, err
    assert told_accuracy(out) == pytest.approx(summary["test/acc"])


def test_run_folder_continues(tmp_path: Path, cct: Callable[..., tuple[int, str, str]]) -> None:
    command = ("fit", *SHORT, "--run_dir", str(tmp_path / "run"))
    first = run_cct(*command, "--test_best", "false", cwd=tmp_path)
    assert first.returncode == 0, first.stderr
    code, _, err = cct(*command, "--resume", "never")
    assert code == 2
    assert "holds a run already" in err
    assert "test/acc" not in json.loads((tmp_path / "run" / "summary.json").read_text())
    # All that the same command without that option leaves to do is the test.
    code, out, err = cct(*command)
    assert code == 0, err
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert re.search(r"test accuracy +([\d.]+) %", out)[1] == f"{100 * summary['test/acc']:.2f}"  # type: ignore[index]
    assert summary["epochs"] == 2
    code, out, err = cct(*command)
    assert code == 0, err
    assert "nothing is left to do" in out


def test_public_names_have_help() -> None:
    for name in cct_lightning.__all__:
        thing = getattr(cct_lightning, name)
        assert thing.__doc__, name
    assert set(cct_lightning.__all__) <= set(dir(cct_lightning))
