"""benchmarks/reproduce.py: a run that is cut goes on in another place, from one file."""

import csv
import json
import subprocess
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits
from warm import python, warm_environment

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[1]
SCRIPT = ROOT / "benchmarks" / "reproduce.py"


def test_rows_that_were_run_elsewhere_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT))
    from benchmarks.reproduce import earlier, table

    before = earlier(ROOT / "benchmarks" / "results" / "ladder.json")
    assert table(tmp_path, before) == list(before.values())
    assert {row["ours, %"] for row in table(tmp_path, earlier(tmp_path / "none.json"))} == {"not run"}


def test_two_sittings(tmp_path: Path) -> None:
    digits = load_digits()
    for place in range(120):
        folder = tmp_path / "cifar10" / ("train" if place < 100 else "test") / str(digits.target[place])
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray((digits.images[place] * 15.9).astype(np.uint8)).convert("RGB").save(folder / f"{place}.png")

    def sit(work: str, minutes: float) -> str:
        words = ["--root", str(tmp_path), "--work", str(tmp_path / work), "--rows", "cct_2_3x2_cpu"]
        words += ["--state", str(tmp_path / "state.tgz"), "--minutes", str(minutes), "--set", "trainer.max_epochs=300"]
        words += ["data.global_batch_size=45", f"data.cache_dir={tmp_path / 'cache'}"]
        done = subprocess.run([python(), str(SCRIPT), *words], env=warm_environment(), capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout

    minutes = 0.0  # not even a folder to work in: the sitting ends before the run has begun
    while "CCT-2/3x2, 50 epochs, cifar10: not run" in sit("one", minutes):
        if (tmp_path / "one" / "cct_2_3x2_cpu-0" / "last.ckpt").exists():
            break
        minutes = max(0.05, 2 * minutes)
    else:
        pytest.fail("the run was finished before it could be cut")
    assert (tmp_path / "state.tgz").stat().st_size < 10e6
    told = sit("two", 60)
    assert "continued from last.ckpt" in told
    run = tmp_path / "two" / "cct_2_3x2_cpu-0"
    summary = json.loads((run / "summary.json").read_text())
    assert (summary["status"], summary["epochs"]) == ("finished", 300)
    assert f"{100 * summary['test/acc']:.2f} (n=1)" in told
    with (run / "metrics.csv").open(newline="") as file:
        epochs = [row["epoch"] for row in csv.DictReader(file) if row["val/acc"]]
    assert epochs == [str(epoch) for epoch in range(1, 301)]
    # What is finished is not run again, and needs only its numbers.
    assert "cct fit" not in sit("three", 60)
    assert sorted(path.name for path in (tmp_path / "three" / run.name).iterdir()) == [
        "config.yaml", "environment.json", "metrics.csv", "summary.json",
    ]  # fmt: skip
