"""Eight real runs, which the tests of the engine compare with and the tests of the report show."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from cct_lightning.experiments.grid import expand, read_grid
from cct_lightning.experiments.lock import take_lock

from .small_grid import environment, write_grid


@pytest.fixture(scope="session")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The eight runs, one after the other in one process, without the engine."""
    base = tmp_path_factory.getbasetemp()
    # Processes that share the tests (pytest-xdist) share the runs, too: one trains, the others wait.
    out = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "undisturbed"
    out.mkdir(exist_ok=True)
    while (lock := take_lock(out)) is None:
        time.sleep(0.5)
    with lock:
        if not (out / "done").exists():
            train_all(out)
            (out / "done").touch()
    return out


def train_all(out: Path) -> None:
    """Train the eight runs in one process."""
    runs = expand(read_grid(write_grid(out)))
    lines = ["from cct_lightning.cli import run"]
    for r in runs:
        lines.append(f"run({['fit', *r.arguments, f'--run_dir={out / r.name}', '--tracking.mode=disabled']!r})")
    subprocess.run([sys.executable, "-c", "\n".join(lines)], env=environment(), check=True, capture_output=True)
