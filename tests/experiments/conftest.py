"""Eight real runs, which the tests of the engine compare with and the tests of the report show."""

import subprocess
import sys
from pathlib import Path

import pytest

from cct_lightning.experiments.grid import expand, read_grid

from .helpers import environment, write_grid


@pytest.fixture(scope="session")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The eight runs, one after the other in one process, without the engine."""
    out = tmp_path_factory.mktemp("undisturbed")
    runs = expand(read_grid(write_grid(out)))
    lines = ["from cct_lightning.cli import run"]
    for r in runs:
        lines.append(f"run({['fit', *r.arguments, f'--run_dir={out / r.name}', '--tracking.mode=disabled']!r})")
    subprocess.run([sys.executable, "-c", "\n".join(lines)], env=environment(), check=True, capture_output=True)
    return out
