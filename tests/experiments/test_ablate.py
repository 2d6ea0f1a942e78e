"""`cct ablate` on real runs: killed with -9 at random moments it ends as if it had never been disturbed."""

import csv
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
import yaml

from cct_lightning.experiments.grid import expand, read_grid
from cct_lightning.experiments.state import read_state

pytest.importorskip("ray", reason="Ray is not installed: pip install 'cct_lightning[ablate]'")

EPOCHS = 3
GRID = {
    "program": "cct",
    "command": ["${env}", "${program}", "fit", "--config=digits", "${args}"],
    "method": "grid",
    "parameters": {
        "model.arch": {"values": ["cvt_2_2", "cct_2_3x1"]},
        "model.pool": {"values": ["class_token", "seqpool"]},
        "seed_everything": {"values": [0, 1]},
        "trainer.max_epochs": {"value": EPOCHS},
        "model.optim.warmup_epochs": {"value": 1},
    },
}
CCT = [sys.executable, "-m", "cct_lightning"]


def environment() -> dict[str, str]:
    return {**os.environ, "WANDB_MODE": "offline", "OMP_NUM_THREADS": "1"}


def write_grid(folder: Path, **parameters: object) -> Path:
    path = folder / "small.yaml"
    path.write_text(yaml.safe_dump({**GRID, "parameters": {**GRID["parameters"], **parameters}}, sort_keys=False))
    return path


def ablate(grid: Path, out: Path, *options: str) -> subprocess.CompletedProcess[str]:
    command = [*CCT, "ablate", str(grid), "--out", str(out), *options]
    return subprocess.run(command, env=environment(), capture_output=True, text=True, timeout=560)


def training_in(out: Path) -> list[int]:
    """Processes that train in a folder below."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            words = (entry / "cmdline").read_bytes().decode(errors="replace").split("\0")
        except OSError:
            continue
        if "fit" in words and any(word.startswith(f"--run_dir={out}") for word in words):
            found.append(int(entry.name))
    return found


def results(folder: Path) -> dict[str, float]:
    summary = json.loads((folder / "summary.json").read_text())
    return {key: summary[key] for key in ("test/acc", "test/loss", "best_val/acc", "params", "macs")}


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same eight runs, one after the other in one process, without the engine."""
    out = tmp_path_factory.mktemp("undisturbed")
    runs = expand(read_grid(write_grid(out)))
    lines = ["from cct_lightning.cli import run"]
    for r in runs:
        lines.append(f"run({['fit', *r.arguments, f'--run_dir={out / r.name}', '--tracking.mode=disabled']!r})")
    subprocess.run([sys.executable, "-c", "\n".join(lines)], env=environment(), check=True, capture_output=True)
    return out


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_grid_killed_three_times_ends_as_if_undisturbed(undisturbed: Path, tmp_path: Path) -> None:
    out, chance = tmp_path / "runs", random.Random()
    grid = write_grid(tmp_path)
    folders = {run.name: out / "small" / run.name for run in expand(read_grid(grid))}

    def finished() -> dict[str, int]:
        done = [name for name, folder in folders.items() if read_state(folder).status == "finished"]
        return {name: (folders[name] / "summary.json").stat().st_mtime_ns for name in done}

    kept: dict[str, int] = {}
    for wanted in (0, 2, 4):
        engine = subprocess.Popen(
            [*CCT, "ablate", str(grid), "--out", str(out)],
            env=environment(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip
        deadline = time.monotonic() + 300
        while len(finished()) < wanted or not training_in(out):
            assert engine.poll() is None, engine.stdout.read().decode()
            assert time.monotonic() < deadline
            time.sleep(0.2)
        time.sleep(chance.uniform(0, 6))
        os.kill(engine.pid, signal.SIGKILL)
        engine.wait()
        deadline = time.monotonic() + 20
        while training_in(out):
            assert time.monotonic() < deadline, "a run outlives the killed engine"
            time.sleep(0.1)
        kept |= finished()

    done = ablate(grid, out)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "8 runs: 8 finished" in done.stdout
    assert {name: stamp for name, stamp in finished().items() if name in kept} == kept, "a finished run ran again"
    for name, folder in folders.items():
        assert results(folder) == results(undisturbed / name), name
        ours, theirs = (
            torch.load(path / "last.ckpt", map_location="cpu", weights_only=True)["state_dict"]
            for path in (folder, undisturbed / name)
        )
        assert all(torch.equal(ours[key], theirs[key]) for key in theirs), name
        with (folder / "metrics.csv").open() as file:
            epochs = [int(row["epoch"]) for row in csv.DictReader(file) if row["val/acc"]]
        assert epochs == list(range(EPOCHS)), name

    again = ablate(grid, out)
    assert again.returncode == 0
    assert "8 finished before" in again.stdout
    assert {name: stamp for name, stamp in finished().items() if name in kept} == kept
