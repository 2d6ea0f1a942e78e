"""Real images through the command line: MNIST in torchvision's layout, CIFAR-10 as a folder of PNG files."""

import json
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from warm import run_cct

pytestmark = pytest.mark.slow


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("CCT_DATA", str(tmp_path / "cache"))
    for name in ("http_proxy", "https_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")  # nothing listens there


@pytest.mark.usefixtures("no_network")
def test_mnist(unpack: ModuleType, tmp_path: Path) -> None:
    splits, _ = unpack.load("mnist")
    # They are stored class by class.
    some = {split: (images[::8], labels[::8]) for split, (images, labels) in splits.items()}
    unpack.write_idx(some, tmp_path / "data")
    options = ["--model.embed_dim", "64", "--trainer.max_epochs", "2", "--run_dir", "run"]
    options += ["--tracking.media_every_n_epochs", "0"]
    done = run_cct("fit", "--config", "mnist", "--data.root", "data", *options, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert summary["test/acc"] > 0.7, "104 batches of 128, some of them warm-up, and chance is 0.1"


@pytest.mark.usefixtures("no_network")
def test_cifar10_as_a_folder(unpack: ModuleType, tmp_path: Path) -> None:
    splits, classes = unpack.load("cifar10")
    some = {}
    for split, (images, labels) in splits.items():
        chosen = np.concatenate([np.flatnonzero(labels == k)[:200] for k in range(10)])
        some[split] = (images[chosen], labels[chosen])
    unpack.write_folder(some, classes, tmp_path / "data")
    options = ["--model.arch", "cct_2_3x2", "--model.embed_dim", "64", "--trainer.max_epochs", "3"]
    options += ["--data.batch_size", "64", "--tracking.media_every_n_epochs", "0"]
    options += ["--model.optim.warmup_epochs", "1"]
    done = run_cct("fit", "--data.name", "folder", "--data.root", "data", *options, "--run_dir", "run", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert summary["test/acc"] > 0.15, "better than chance after 84 steps"
