"""The files of the well-known sets to arrays.

Nothing is unpickled freely: CIFAR's batches are pickles, and are read by an unpickler that can make arrays, lists and
strings and nothing else.
"""

import io
import pickle
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cct_lightning.data.datasets.class_names import FLOWERS102
from cct_lightning.data.split import DIGITS_TEST, stratified_order
from cct_lightning.errors import InputError

TRAIN, VAL, TEST = 0, 1, 2
DIGITS_TEST_SIZE, DIGITS_SEED = 359, 0  # a fifth; the seed is part of what "the digits test set" means here


@dataclass(frozen=True, kw_only=True)
class Arrays:
    """Images that are already decoded."""

    image: np.ndarray  # (N, C, H, W) uint8
    label: np.ndarray  # (N,) int64
    split: np.ndarray  # (N,) uint8: 0 train, 1 val, 2 test


@dataclass(frozen=True, kw_only=True)
class Files:
    """Images that are files."""

    root: Path
    path: list[str]  # relative to root
    label: np.ndarray  # (N,) int64
    split: np.ndarray  # (N,) uint8
    classes: tuple[str, ...]


def digits(root: Path) -> Arrays:
    """Read scikit-learn's 1,797 scans of 8x8 pixels (UCI ML hand-written digits, test set, 1998); root is not used.

    scikit-learn has no split. Ours holds out 359 images, stratified, the same ones always.
    """
    from sklearn.datasets import load_digits

    data = load_digits()
    image = np.round(data.images * (255 / 16)).astype(np.uint8)[:, None]
    label = data.target.astype(np.int64)
    split = np.zeros(len(label), dtype=np.uint8)
    split[stratified_order(label, seed=DIGITS_SEED, stream=DIGITS_TEST)[:DIGITS_TEST_SIZE]] = TEST
    return Arrays(image=image, label=label, split=split)


def idx(root: Path) -> Arrays:
    """Read the four files of MNIST or Fashion-MNIST in this folder (format: big-endian header, then bytes)."""
    parts = []
    for stem, number in (("train", TRAIN), ("t10k", TEST)):
        image = _idx_file(root / f"{stem}-images-idx3-ubyte", dimensions=3)
        label = _idx_file(root / f"{stem}-labels-idx1-ubyte", dimensions=1)
        if len(image) != len(label):
            raise InputError(f"{root}: {len(image)} images but {len(label)} labels in {stem}. Unpack the files again.")
        parts.append((image[:, None], label.astype(np.int64), number))
    return _joined(parts)


def cifar10(root: Path) -> Arrays:
    """Read the folder cifar-10-batches-py."""
    files = [(f"data_batch_{i}", TRAIN) for i in range(1, 6)] + [("test_batch", TEST)]
    return _joined([(*_cifar_batch(root / name, "labels"), number) for name, number in files])


def cifar100(root: Path) -> Arrays:
    """Read the folder cifar-100-python; labels are the 100 fine ones."""
    return _joined([(*_cifar_batch(root / name, "fine_labels"), n) for name, n in (("train", TRAIN), ("test", TEST))])


def svhn(root: Path) -> Arrays:
    """Read the two MATLAB files of cropped digits; label 10 stands for the digit 0."""
    parts = []
    for name, number in (("train_32x32.mat", TRAIN), ("test_32x32.mat", TEST)):
        content = _matlab(root / name, "X", "y")
        label = content["y"].astype(np.int64).reshape(-1) % 10
        image = np.ascontiguousarray(content["X"].transpose(3, 2, 0, 1))  # (H, W, C, N) -> (N, C, H, W)
        parts.append((image, label, number))
    return _joined(parts)


def flowers102(root: Path) -> Files:
    """List the photographs of the folder flowers-102, in the published splits 1,020, 1,020 and 6,149."""
    number_of = _matlab(root / "imagelabels.mat", "labels")["labels"].reshape(-1).astype(np.int64) - 1
    sets = _matlab(root / "setid.mat", "trnid", "valid", "tstid")
    ids = [sets[name].reshape(-1).astype(np.int64) for name in ("trnid", "valid", "tstid")]
    every = np.concatenate(ids)
    if len(every) == 0 or every.min() < 1 or every.max() > len(number_of):
        raise InputError(f"{root}: setid.mat names images that imagelabels.mat does not know. Download both again.")
    return Files(
        root=root,
        path=[f"jpg/image_{i:05d}.jpg" for i in every],
        label=number_of[every - 1],
        split=np.repeat(np.array([TRAIN, VAL, TEST], dtype=np.uint8), [len(part) for part in ids]),
        classes=FLOWERS102,
    )


def _matlab(path: Path, *names: str) -> dict[str, np.ndarray]:
    from scipy.io import loadmat

    try:
        content = loadmat(path, variable_names=names)
        return {name: content[name] for name in names}
    except Exception as error:  # a broken file raises nearly anything
        raise InputError(f"{path} is not a whole MATLAB file ({error}). Remove it and download it again.") from error


def _joined(parts: list[tuple[np.ndarray, np.ndarray, int]]) -> Arrays:
    return Arrays(
        image=np.concatenate([image for image, _, _ in parts]),
        label=np.concatenate([label for _, label, _ in parts]),
        split=np.concatenate([np.full(len(label), number, dtype=np.uint8) for _, label, number in parts]),
    )


def _idx_file(path: Path, *, dimensions: int) -> np.ndarray:
    data = path.read_bytes()
    head = 4 + 4 * dimensions
    shape = tuple(int(n) for n in np.frombuffer(data[4:head], dtype=">i4")) if len(data) >= head else ()
    if data[:4] != bytes((0, 0, 8, dimensions)) or min(shape, default=-1) < 0 or len(data) != head + np.prod(shape):
        raise InputError(f"{path} is not a whole idx file of bytes with {dimensions} dimensions. Unpack it again.")
    return np.frombuffer(data, dtype=np.uint8, offset=head).reshape(shape)


def _cifar_batch(path: Path, labels: str) -> tuple[np.ndarray, np.ndarray]:
    try:
        batch = _ArraysOnly(io.BytesIO(path.read_bytes()), encoding="latin1").load()
        image = np.asarray(batch["data"], dtype=np.uint8).reshape(-1, 3, 32, 32)
        label = np.asarray(batch[labels], dtype=np.int64)
    except Exception as error:  # a broken pickle raises nearly anything
        raise InputError(f"{path} is not a whole CIFAR batch ({error}). Unpack the archive again.") from error
    if len(image) != len(label):
        raise InputError(f"{path}: {len(image)} images but {len(label)} labels. Unpack the archive again.")
    return image, label


class _ArraysOnly(pickle.Unpickler):
    """An unpickler that knows the four names that a pickled array of numbers needs."""

    def find_class(self, module: str, name: str) -> Any:
        module = module.replace("numpy._core", "numpy.core")
        if (module, name) == ("numpy.core.multiarray", "_reconstruct"):
            return np.zeros(0).__reduce__()[0]
        if (module, name) == ("numpy", "ndarray"):
            return np.ndarray
        if (module, name) == ("numpy", "dtype"):
            return np.dtype
        if (module, name) == ("_codecs", "encode"):  # how Python 3 pickles bytes for Python 2
            return lambda text, encoding="latin1": str(text).encode("latin1")
        raise pickle.UnpicklingError(f"it asks for {module}.{name}, which no CIFAR batch holds")
