"""Where the tests find real data sets that are too large for the repository."""

import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder with `unpack.py` and the packed CIFAR-10 and MNIST (environment variable CCT_TEST_DATA, or ../shared/data)."""
    folder = Path(os.environ.get("CCT_TEST_DATA", Path(__file__).resolve().parents[2] / "shared" / "data"))
    if not (folder / "unpack.py").exists():
        pytest.skip("the packed CIFAR-10 and MNIST are not on this machine (set CCT_TEST_DATA)")
    return folder
