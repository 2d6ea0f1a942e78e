"""The list of a tree's files, kept beside the caches: a tree of a million images is walked once, not by every process.

Adding, removing or renaming a file changes the time of its folder. So a list holds the times of all folders, which are
a thousandth of the files, and is used while none has changed.
"""

import dataclasses
import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from cct_lightning.data.datasets.sources import Files
from cct_lightning.data.storage.cache import locked
from cct_lightning.data.storage.paths import writable
from cct_lightning.system.atomic import write_text

VERSION = 1  # raise it when other files of a tree are taken
# File systems keep times in steps of up to two seconds: a folder may change after it was listed, and keep its time.
SETTLED_NS = 2_000_000_000


def listed(path: Path, source: str, read: Callable[[], Files]) -> Files:
    """Return what `read` lists, from the list in `path` where that is still true.

    Of several processes one reads and the others wait. A reader that names no folders is asked every time.
    """
    if (found := _load(path, source)) is not None or not writable(path.parent):
        return found or read()
    with locked(path.with_suffix(".lock")):
        found = _load(path, source)
        if found is None:
            begin = time.time_ns()
            found = read()
            times = _times(found.root, found.folders)
            if times and max(times) < begin - SETTLED_NS:
                content = {**vars(found), "root": str(found.root), "label": found.label.tolist()}
                content |= {"split": found.split.tolist(), "times": times, "version": VERSION, "source": source}
                write_text(path, json.dumps(content))
    return found


def _load(path: Path, source: str) -> Files | None:
    try:
        content: dict[str, Any] = json.loads(path.read_bytes())
        if (content["version"], content["source"]) != (VERSION, source):
            return None
        root = Path(content["root"])
        if _times(root, content["folders"]) != content["times"]:
            return None
        values = {field.name: content[field.name] for field in dataclasses.fields(Files)}
    except (OSError, ValueError, KeyError):
        return None
    arrays = {"label": np.array(content["label"], dtype=np.int64), "split": np.array(content["split"], dtype=np.uint8)}
    lists = {name: tuple(values[name]) for name in ("classes", "folders")}
    return Files(**{**values, **arrays, **lists, "root": root})


def _times(root: Path, folders: tuple[str, ...]) -> list[int]:
    return [os.stat(root / folder).st_mtime_ns for folder in folders]
