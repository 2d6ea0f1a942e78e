"""The runs that a benchmark makes without training: 150, of 50 variants."""

import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def synthetic(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of an ablation with 150 runs, four of which failed."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "path", [str(ROOT), *sys.path])
        from benchmarks.synthetic_runs import write_runs
    folder = tmp_path_factory.mktemp("synthetic") / "tokenizer_x_pool"
    write_runs(folder, count=150, epochs=12, images=120, samples=3)
    return folder
