"""Where files are: at the path that the user names, else where the package keeps what it downloads and decodes."""

import os
import re
import tempfile
from pathlib import Path

from cct_lightning.errors import InputError


def cache_root() -> Path:
    """Return the user's cache folder: XDG_CACHE_HOME or ~/.cache, in cct_lightning; `temporary_root` without a home."""
    try:
        cache = os.environ.get("XDG_CACHE_HOME")
        return (local_path(cache) if cache else Path.home() / ".cache") / "cct_lightning"
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


def local_path(given: str | Path) -> Path:
    """Return a path that a user gave, with ~ expanded.

    Raises:
        InputError: It is an address such as s3://bucket/runs, which would become a folder `s3:` here, or the home
            folder of a user who does not exist.
    """
    # Two letters before the colon at least: C:/ is a drive. `Path` has made one slash of two.
    scheme = re.match(r"([A-Za-z][A-Za-z0-9+.-]+):/+", str(given))
    if scheme or re.match(r"[\w.-]+@[\w.-]+:", str(given)):  # the second is that of scp
        address = given if scheme is None or isinstance(given, str) else f"{scheme[1]}://{str(given)[scheme.end() :]}"
        raise InputError(f"{address} is an address: give a file or folder of this machine, mounted or copied first.")
    try:
        return Path(given).expanduser()
    except RuntimeError as error:
        raise InputError(f"There is no folder {given}: write it without ~.") from error
