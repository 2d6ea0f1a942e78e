"""Atomic writes: a file is written next to its place and renamed when complete, so that it is complete or absent.

Every file of the package that must survive a crash is written here: checkpoints, caches, summaries, exports, pages.
"""

import contextlib
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any


@contextlib.contextmanager
def replacing(path: Path, *, sync: bool = False) -> Iterator[Path]:
    """Give a temporary path that becomes `path` when the block ends well, and vanishes when it does not.

    A reader, or a crash, sees the old file or the new one and nothing between.

    Args:
        path: The file; its folder must exist.
        sync: Force the content and the rename to the disk, so that they survive a loss of power, too.

    Raises:
        OSError: The disk is full or cannot be written; its `filename` is `path`, and the old file is intact.
    """
    # Hidden, in the same folder, this process's own, and with the file's ending.
    temporary = path.with_name(f".{path.stem}.{os.getpid()}.part{path.suffix}")
    try:
        yield temporary
        if sync:
            _sync(temporary)
        temporary.replace(path)
        if sync:
            _sync(path.parent)
    except OSError as error:
        error.filename = str(path)
        raise
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()


@contextlib.contextmanager
def replacing_folder(path: Path) -> Iterator[Path]:
    """Give a temporary folder that becomes `path` when the block ends well, and vanishes when it does not.

    Files of a `path` that exists are replaced one by one, each at once; those that the block has not written stay.

    Args:
        path: The folder; its parent must exist.

    Raises:
        OSError: The disk is full or cannot be written.
    """
    path = path.absolute()
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        temporary.mkdir()
        yield temporary
        if path.is_dir():
            for file in sorted(temporary.iterdir()):
                file.replace(path / file.name)
        else:
            temporary.replace(path)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _sync(path: Path) -> None:
    try:
        # Windows flushes only what is open for writing, and opens no folder.
        descriptor = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    except OSError:
        return
    try:
        os.fsync(descriptor)
    except OSError:
        if path.is_file():
            raise
        # Folders cannot be synced on every network file system.
    finally:
        os.close(descriptor)


def write_text(path: Path, text: str) -> None:
    """Write a UTF-8 text file, completely or not at all."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, values: dict[str, Any]) -> None:
    """Write a dict as indented JSON, completely or not at all."""
    write_text(path, json.dumps(values, indent=2) + "\n")


def remove_leftovers(folder: Path) -> None:
    """Remove the temporary files of processes that were killed while they wrote into a folder."""
    for path in (*folder.glob(".*.part"), *folder.glob(".*.part.*")):
        path.unlink(missing_ok=True)
