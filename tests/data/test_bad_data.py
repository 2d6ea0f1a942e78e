"""Data sets that are missing, half there, broken or unreachable: each is one sentence, nothing half-written stays."""

import gzip
import hashlib
import http.server
import io
import pickle
import shutil
import socket
import tarfile
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torchvision.datasets as theirs

from cct_lightning.data import ImageDataModule
from cct_lightning.errors import InputError


def problem(name: str, root: Path | str | None, *, download: bool = False) -> str:
    """Return the one sentence that a data set's trouble is told in."""
    with pytest.raises(InputError) as caught:
        ImageDataModule(name=name, root=None if root is None else str(root), download=download, batch_size=8).prepare()
    message = str(caught.value)
    assert "\n" not in message
    return message


# Files that are not there --------------------------------------------------------------------------------------------


def test_a_missing_or_empty_root(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for place in ("nowhere", "empty"):
        raw = tmp_path / place / "MNIST" / "raw"
        assert problem("mnist", tmp_path / place) == (
            f"{raw} does not exist: put train-images-idx3-ubyte, train-labels-idx1-ubyte, t10k-images-idx3-ubyte, "
            f"t10k-labels-idx1-ubyte of MNIST into {raw}, or allow the download."
        )


def test_a_root_that_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    assert problem("cifar10", tmp_path / "file").endswith("file is a file. Give data.root a folder.")


def test_half_unpacked_sets_name_what_they_lack(mnist_root: Path, cifar_root: Path) -> None:
    (mnist_root / "MNIST" / "raw" / "t10k-labels-idx1-ubyte").unlink()
    assert "raw lacks t10k-labels-idx1-ubyte: put " in problem("mnist", mnist_root)
    (cifar_root / "cifar-10-batches-py" / "data_batch_4").unlink()
    (cifar_root / "cifar-10-batches-py" / "test_batch").unlink()
    assert "cifar-10-batches-py lacks data_batch_4, test_batch: put " in problem("cifar10", cifar_root)


def test_a_photograph_that_is_missing(flowers_root: Path) -> None:
    (flowers_root / "flowers-102" / "jpg" / "image_00077.jpg").unlink()
    assert "image_00077.jpg (No such file or directory). Restore the file." in problem("flowers102", flowers_root)


# Files that are broken -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["train-images-idx3-ubyte", "t10k-labels-idx1-ubyte"])
def test_a_truncated_idx_file(name: str, mnist_root: Path, own_cache: Path) -> None:
    path = mnist_root / "MNIST" / "raw" / name
    for length in (path.stat().st_size - 1, 10, 0):
        path.write_bytes(path.read_bytes()[:length])
        assert f"{name} is not a complete idx file of bytes" in problem("mnist", mnist_root)
    assert not list(own_cache.glob("*.safetensors"))


def test_images_and_labels_that_differ_in_number(mnist_root: Path) -> None:
    raw = mnist_root / "MNIST" / "raw"
    shutil.copy(raw / "t10k-labels-idx1-ubyte", raw / "train-labels-idx1-ubyte")
    assert "200 images but 100 labels in train." in problem("mnist", mnist_root)


def test_a_truncated_cifar_batch(cifar_root: Path) -> None:
    path = cifar_root / "cifar-10-batches-py" / "data_batch_2"
    path.write_bytes(path.read_bytes()[:-200])
    assert "data_batch_2 is not a complete CIFAR batch (" in problem("cifar10", cifar_root)


def test_truncated_matlab_files(svhn_root: Path, flowers_root: Path) -> None:
    for name, path in (
        ("svhn", svhn_root / "test_32x32.mat"),
        ("flowers102", flowers_root / "flowers-102" / "imagelabels.mat"),
    ):
        path.write_bytes(path.read_bytes()[:150])
        assert f"{path} is not a complete MATLAB file (" in problem(name, path.parents[name == "flowers102"])


def test_labels_out_of_range(mnist_root: Path, cifar_root: Path) -> None:
    labels = mnist_root / "MNIST" / "raw" / "train-labels-idx1-ubyte"
    labels.write_bytes(labels.read_bytes()[:-1] + b"\x0b")
    assert problem("mnist", mnist_root) == "MNIST: label 11 is out of range for 10 classes (0..9)."
    path = cifar_root / "cifar-10-batches-py" / "test_batch"
    batch = pickle.loads(path.read_bytes())
    batch["labels"][3] = -1
    path.write_bytes(pickle.dumps(batch, protocol=2))
    assert problem("cifar10", cifar_root) == "CIFAR-10: label -1 is out of range for 10 classes (0..9)."


def test_a_set_of_another_size_in_the_place_of_mnist(mnist_root: Path) -> None:
    path = mnist_root / "MNIST" / "raw" / "train-images-idx3-ubyte"
    test = mnist_root / "MNIST" / "raw" / "t10k-images-idx3-ubyte"
    for file, number in ((path, 200), (test, 100)):
        file.write_bytes(b"\0\0\x08\x03" + np.array([number, 8, 8], dtype=">i4").tobytes() + bytes(number * 64))
    assert "MNIST: the images are (1, 8, 8) where (1, 28, 28) was expected" in problem("mnist", mnist_root)


# Downloads: torchvision's own code against a server of this machine --------------------------------------------------


class Server(http.server.BaseHTTPRequestHandler):
    """Serves `files`; of a name in `halved` only the first half arrives."""

    files: dict[str, bytes]
    halved: set[str]
    asked: list[str]

    def do_HEAD(self) -> None:
        self.answer(body=False)

    def do_GET(self) -> None:
        self.asked.append(self.path.strip("/"))
        self.answer(body=True)

    def answer(self, *, body: bool) -> None:
        name = self.path.strip("/")
        if name not in self.files:
            self.send_error(404)
            return
        content = self.files[name]
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if body:
            self.wfile.write(content[: len(content) // 2] if name in self.halved else content)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[tuple[type[Server], str]]:
    handler = type("Handler", (Server,), {"files": {}, "halved": set(), "asked": []})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield handler, f"http://127.0.0.1:{running.server_address[1]}/"
        running.shutdown()


def md5(content: bytes) -> str:
    return hashlib.md5(content).hexdigest()


@pytest.fixture
def served_mnist(server: tuple[type[Server], str], mnist_root: Path, monkeypatch: pytest.MonkeyPatch) -> type[Server]:
    """torchvision's MNIST pointed at small archives on the local server."""
    handler, address = server
    raw = mnist_root / "MNIST" / "raw"
    handler.files = {f"{path.name}.gz": gzip.compress(path.read_bytes()) for path in raw.iterdir()}
    monkeypatch.setattr(theirs.MNIST, "mirrors", [address])
    monkeypatch.setattr(theirs.MNIST, "resources", [(name, md5(data)) for name, data in sorted(handler.files.items())])
    return handler


def test_what_is_missing_is_downloaded(served_mnist: type[Server], tmp_path: Path) -> None:
    data = ImageDataModule(name="mnist", root=str(tmp_path / "new"), batch_size=8)
    data.prepare()
    assert len(data.stored.label) == 300
    assert set(served_mnist.asked) == set(served_mnist.files)
    served_mnist.asked.clear()
    ImageDataModule(name="mnist", root=str(tmp_path / "new"), batch_size=8).prepare()
    assert not served_mnist.asked


def test_a_download_that_stops_halfway_is_told_and_fetched_again(served_mnist: type[Server], tmp_path: Path) -> None:
    root = tmp_path / "new"
    served_mnist.halved.add("train-images-idx3-ubyte.gz")
    message = problem("mnist", root, download=True)
    assert message.startswith("Cannot download MNIST (")
    assert "connect this machine to the network, or put train-images-idx3-ubyte," in message
    partial = root / "MNIST" / "raw" / "train-images-idx3-ubyte.gz"
    assert 0 < partial.stat().st_size < len(served_mnist.files[partial.name])
    served_mnist.halved.clear()
    ImageDataModule(name="mnist", root=str(root), batch_size=8).prepare()
    assert partial.read_bytes() == served_mnist.files[partial.name]


def test_a_server_that_has_nothing(served_mnist: type[Server], tmp_path: Path) -> None:
    served_mnist.files.clear()
    message = problem("mnist", tmp_path / "new", download=True)
    assert message.startswith("Cannot download MNIST (HTTP Error 404: Not Found), and ")
    assert not (tmp_path / "new").exists()


def test_offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody listens where the data should be, as on a compute node without a network."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{unused.getsockname()[1]}/"
    monkeypatch.setattr(theirs.CIFAR10, "url", address + "cifar-10-python.tar.gz")
    message = problem("cifar10", tmp_path / "new", download=True)
    assert message.startswith("Cannot download CIFAR-10 (urlopen error [Errno 111] Connection refused), and ")
    assert not (tmp_path / "new").exists()


@pytest.fixture
def served_cifar(server: tuple[type[Server], str], cifar_root: Path, monkeypatch: pytest.MonkeyPatch) -> type[Server]:
    """torchvision's CIFAR10 pointed at a small archive, with the md5 sums of its files."""
    handler, address = server
    folder = cifar_root / "cifar-10-batches-py"
    (folder / "batches.meta").write_bytes(pickle.dumps({"label_names": list("abcdefghij")}, protocol=2))
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as archive:
        archive.add(folder, folder.name)
    handler.files = {"cifar-10-python.tar.gz": packed.getvalue()}
    monkeypatch.setattr(theirs.CIFAR10, "url", address + "cifar-10-python.tar.gz")
    monkeypatch.setattr(theirs.CIFAR10, "tgz_md5", md5(packed.getvalue()))
    for which in ("train_list", "test_list"):
        sums = [[name, md5((folder / name).read_bytes())] for name, _ in getattr(theirs.CIFAR10, which)]
        monkeypatch.setattr(theirs.CIFAR10, which, sums)
    meta = {**theirs.CIFAR10.meta, "md5": md5((folder / "batches.meta").read_bytes())}
    monkeypatch.setattr(theirs.CIFAR10, "meta", meta)
    return handler


def test_an_archive_is_downloaded_unpacked_and_repaired(served_cifar: type[Server], tmp_path: Path) -> None:
    root = tmp_path / "new"
    data = ImageDataModule(name="cifar10", root=str(root), batch_size=8)
    data.prepare()
    assert len(data.stored.label) == 120
    assert set(served_cifar.asked) == {"cifar-10-python.tar.gz"}
    served_cifar.asked.clear()
    # Killed while unpacking: the last file is short, the archive is whole.
    batch = root / "cifar-10-batches-py" / "test_batch"
    whole = batch.read_bytes()
    batch.write_bytes(whole[:100])
    again = ImageDataModule(name="cifar10", root=str(root), batch_size=8)
    again.prepare()
    assert batch.read_bytes() == whole
    assert (again.stored.image == data.stored.image).all()
    assert not served_cifar.asked


@pytest.mark.parametrize("member", ["../escaped", "/{outside}/escaped", "symlink", "hard link"])
def test_nothing_in_an_archive_leaves_its_folder(
    member: str, served_cifar: type[Server], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as archive:
        if "link" in member:
            link = tarfile.TarInfo("way")
            link.type = tarfile.SYMTYPE if member == "symlink" else tarfile.LNKTYPE
            link.linkname = str(outside) if member == "symlink" else "../outside/precious"
            archive.addfile(link)
        name = {"symlink": "way/escaped", "hard link": "way"}.get(member, member.format(outside=outside))
        written = tarfile.TarInfo(name)
        written.size = 4
        archive.addfile(written, io.BytesIO(b"evil"))
    (outside / "precious").write_text("mine")
    hostile = packed.getvalue()
    served_cifar.files["cifar-10-python.tar.gz"] = hostile
    # Another archive than the published one is not unpacked at all.
    assert problem("cifar10", tmp_path / "new", download=True).startswith("Cannot download CIFAR-10 (File not found or")
    monkeypatch.setattr(theirs.CIFAR10, "tgz_md5", md5(hostile))
    assert problem("cifar10", tmp_path / "new", download=True).startswith("Cannot download CIFAR-10 (")
    assert [path.name for path in outside.iterdir()] == ["precious"]
    assert (outside / "precious").read_text() == "mine"
    assert not (tmp_path / "escaped").exists()
