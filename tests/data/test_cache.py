"""The cache of decoded images: what it trusts, how it is written, and who may share it."""

import contextlib
import io
import json
import multiprocessing
import os
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from multiprocessing.synchronize import Event
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import safe_open

from cct_lightning.data import ImageDataModule
from cct_lightning.data.storage import cache
from cct_lightning.data.storage.cache import Content, load, load_or_build
from cct_lightning.data.storage.paths import default_root
from cct_lightning.errors import InputError
from cct_lightning.system import places

KEY = {"version": cache.VERSION, "source": "test", "size": (8, 8), "content": "abc"}


def content(number: int = 100) -> Content:
    rng = np.random.RandomState(0)
    image = rng.randint(0, 256, (number, 3, 8, 8)).astype(np.uint8)
    split = np.array([0, 2] * (number // 2), dtype=np.uint8)
    return Content(chunks=[image[:30], image[30:]], shape=image.shape, label=np.arange(number) % 7, split=split)


def never() -> Content:
    raise AssertionError("built again")


def test_what_is_written_is_what_is_read(tmp_path: Path) -> None:
    given = content()
    pool = load_or_build(tmp_path / "a.safetensors", KEY, lambda: given)
    image = np.concatenate(list(given.chunks))
    assert torch.equal(pool.image, torch.from_numpy(image))
    assert pool.label.tolist() == given.label.tolist()
    assert pool.split.tolist() == given.split.tolist()
    training = image[given.split == 0] / 255
    assert pool.mean == pytest.approx(training.mean((0, 2, 3)), abs=1e-6)
    assert pool.std == pytest.approx(training.std((0, 2, 3)), abs=1e-6)
    assert load_or_build(tmp_path / "a.safetensors", KEY, never).mean == pool.mean
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.lock", "a.safetensors"]


def test_it_is_a_safetensors_file_mapped_and_never_written_through(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    pool = load_or_build(path, KEY, content)
    assert str(path) in Path("/proc/self/maps").read_text()
    before = path.read_bytes()
    pool.image.fill_(7)
    assert path.read_bytes() == before
    with safe_open(path, framework="np") as file:
        assert set(file.keys()) == {"image", "label", "split"}


@pytest.mark.parametrize("change", [{"version": cache.VERSION + 1}, {"content": "abd"}, {"size": (9, 9)}])
def test_another_version_or_content_is_built_again(change: dict, tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    load_or_build(path, {**KEY, **change}, lambda: content(40))
    assert load(path, KEY) is None
    assert len(load_or_build(path, KEY, content).image) == 100


def cut(data: bytes) -> bytes:
    return data[:-1]


def half(data: bytes) -> bytes:
    return data[: len(data) // 2]


def empty(data: bytes) -> bytes:
    return b""


def garbled_header(data: bytes) -> bytes:
    return data[:20] + b"\xff" * 20 + data[40:]


def longer(data: bytes) -> bytes:
    return data + b"\0" * 8


def no_metadata(data: bytes) -> bytes:
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])
    del header["__metadata__"]
    text = json.dumps(header).encode().ljust(length)
    return data[:8] + text + data[8 + length :]


@pytest.mark.parametrize("damage", [cut, half, empty, garbled_header, longer, no_metadata])
def test_a_damaged_cache_is_built_again(damage: Callable[[bytes], bytes], tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    load_or_build(path, KEY, content)
    path.write_bytes(damage(path.read_bytes()))
    assert load(path, KEY) is None
    assert torch.equal(load_or_build(path, KEY, content).image, torch.from_numpy(np.concatenate(content().chunks)))


def test_a_build_that_fails_leaves_nothing(tmp_path: Path) -> None:
    def failing() -> Content:
        def chunks() -> Iterator[np.ndarray]:
            yield np.zeros((30, 3, 8, 8), np.uint8)
            raise InputError("image 31 is broken")

        given = content()
        return Content(chunks=chunks(), shape=given.shape, label=given.label, split=given.split)

    with pytest.raises(InputError, match="image 31 is broken"):
        load_or_build(tmp_path / "a.safetensors", KEY, failing)
    assert [path.name for path in tmp_path.iterdir()] == ["a.lock"]


def test_leftovers_of_a_killed_build_are_removed(tmp_path: Path) -> None:
    (tmp_path / ".a.12345.part.safetensors").write_bytes(b"half")
    load_or_build(tmp_path / "a.safetensors", KEY, content)
    assert not (tmp_path / ".a.12345.part.safetensors").exists()


FORK = multiprocessing.get_context("fork")


class Told(io.StringIO):
    """What a process is told, and an event once it is told to wait."""

    def __init__(self, waits: Event) -> None:
        super().__init__()
        self.waits = waits

    def write(self, text: str) -> int:
        if "Waiting" in text:
            self.waits.set()
        return super().write(text)


def build_slowly(folder: Path, start: Event, waits: Event, results: Any) -> None:
    """Run in a process of its own: build once another one waits, and note that it was built."""

    def slow() -> Content:
        with open(folder / "built", "a") as file:
            file.write("x")
        given = content()

        def chunks() -> Iterator[np.ndarray]:
            for chunk in given.chunks:
                waits.wait()
                yield chunk

        return Content(chunks=chunks(), shape=given.shape, label=given.label, split=given.split)

    start.wait()
    told = Told(waits)
    with contextlib.redirect_stderr(told):
        pool = load_or_build(folder / "a.safetensors", KEY, slow)
    results.put((int(pool.image.numpy().sum()), told.getvalue()))


def test_of_two_processes_one_builds_and_the_other_waits(tmp_path: Path) -> None:
    start, waits, results = FORK.Event(), FORK.Event(), FORK.Queue()
    processes = [FORK.Process(target=build_slowly, args=(tmp_path, start, waits, results)) for _ in range(2)]
    for process in processes:
        process.start()
    start.set()
    told = [results.get(timeout=600) for _ in processes]
    for process in processes:
        process.join()
    expected = int(np.concatenate(list(content().chunks)).sum())
    assert [total for total, _ in told] == [expected, expected]
    assert (tmp_path / "built").read_text() == "x"
    assert sum("Waiting for another process that prepares a ..." in err for _, err in told) == 1


def test_a_killed_builder_does_not_block_the_next(tmp_path: Path) -> None:
    start, results = FORK.Event(), FORK.Queue()
    process = FORK.Process(target=build_slowly, args=(tmp_path, start, FORK.Event(), results))
    process.start()
    start.set()
    while not list(tmp_path.glob(".a.*.part.safetensors")):
        time.sleep(0.01)
    process.kill()
    process.join()
    assert len(load_or_build(tmp_path / "a.safetensors", KEY, content).image) == 100
    assert not list(tmp_path.glob(".a.*.part.safetensors"))


def fill_up(folder: Path, results: Any) -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))
    try:
        ImageDataModule(cache_dir=str(folder)).prepare()
    except InputError as error:
        results.put(str(error))


def test_a_full_disk_is_one_sentence_and_leaves_nothing(tmp_path: Path) -> None:
    """A limit on the size of files stands for the full disk: an error of the same system call."""
    results = FORK.Queue()
    process = FORK.Process(target=fill_up, args=(tmp_path, results))
    process.start()
    message = results.get(timeout=600)
    process.join()
    assert message.startswith(f"Cannot write the cache of decoded images {tmp_path}/digits-")
    assert message.endswith(": File too large. Free some space there, or choose another folder with cache_dir.")
    assert [path.suffix for path in tmp_path.iterdir()] == [".lock"]


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting needs root")
def test_a_disk_that_is_really_full(tmp_path: Path) -> None:
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", tmp_path], capture_output=True)
    if mounted.returncode:
        pytest.skip("mounting is not allowed here")
    try:
        with pytest.raises(InputError, match="No space left on device"):
            ImageDataModule(cache_dir=str(tmp_path)).prepare()
        assert [path.suffix for path in tmp_path.iterdir()] == [".lock"]
    finally:
        subprocess.run(["umount", tmp_path], check=True)


def test_the_second_start_decodes_nothing_and_a_touched_file_does(make_tree, monkeypatch: pytest.MonkeyPatch) -> None:
    root = make_tree()
    first = ImageDataModule(name="folder", root=str(root)).stored
    decoded: list[int] = []
    monkeypatch.setattr(
        "cct_lightning.data.storage.store._decoded", lambda *a: decoded.append(1) or pytest.fail("decoded")
    )
    assert torch.equal(ImageDataModule(name="folder", root=str(root)).stored.image, first.image)
    os.utime(root / "train" / "a" / "000.png", (1, 1))
    with pytest.raises(pytest.fail.Exception):
        _ = ImageDataModule(name="folder", root=str(root)).stored
    monkeypatch.undo()


def test_changed_content_replaces_the_cache(make_tree, own_cache: Path) -> None:
    root = make_tree()
    _ = ImageDataModule(name="folder", root=str(root)).stored
    shutil.copy(root / "train" / "a" / "000.png", root / "train" / "a" / "new.png")
    assert len(ImageDataModule(name="folder", root=str(root)).stored.label) == 25
    assert len(list(own_cache.glob("folder-*.safetensors"))) == 1


def test_the_default_root(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("CCT_DATA", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", "/home/x")
    assert default_root() == Path("/home/x/.cache/cct_lightning")
    monkeypatch.setenv("XDG_CACHE_HOME", "/x/cache")
    assert default_root() == Path("/x/cache/cct_lightning")
    monkeypatch.setenv("CCT_DATA", "/data/sets")
    assert default_root() == Path("/data/sets")


def test_without_a_home_the_temporary_folder_serves() -> None:
    """Run as a user that the password file does not know, as in many containers."""
    file = Path(places.__file__)
    leave = "os.setuid(54321); " if os.geteuid() == 0 else ""
    program = (
        f"import os, pathlib, tempfile, cct_lightning.errors; source = open({str(file)!r}).read(); "
        f"{leave}exec(source); print(cache_root())"
    )
    environment = {"PATH": os.environ["PATH"]}
    ran = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True)
    if leave:
        assert ran.stdout.strip().endswith("/cct_lightning-54321")
        Path(ran.stdout.strip()).rmdir()
    else:
        assert ran.stdout.strip()  # the password file knows a home


def test_a_read_only_default_folder_falls_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("")  # no folder can be made below a file, root or not
    monkeypatch.setenv("CCT_DATA", str(blocked))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    ImageDataModule().prepare()
    assert list(tmp_path.glob("cct_lightning-*/decoded/digits-*.safetensors"))
