"""CIFAR-10 and CIFAR-100: the python batches, pickles that are read by an unpickler that can make arrays, lists and
strings and nothing else.
"""

import io
import pickle
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from cct_lightning.data.datasets.sources import TEST, TRAIN, Arrays, Source, class_names, register
from cct_lightning.errors import InputError


def cifar10(root: Path) -> Arrays:
    """Read the folder cifar-10-batches-py."""
    files = [(f"data_batch_{i}", TRAIN) for i in range(1, 6)] + [("test_batch", TEST)]
    return Arrays.joined([(*_cifar_batch(root / name, "labels"), number) for name, number in files])


def cifar100(root: Path) -> Arrays:
    """Read the folder cifar-100-python; labels are the 100 fine ones."""
    files = (("train", TRAIN), ("test", TEST))
    return Arrays.joined([(*_cifar_batch(root / name, "fine_labels"), number) for name, number in files])


def _cifar_batch(path: Path, labels: str) -> tuple[np.ndarray, np.ndarray]:
    try:
        batch = _ArraysOnly(io.BytesIO(path.read_bytes()), encoding="latin1").load()
        image = np.asarray(batch["data"], dtype=np.uint8).reshape(-1, 3, 32, 32)
        label = np.asarray(batch[labels], dtype=np.int64)
    except Exception as error:  # a broken pickle raises nearly anything
        raise InputError(f"{path} is not a complete CIFAR batch ({error}). Unpack the archive again.") from error
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


_CIFAR10 = register(
    Source(
        name="cifar10",
        title="CIFAR-10",
        origin="https://www.cs.toronto.edu/~kriz/cifar.html",
        license="no license stated; for research, cite Krizhevsky (2009)",
        read=cifar10,
        base="cifar-10-batches-py",
        files=(*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"),
        torchvision="CIFAR10",
        classes=("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"),
        in_chans=3,
        size=(32, 32),
        mean=(0.4914, 0.4822, 0.4465),
        std=(0.2470, 0.2435, 0.2616),
        splits={"train": 50000, "test": 10000},
    )
)
register(
    replace(
        _CIFAR10,
        name="cifar100",
        title="CIFAR-100",
        read=cifar100,
        base="cifar-100-python",
        files=("train", "test"),
        torchvision="CIFAR100",
        classes=class_names("cifar100"),
        mean=(0.5071, 0.4867, 0.4408),
        std=(0.2675, 0.2565, 0.2761),
    )
)
