"""Decoded images on disk: one safetensors file per data set, memory-mapped; all processes share its pages.

The file holds `label` (N,) int64, `split` (N,) uint8 and `image` (N, C, H, W) uint8; its metadata holds a key that
names everything the pixels depend on. safetensors checks header and length when it opens; a file that does not pass,
or whose key differs, is built again, under a lock that the system releases when its holder dies. The format is written
here, not by safetensors, so that a set need not fit in memory.
"""

import json
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import filelock
import numpy as np
from safetensors import SafetensorError, safe_open
from torch import Tensor

from cct_lightning.errors import InputError
from cct_lightning.system.atomic import replacing

VERSION = 1  # raise it when what is stored, or how images are decoded, changes
SPLITS = ("train", "val", "test")  # a split's number is its position
PATIENCE_S = 2.0  # how long to wait for another process before saying so


@dataclass(frozen=True, kw_only=True)
class Content:
    """What is to be stored; pixels come in chunks, so that they need not fit in memory."""

    chunks: Iterable[np.ndarray]  # (n, C, H, W) uint8 each, together (N, C, H, W)
    shape: tuple[int, int, int, int]
    label: np.ndarray  # (N,) int64
    split: np.ndarray  # (N,) uint8, position in SPLITS


@dataclass(frozen=True, kw_only=True)
class Pool:
    """All images of a data set, every split."""

    image: Tensor | None  # (N, C, H, W) uint8, memory-mapped copy-on-write: no write reaches the file; None: streamed
    label: Tensor  # (N,) int64
    split: Tensor  # (N,) uint8, position in SPLITS
    mean: tuple[float, ...]  # per channel over the training images, 0..1
    std: tuple[float, ...]


def load(path: Path, key: dict[str, Any]) -> Pool | None:
    """Open a cache, or return None when it is missing, damaged, or was not made from what `key` says."""
    try:
        with safe_open(path, framework="pt") as file:
            meta = json.loads((file.metadata() or {}).get("cct", "{}"))
            if meta.get("key") != json.loads(json.dumps(key)):  # tuples become lists
                return None
            image, label, split = (file.get_tensor(name) for name in ("image", "label", "split"))
    except (OSError, SafetensorError, json.JSONDecodeError):
        return None
    return Pool(image=image, label=label, split=split, mean=tuple(meta["mean"]), std=tuple(meta["std"]))


def load_or_build(path: Path, key: dict[str, Any], build: Callable[[], Content]) -> Pool:
    """Open a cache, building it first when need be; of several processes one builds and the others wait.

    `key` says in plain values, as for JSON, what the pixels are made from; `build` is called with the lock held.

    Raises:
        InputError: The cache cannot be written.
    """
    pool = load(path, key)
    if pool is not None:
        return pool
    try:
        with locked(path.with_suffix(".lock")):
            pool = load(path, key)
            if pool is None:
                _write(path, key, build())
                pool = load(path, key)
    except OSError as error:
        raise InputError(
            f"Cannot write the cache of decoded images {path}: {error.strerror or error}. "
            "Free some space there, or choose another folder with cache_dir."
        ) from error
    if pool is None:
        raise InputError(f"The cache {path} could not be read back after it was written. Check the disk.")
    return pool


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold a lock file; tell the user when another process has it for long."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = filelock.FileLock(path)
    try:
        held = lock.acquire(timeout=PATIENCE_S)
    except filelock.Timeout:
        print(f"Waiting for another process that prepares {path.stem} ...", file=sys.stderr, flush=True)
        held = lock.acquire()
    with held:
        yield


def _write(path: Path, key: dict[str, Any], content: Content) -> None:
    number, channels = content.shape[:2]
    for left_over in path.parent.glob(f".{path.stem}.*.part{path.suffix}"):  # of a killed process: we hold the lock
        left_over.unlink(missing_ok=True)
    with replacing(path, sync=True) as part, part.open("wb") as file:
        blank = _header(key, content.shape, [0.0] * channels, [0.0] * channels)
        # The statistics are known last and written first; 32 characters hold any of their numbers.
        length = -(-(len(blank) + 64 * channels) // 8) * 8
        file.write(length.to_bytes(8, "little") + b" " * length)
        file.write(content.label.astype("<i8").tobytes())
        file.write(content.split.astype(np.uint8).tobytes())
        histogram = np.zeros((channels, 256), dtype=np.int64)
        done = 0
        for chunk in content.chunks:
            file.write(np.ascontiguousarray(chunk).data)
            training = chunk[content.split[done : done + len(chunk)] == 0]
            for c in range(channels):
                histogram[c] += np.bincount(training[:, c].ravel(), minlength=256)
            done += len(chunk)
        if done != number:
            raise RuntimeError(f"{done} images came where {number} were announced")
        mean, std = _moments(histogram)
        file.seek(8)
        file.write(_header(key, content.shape, mean, std))


def _header(key: dict[str, Any], shape: tuple[int, ...], mean: list[float], std: list[float]) -> bytes:
    number, size = shape[0], int(np.prod(shape))
    ends = [8 * number, 9 * number, 9 * number + size]
    return json.dumps(
        {
            "__metadata__": {"cct": json.dumps({"key": key, "mean": mean, "std": std})},
            "label": {"dtype": "I64", "shape": [number], "data_offsets": [0, ends[0]]},
            "split": {"dtype": "U8", "shape": [number], "data_offsets": [ends[0], ends[1]]},
            "image": {"dtype": "U8", "shape": list(shape), "data_offsets": [ends[1], ends[2]]},
        }
    ).encode()


def _moments(histogram: np.ndarray) -> tuple[list[float], list[float]]:
    """Return mean and standard deviation per channel, 0..1, from counts of the 256 values, (C, 256)."""
    value = np.arange(256) / 255
    total = np.maximum(histogram.sum(1), 1)
    mean = histogram @ value / total
    variance = histogram @ value**2 / total - mean**2
    # A constant channel has no spread to divide by.
    std = np.sqrt(np.maximum(variance, 0))
    return mean.round(6).tolist(), np.where(std > 1e-6, std, 1.0).round(6).tolist()
