"""Where data sets and decoded caches are."""

import os
import tempfile
from pathlib import Path

DATA_VARIABLE = "CCT_DATA"


def default_root() -> Path:
    """Return the folder of data sets when no root is given: CCT_DATA, else XDG_CACHE_HOME/cct_lightning, else
    ~/.cache/cct_lightning. Where there is no home (containers, batch systems) it is a folder of this user in the
    system's temporary directory.
    """
    if os.environ.get(DATA_VARIABLE):
        return Path(os.environ[DATA_VARIABLE]).expanduser()
    if os.environ.get("XDG_CACHE_HOME"):
        return Path(os.environ["XDG_CACHE_HOME"]) / "cct_lightning"
    try:
        return Path.home() / ".cache" / "cct_lightning"
    except RuntimeError:
        return _temporary()


def cache_folders(chosen: str | None = None) -> list[Path]:
    """Return the folders that may hold decoded caches, the preferred one first; one that the user chose is the only."""
    if chosen is not None:
        return [Path(chosen).expanduser()]
    return [default_root() / "decoded", _temporary() / "decoded"]


def writable(folder: Path) -> bool:
    """Make the folder if need be, and say whether files can be written into it."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return True
    except OSError:
        return False


def _temporary() -> Path:
    # The user's number is in the name: on a shared machine another user's folder is neither trusted nor written.
    folder = Path(tempfile.gettempdir()) / f"cct_lightning-{os.getuid() if hasattr(os, 'getuid') else 'user'}"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if hasattr(os, "getuid") and folder.stat().st_uid != os.getuid():
        return Path(tempfile.mkdtemp(prefix="cct_lightning-"))
    return folder
