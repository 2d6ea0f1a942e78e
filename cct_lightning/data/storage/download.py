"""Fetching a data set with torchvision's own downloaders, which check md5 sums and fetch a broken archive again."""

import socket
import sys
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cct_lightning.data.datasets.sources import Source
from cct_lightning.errors import InputError

SILENCE_S = 30.0  # a server that says nothing for so long is given up


def fetch(source: Source, root: Path, *, allowed: bool) -> None:
    """See that all files of a data set are there, downloading what is missing where that is `allowed`.

    Raises:
        InputError: Files are missing and cannot be had; the message names one and says where to put it.
    """
    folder = root / source.base
    lacking = missing(source, root)
    if not lacking:
        return
    if root.exists() and not root.is_dir():
        raise InputError(f"The data root {root} is a file. Give data.root a folder.")
    put = f"put {_listed(source.files)} of {source.title} into {folder}"
    lacks = f"{folder} lacks {_listed(lacking)}" if folder.is_dir() else f"{folder} does not exist"
    if source.torchvision is None or not allowed:
        raise InputError(f"{lacks}: {put}{'' if source.torchvision is None else ', or allow the download'}.")
    made = [path for path in (folder, *folder.parents) if not path.exists()]  # deepest first
    try:
        _download(source, root)
    except Exception as error:  # urllib, tarfile, zlib, torchvision: whatever a broken network or archive raises
        for path in made:  # leave no empty folders behind
            if path.is_dir() and not any(path.iterdir()):
                path.rmdir()
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        reason = (lines[-1] if lines else type(error).__name__).strip(" .<>")
        raise InputError(
            f"Cannot download {source.title} ({reason}), and {lacks}: connect this machine to the network, or {put}."
        ) from error
    lacking = missing(source, root)
    if lacking:
        raise InputError(f"The download of {source.title} brought no {_listed(lacking)}: {put}.")


def download_again(source: Source, root: Path) -> bool:
    """Download again what is broken, and say whether that worked."""
    print(f"Files of {source.title} are broken; downloading them again.", file=sys.stderr)
    try:
        _download(source, root)
    except Exception:  # then the broken file is what the user hears of
        return False
    return True


def missing(source: Source, root: Path) -> list[str]:
    """Return the files of a data set that are not there."""
    return [name for name in source.files if not (root / source.base / name).exists()]


def _download(source: Source, root: Path) -> None:
    from torchvision import datasets

    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(SILENCE_S)
    try:
        with _kept_inside():
            for arguments in source.by_split:
                getattr(datasets, str(source.torchvision))(root, download=True, **arguments)
    finally:
        socket.setdefaulttimeout(before)


@contextmanager
def _kept_inside() -> Iterator[None]:
    """Let no member of an archive leave the folder that it is unpacked into: Python before 3.14 lets it."""
    if not hasattr(tarfile, "data_filter"):  # 3.10 before 3.10.12
        yield
        return
    before = tarfile.TarFile.__dict__["extraction_filter"]
    tarfile.TarFile.extraction_filter = staticmethod(tarfile.data_filter)
    try:
        yield
    finally:
        tarfile.TarFile.extraction_filter = before


def _listed(names: tuple[str, ...] | list[str]) -> str:
    return ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")
