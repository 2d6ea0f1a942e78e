"""Where the package keeps what it downloads and decodes, when the user names no folder."""

import os
import tempfile
from pathlib import Path


def cache_root() -> Path:
    """Return the user's cache folder: XDG_CACHE_HOME or ~/.cache, in cct_lightning; `temporary_root` without a home."""
    try:
        cache = os.environ.get("XDG_CACHE_HOME")
        return (Path(cache).expanduser() if cache else Path.home() / ".cache") / "cct_lightning"
    except RuntimeError:  # no home, as in some containers and batch systems
        return temporary_root()


def temporary_root() -> Path:
    """Return a folder of this user in the system's temporary directory."""
    # The user's number is in the name: on a shared machine another user's folder is neither trusted nor written.
    folder = Path(tempfile.gettempdir()) / f"cct_lightning-{os.getuid() if hasattr(os, 'getuid') else 'user'}"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if hasattr(os, "getuid") and folder.stat().st_uid != os.getuid():
        return Path(tempfile.mkdtemp(prefix="cct_lightning-"))
    return folder
