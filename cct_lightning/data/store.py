"""From a data set's name to its images: download, list, decode, cache. Everything that can go wrong goes wrong here."""

import hashlib
import json
import os
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cct_lightning.data import cache
from cct_lightning.data.cache import Content, Pool
from cct_lightning.data.decode import decode_all, look
from cct_lightning.data.download import fetch
from cct_lightning.data.paths import cache_folders, default_root, writable
from cct_lightning.data.readers import Arrays, Files
from cct_lightning.data.sources import Source
from cct_lightning.errors import InputError


@dataclass(frozen=True, kw_only=True)
class Stored:
    """A data set that is ready."""

    pool: Pool
    classes: tuple[str, ...]
    path: list[str] | None  # the file of each image, relative to the root, when the set is made of files


def open_stored(
    source: Source, *, root: str | None, size: tuple[int, int] | None, cache_dir: str | None, download: bool
) -> Stored:
    """Open a data set, building its cache first when need be.

    Args:
        source: The data set.
        root: Where its files are; None: `default_root()`.
        size: Height and width to hold the images at, for sets made of files; arrays stay at their native size.
        cache_dir: Where decoded caches are; None: below the default root.
        download: Whether missing files may be downloaded.

    Raises:
        InputError: Files are missing, broken, or contradict each other.
    """
    place = root_of(source, root)
    fetch(source, place, allowed=download)
    if not source.made_of_images:
        key = _key(source, place, _stamp_files(place / source.base, source.files), None)
        pool = _open(source, place, key, cache_dir, lambda: _from_arrays(source, source.read(place / source.base)))
        return Stored(pool=pool, classes=source.classes, path=None)
    files = source.read(place / source.base)
    assert isinstance(files, Files)
    key = _key(source, place, _stamp_files(files.root, files.path), size)
    pool = _open(source, place, key, cache_dir, lambda: _from_files(source, files, size))
    return Stored(pool=pool, classes=files.classes, path=files.path)


def root_of(source: Source, root: str | None) -> Path:
    """Return the folder of a data set's files.

    Raises:
        InputError: A set of the user's own needs a root.
    """
    if root is None and source.made_of_images and source.torchvision is None:
        raise InputError(f"The data set {source.name!r} needs data.root: the folder that holds train/CLASS/*.png.")
    return default_root() if root is None else Path(root).expanduser()


def _open(source: Source, place: Path, key: dict[str, Any], cache_dir: str | None, build: Any) -> Pool:
    # One slot for each source, place and size: a change of content replaces the cache instead of adding another.
    slot = hashlib.sha256(json.dumps([str(place.resolve()), key["size"]]).encode()).hexdigest()[:12]
    name = f"{source.name}-{slot}.safetensors"
    folders = cache_folders(cache_dir)
    for folder in folders:
        pool = cache.load(folder / name, key)
        if pool is not None:
            return pool
    usable = next((folder for folder in folders if writable(folder)), folders[0])
    return cache.load_or_build(usable / name, key, build)


def _key(source: Source, place: Path, stamp: str, size: tuple[int, int] | None) -> dict[str, Any]:
    return {"version": cache.VERSION, "source": source.name, "size": size, "content": stamp}


def _stamp_files(root: Path, names: Iterable[str]) -> str:
    """Return a digest of names, sizes and times of change: what tells, without reading, that files are the same."""
    digest = hashlib.sha256()
    for name in names:
        status = os.stat(root / name)
        digest.update(f"{name}\0{status.st_size}\0{status.st_mtime_ns}\n".encode(errors="surrogateescape"))
    return digest.hexdigest()


def _from_arrays(source: Source, arrays: Any) -> Content:
    assert isinstance(arrays, Arrays)
    _check_labels(arrays.label, len(source.classes), source.title)
    expected = (source.in_chans, *(source.size or ()))
    if arrays.image.shape[1:] != expected:
        raise InputError(
            f"{source.title}: the images are {arrays.image.shape[1:]} where {expected} was expected "
            "(channels, height, width). Check that data.root holds the right data set."
        )
    return Content(chunks=[arrays.image], shape=arrays.image.shape, label=arrays.label, split=arrays.split)


def _from_files(source: Source, files: Files, size: tuple[int, int] | None) -> Content:
    _check_labels(files.label, len(files.classes), str(files.root))
    sizes, grey = look(files.root, files.path)
    if size is None and len(sizes) > 1:
        (h, w), (h2, w2) = sorted(sizes)[0], sorted(sizes)[-1]
        raise InputError(
            f"The images in {files.root} differ in size (from {h}x{w} to {h2}x{w2}). "
            "Give data.img_size the size to bring them to."
        )
    height, width = size or sizes.pop()
    channels = source.in_chans or (1 if grey else 3)
    shape = (len(files.path), channels, height, width)
    chunks = decode_all(files.root, files.path, in_chans=channels, size=(height, width), resize=size is not None)
    return Content(
        chunks=_shown(chunks, len(files.path), source.name), shape=shape, label=files.label, split=files.split
    )


def _check_labels(label: np.ndarray, num_classes: int, where: str) -> None:
    if len(label) == 0:
        raise InputError(f"{where} holds no images.")
    if label.min() < 0 or label.max() >= num_classes:
        wrong = label.min() if label.min() < 0 else label.max()
        raise InputError(f"{where}: label {wrong} is out of range for {num_classes} classes (0..{num_classes - 1}).")


def _shown(chunks: Iterator[np.ndarray], total: int, name: str) -> Iterator[np.ndarray]:
    """Show a progress bar while images are decoded, when somebody is looking."""
    from rich.console import Console
    from rich.progress import Progress

    console = Console(stderr=True)
    with Progress(console=console, disable=not sys.stderr.isatty()) as progress:
        task = progress.add_task(f"Decoding {name}", total=total)
        for chunk in chunks:
            yield chunk
            progress.advance(task, len(chunk))
