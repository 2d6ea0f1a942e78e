"""Small data sets in their genuine formats, and a cache folder of the test's own."""

import pickle
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat
from sklearn.datasets import load_digits


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Keep every test away from the caches of the machine."""
    monkeypatch.setenv("CCT_DATA", str(tmp_path / "cct_data"))
    return tmp_path / "cct_data" / "decoded"


@pytest.fixture(scope="session")
def scans() -> tuple[np.ndarray, np.ndarray]:
    """Real images for the small sets: scikit-learn's digits as (N, 8, 8) uint8, and their labels."""
    data = load_digits()
    return np.round(data.images * (255 / 16)).astype(np.uint8), data.target.astype(np.uint8)


def enlarged(image: np.ndarray, side: int) -> np.ndarray:
    """Bring one grey image to side x side pixels."""
    return np.asarray(Image.fromarray(image).resize((side, side)))


@pytest.fixture
def mnist_root(tmp_path: Path, scans: tuple[np.ndarray, np.ndarray]) -> Path:
    """MNIST's four idx files, with 200 and 100 images."""
    raw = tmp_path / "mnist" / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for stem, rows in (("train", slice(0, 200)), ("t10k", slice(200, 300))):
        images = np.stack([enlarged(image, 28) for image in scans[0][rows]])
        labels = scans[1][rows]
        (raw / f"{stem}-images-idx3-ubyte").write_bytes(struct.pack(">iiii", 2051, *images.shape) + images.tobytes())
        (raw / f"{stem}-labels-idx1-ubyte").write_bytes(struct.pack(">ii", 2049, len(labels)) + labels.tobytes())
    return tmp_path / "mnist"


@pytest.fixture
def cifar_root(tmp_path: Path, scans: tuple[np.ndarray, np.ndarray]) -> Path:
    """CIFAR-10's and CIFAR-100's python batches, pickled with protocol 2 as the published ones, with 20 images each."""
    write_cifar(tmp_path / "cifar", scans)
    return tmp_path / "cifar"


def write_cifar(root: Path, scans: tuple[np.ndarray, np.ndarray]) -> None:
    for folder, names, key in (
        ("cifar-10-batches-py", [*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"], "labels"),
        ("cifar-100-python", ["train", "test"], "fine_labels"),
    ):
        (root / folder).mkdir(parents=True)
        for i, name in enumerate(names):
            rows = slice(20 * i, 20 * i + 20)
            grey = np.stack([enlarged(image, 32) for image in scans[0][rows]])
            data = np.stack([grey, 255 - grey, grey // 2], axis=1).reshape(len(grey), -1)
            batch = {"data": data, key: [int(label) for label in scans[1][rows]], "filenames": ["x.png"] * len(grey)}
            (root / folder / name).write_bytes(pickle.dumps(batch, protocol=2))


@pytest.fixture
def make_tree(tmp_path: Path, scans: tuple[np.ndarray, np.ndarray]) -> Callable[..., Path]:
    """Return a maker of image folders: make_tree(train=8, val=0, test=4, classes=..., side=8, color=False)."""

    def make(
        *, train: int = 8, val: int = 0, test: int = 4, classes: tuple[str, ...] = ("a", "b"), side: int = 8,
        color: bool = False, name: str = "tree",
    ) -> Path:  # fmt: skip
        root, at = tmp_path / name, 0
        for split, number in (("train", train), ("val", val), ("test", test)):
            for label in classes:
                for i in range(number):
                    (root / split / label).mkdir(parents=True, exist_ok=True)
                    picture = Image.fromarray(enlarged(scans[0][at], side))
                    (picture.convert("RGB") if color else picture).save(root / split / label / f"{i:03d}.png")
                    at += 1
        return root

    return make


@pytest.fixture
def svhn_root(tmp_path: Path, scans: tuple[np.ndarray, np.ndarray]) -> Path:
    """SVHN's two MATLAB files, with 30 and 20 images; the digit 0 has label 10."""
    root = tmp_path / "svhn"
    root.mkdir()
    for name, rows in (("train", slice(0, 30)), ("test", slice(30, 50))):
        grey = np.stack([enlarged(image, 32) for image in scans[0][rows]])
        image = np.stack([grey, 255 - grey, grey // 2], axis=-1).transpose(1, 2, 3, 0)  # (H, W, C, N)
        label = np.where(scans[1][rows] == 0, 10, scans[1][rows])[:, None]
        savemat(root / f"{name}_32x32.mat", {"X": image, "y": label})
    return root


@pytest.fixture
def flowers_root(tmp_path: Path, scans: tuple[np.ndarray, np.ndarray]) -> Path:
    """The folder flowers-102 with 204 training, 102 validation and 102 test images of different sizes."""
    root = tmp_path / "flowers"
    (root / "flowers-102" / "jpg").mkdir(parents=True)
    ids = np.random.RandomState(0).permutation(408) + 1
    label = np.empty(408, dtype=np.int64)
    label[ids - 1] = np.arange(408) % 102 + 1
    for i in range(1, 409):
        scan = Image.fromarray(scans[0][i]).convert("RGB").resize((20 + i % 3, 24))
        scan.save(root / "flowers-102" / "jpg" / f"image_{i:05d}.jpg")
    savemat(root / "flowers-102" / "imagelabels.mat", {"labels": label[None]})
    sets = {"trnid": ids[None, :204], "valid": ids[None, 204:306], "tstid": ids[None, 306:]}
    savemat(root / "flowers-102" / "setid.mat", sets)
    return root
