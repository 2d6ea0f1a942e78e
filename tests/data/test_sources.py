"""The table of data sets, the readers of their formats, and the downloads."""

import io
import os
import pickle
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from torchvision.datasets import MNIST, SVHN, FashionMNIST, Flowers102

from cct_lightning.data import SOURCES, ImageDataModule
from cct_lightning.data.datasets.cifar import cifar10
from cct_lightning.data.datasets.digits import digits
from cct_lightning.data.datasets.flowers import flowers102
from cct_lightning.data.datasets.mnist import idx
from cct_lightning.data.datasets.svhn import svhn
from cct_lightning.errors import InputError


def test_every_entry_is_complete() -> None:
    for name, source in SOURCES.items():
        assert source.name == name
        assert source.title
        assert source.license
        assert source.origin
        if source.classes:
            assert len(set(source.classes)) == len(source.classes)
            assert len(source.mean) == len(source.std) == source.in_chans
        assert len(SOURCES["cifar100"].classes) == 100
        assert list(SOURCES["cifar100"].classes) == sorted(SOURCES["cifar100"].classes)


def test_digits_are_scikit_learns_and_the_test_split_never_moves() -> None:
    data, raw = digits(Path()), load_digits()
    assert data.image.shape == (1797, 1, 8, 8)
    assert np.abs(data.image[:, 0] / 255 * 16 - raw.images).max() < 0.04  # the rounding to 8 bits
    assert (data.label == raw.target).all()
    test = np.flatnonzero(data.split == 2)
    assert len(test) == 359
    assert np.abs(np.bincount(data.label[test]) / np.bincount(data.label) - 359 / 1797).max() < 0.01
    assert test[:6].tolist() == [2, 6, 14, 17, 21, 28]
    # Other seeds and fractions change training and validation only.
    for seed, fraction in ((1, 0.1), (2, 0.3)):
        data_module = ImageDataModule(seed=seed, split_seed=seed, val_fraction=fraction)
        assert data_module.index["test"].tolist() == test.tolist()


def test_statistics_of_digits_are_measured() -> None:
    pool = ImageDataModule(name="digits").stored
    train = pool.image[pool.split == 0].double() / 255
    assert SOURCES["digits"].mean == pytest.approx([train.mean().item()], abs=1e-4)
    assert SOURCES["digits"].std == pytest.approx([train.std().item()], abs=1e-4)


def test_idx_files_agree_with_torchvision(mnist_root: Path) -> None:
    data = idx(mnist_root / "MNIST" / "raw")
    for split, train in ((0, True), (2, False)):
        theirs = MNIST(mnist_root, train=train)
        assert torch.equal(torch.from_numpy(data.image[data.split == split][:, 0]), theirs.data)
        assert (data.label[data.split == split] == theirs.targets.numpy()).all()


def test_cifar_batches_agree_with_plain_pickle(cifar_root: Path) -> None:
    data = cifar10(cifar_root / "cifar-10-batches-py")
    at = 0
    for name in [*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"]:
        batch = pickle.loads((cifar_root / "cifar-10-batches-py" / name).read_bytes())
        rows = slice(at, at + len(batch["labels"]))
        assert (data.image[rows].reshape(-1, 3072) == batch["data"]).all()
        assert data.label[rows].tolist() == batch["labels"]
        assert set(data.split[rows]) == {2 if name == "test_batch" else 0}
        at = rows.stop


def test_cifar_batches_of_python_2_are_read(tmp_path: Path) -> None:
    """The published archive was pickled by Python 2: text is bytes, and numpy's names are the old ones."""
    pixels = bytes(range(256)) * 24  # two images
    out = io.BytesIO()
    out.write(b"\x80\x02}q\x00(U\x04datacnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R")
    out.write(b"(K\x01K\x02M\x00\x0c\x86cnumpy\ndtype\nU\x02u1K\x00K\x01\x87R")
    out.write(b"(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89")
    out.write(b"T" + struct.pack("<i", len(pixels)) + pixels + b"tbU\x06labels](K\x03K\x07eu.")
    for name in [*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"]:
        (tmp_path / name).write_bytes(out.getvalue())
    data = cifar10(tmp_path)
    assert data.image.shape == (12, 3, 32, 32)
    assert data.image[0].ravel()[:300].tolist() == list(pixels[:300])
    assert data.label.tolist() == [3, 7] * 6


def test_fashion_mnist_has_mnists_format_in_its_own_folder(mnist_root: Path) -> None:
    (mnist_root / "MNIST").rename(mnist_root / "FashionMNIST")
    data = ImageDataModule(name="fashion_mnist", root=str(mnist_root), batch_size=8)
    data.prepare()
    assert len(data.stored.label) == 300
    assert data.classes == FashionMNIST.classes


def test_svhn_agrees_with_torchvision(svhn_root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(SVHN, "_check_integrity", lambda self: True)  # small files have other md5 sums
    data = svhn(svhn_root)
    for split, name in ((0, "train"), (2, "test")):
        theirs = SVHN(svhn_root, split=name)
        assert (data.image[data.split == split] == theirs.data).all()
        assert data.label[data.split == split].tolist() == theirs.labels.tolist()
    assert 0 in data.label
    assert 10 not in data.label


def test_flowers_agree_with_torchvision(flowers_root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Flowers102, "_check_integrity", lambda self: True)
    files = flowers102(flowers_root / "flowers-102")
    for split, name in ((0, "train"), (1, "val"), (2, "test")):
        theirs = Flowers102(flowers_root, split=name)
        ours = [files.root / path for path in np.array(files.path)[files.split == split]]
        assert ours == theirs._image_files
        assert files.label[files.split == split].tolist() == theirs._labels
    assert list(files.classes) == Flowers102.classes


def test_flowers_train_on_train_or_trainval(flowers_root: Path) -> None:
    def sizes(**options: object) -> dict[str, int]:
        data = ImageDataModule(
            name="flowers102",
            root=str(flowers_root),
            img_size=14,
            batch_size=8,
            **options,  # type: ignore[arg-type]
        )
        data.prepare()
        assert data.stored.size == (16, 16)  # 8/7 of what the model sees
        return {name: len(index) for name, index in data.index.items()}

    assert sizes() == {"train": 204, "val": 102, "test": 102}
    assert sizes(train_split="trainval") == {"train": 275, "val": 31, "test": 102}
    assert sizes(train_split="trainval", val_fraction=0.0) == {"train": 306, "val": 0, "test": 102}


class Evil:
    def __reduce__(self) -> tuple:
        return (os.system, ("touch never",))


def test_cifar_batches_cannot_run_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in [*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"]:
        (tmp_path / name).write_bytes(pickle.dumps({"data": Evil(), "labels": []}, protocol=2))
    with pytest.raises(InputError, match=r"data_batch_1 is not a complete CIFAR batch .it asks for posix.system"):
        cifar10(tmp_path)
    assert not Path("never").exists()


def test_an_unknown_name_names_the_nearest() -> None:
    with pytest.raises(InputError, match=r"no data set 'cifar-10'\. Did you mean 'cifar10'\?"):
        ImageDataModule(name="cifar-10")


def test_mnist_real(shared_data: Path, tmp_path: Path) -> None:
    subprocess.run([sys.executable, shared_data / "unpack.py", "mnist", tmp_path], check=True)
    data = ImageDataModule(name="mnist", root=str(tmp_path))
    data.prepare()
    assert {name: len(index) for name, index in data.index.items()} == {"train": 54000, "val": 6000, "test": 10000}
    pool = data.stored
    assert SOURCES["mnist"].mean == pytest.approx(pool.mean, abs=1e-4)
    assert SOURCES["mnist"].std == pytest.approx(pool.std, abs=1e-4)


MY_LAB = """
from functools import partial
from pathlib import Path
import numpy as np
from cct_lightning.data import Arrays, Source, register

def read(root: Path, *, count: int) -> Arrays:
    label = np.arange(count, dtype=np.int64) % 3
    image = np.broadcast_to((40 * label)[:, None, None, None].astype(np.uint8), (count, 1, 4, 6))
    return Arrays(image=image, label=label, split=(np.arange(count) % 4 == 0).astype(np.uint8) * 2)

BIRDS = Source(
    name="birds", title="birds", origin="here", license="mine", read=partial(read, count=96), classes=("a", "b", "c"),
    in_chans=1, size=(4, 6), augment="none",
)
register(BIRDS)
"""


def test_a_data_set_from_outside_is_one_entry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "my_lab.py").write_text(MY_LAB)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr("cct_lightning.data.datasets.sources.SOURCES", dict(SOURCES))
    for name in ("my_lab.BIRDS", "birds"):  # by its import path; registered, by its name
        data = ImageDataModule(name=name, batch_size=8)
        data.prepare()
        assert {split: len(index) for split, index in data.index.items()} == {"train": 65, "val": 7, "test": 24}
        assert data.classes == ["a", "b", "c"]
        assert data.input_spec.img_size == (4, 6)
    with pytest.raises(InputError, match=r"'my_lab\.read' is not a cct_lightning\.data\.Source"):
        ImageDataModule(name="my_lab.read")
    with pytest.raises(InputError, match="Cannot import the data set"):
        ImageDataModule(name="my_lab.FISH")
