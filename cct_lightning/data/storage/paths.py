"""Where data sets and decoded caches are."""

import os
import tempfile
from pathlib import Path

from cct_lightning.system.places import cache_root, local_path, temporary_root

DATA_VARIABLE = "CCT_DATA"


def default_root() -> Path:
    """Return the folder of data sets when no root is given: CCT_DATA, else the user's cache folder."""
    chosen = os.environ.get(DATA_VARIABLE)
    return local_path(chosen) if chosen else cache_root()


def cache_folders(chosen: str | None = None) -> list[Path]:
    """Return the folders that may hold decoded caches, the preferred one first; one that the user chose is the only."""
    if chosen is not None:
        return [local_path(chosen)]
    return [default_root() / "decoded", temporary_root() / "decoded"]


def writable(folder: Path) -> bool:
    """Make the folder if need be, and say whether files can be written into it."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return True
    except OSError:
        return False
