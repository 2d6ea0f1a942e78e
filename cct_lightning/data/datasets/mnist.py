"""MNIST and Fashion-MNIST: four idx files each (big-endian header, then bytes)."""

from dataclasses import replace
from pathlib import Path

import numpy as np

from cct_lightning.data.datasets.sources import TEST, TRAIN, Arrays, Source, register
from cct_lightning.errors import InputError


def idx(root: Path) -> Arrays:
    """Read the four files of MNIST or Fashion-MNIST in this folder."""
    parts = []
    for stem, number in (("train", TRAIN), ("t10k", TEST)):
        image = _idx_file(root / f"{stem}-images-idx3-ubyte", dimensions=3)
        label = _idx_file(root / f"{stem}-labels-idx1-ubyte", dimensions=1)
        if len(image) != len(label):
            raise InputError(f"{root}: {len(image)} images but {len(label)} labels in {stem}. Unpack the files again.")
        parts.append((image[:, None], label.astype(np.int64), number))
    return Arrays.joined(parts)


def _idx_file(path: Path, *, dimensions: int) -> np.ndarray:
    data = path.read_bytes()
    head = 4 + 4 * dimensions
    shape = tuple(int(n) for n in np.frombuffer(data[4:head], dtype=">i4")) if len(data) >= head else ()
    if data[:4] != bytes((0, 0, 8, dimensions)) or min(shape, default=-1) < 0 or len(data) != head + np.prod(shape):
        raise InputError(f"{path} is not a complete idx file of bytes with {dimensions} dimensions. Unpack it again.")
    return np.frombuffer(data, dtype=np.uint8, offset=head).reshape(shape)


_MNIST = register(
    Source(
        name="mnist",
        title="MNIST",
        origin="http://yann.lecun.com/exdb/mnist",
        license="CC BY-SA 3.0",
        read=idx,
        base="MNIST/raw",
        files=tuple(f"{stem}-{kind}-ubyte" for stem in ("train", "t10k") for kind in ("images-idx3", "labels-idx1")),
        torchvision="MNIST",
        classes=tuple("0123456789"),
        in_chans=1,
        size=(28, 28),
        mean=(0.1307,),
        std=(0.3081,),
        splits={"train": 60000, "test": 10000},
        augment="digits",
    )
)
_CLOTHES = "T-shirt/top, Trouser, Pullover, Dress, Coat, Sandal, Shirt, Sneaker, Bag, Ankle boot"
register(
    replace(
        _MNIST,
        name="fashion_mnist",
        title="Fashion-MNIST",
        origin="https://github.com/zalandoresearch/fashion-mnist",
        license="MIT",
        base="FashionMNIST/raw",
        torchvision="FashionMNIST",
        classes=tuple(_CLOTHES.split(", ")),
        mean=(0.2860,),
        std=(0.3530,),
        augment="light",
    )
)
