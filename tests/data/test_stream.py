"""Streamed sets: what training cuts out of files, and how often the tree is listed."""

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from cct_lightning.data import ImageDataModule
from cct_lightning.data.augment.policies import AugmentPolicy
from cct_lightning.data.storage.listing import SETTLED_NS

MakeTree = Callable[..., Path]
CROP = AugmentPolicy(resized_crop_scale=(0.08, 1.0), resized_crop_interpolation="random", hflip=0.5)


def module(root: Path, *, stream: bool = True, **options: object) -> ImageDataModule:
    chosen = {"img_size": 8, "mean": [0.5] * 3, "std": [0.5] * 3, "augment": CROP, "num_workers": 0, **options}
    return ImageDataModule(name="folder", root=str(root), batch_size=4, stream=stream, **chosen)  # type: ignore[arg-type]


def test_crops_of_files_are_those_of_batches(make_tree: MakeTree) -> None:
    """Where a cache holds whole images, both cut the same boxes; Pillow's resize differs in the rounding."""
    root = make_tree(train=12, side=20, color=True)
    every = torch.arange(24)
    stream, cached = module(root), module(root, stream=False, stored_size=20)
    for epoch in (0, 3):
        ours, theirs = (data.preview(every, epoch).int() for data in (stream, cached))
        assert (ours - theirs).abs().max() <= 2
    assert not torch.equal(stream.preview(every, 0), stream.preview(every, 1))
    assert torch.equal(stream.preview(5, 1)[0], stream.preview(every, 1)[5])


def test_training_sees_the_whole_image_and_evaluation_its_center(tmp_path: Path) -> None:
    for split, label in (("train", "a"), ("train", "b"), ("test", "a"), ("test", "b")):
        (tmp_path / split / label).mkdir(parents=True)
        for i in range(4):
            pixels = np.zeros((10, 60, 3), np.uint8)
            pixels[:, :20] = 255  # left of the center crop
            Image.fromarray(pixels).save(tmp_path / split / label / f"{i}.png")
    data = module(tmp_path, stored_size=10, val_fraction=0.0)
    seen = torch.stack([data.preview(torch.arange(8), epoch) for epoch in range(4)])
    assert (seen > 200).any()
    assert (next(iter(data.test_dataloader())).image == 0).all()


@pytest.mark.parametrize("workers", [0, 2])
def test_every_epoch_has_its_own_crops_with_any_number_of_workers(workers: int, make_tree: MakeTree) -> None:
    data = module(make_tree(train=9, test=0, side=16, color=True), num_workers=workers, val_fraction=0.0)
    loader = data.train_dataloader()
    for epoch in (0, 1, 5):
        loader.sampler.set_epoch(epoch)
        for batch in loader:
            shown = data.transform.preview(batch.image, batch.index, epoch)
            assert batch.image.shape[-2:] == (8, 8), "workers send what the model sees"
            assert torch.equal(shown, data.preview(batch.index, epoch))


def test_automatic_augmentation_before_the_crop_stays_before_it(make_tree: MakeTree) -> None:
    policy = AugmentPolicy(resized_crop_scale=(0.08, 1.0), auto="randaugment", auto_first=True)
    data = module(make_tree(side=16, color=True), augment=policy, stored_size=16)
    assert next(iter(data.train_dataloader())).image.shape[-2:] == (16, 16)


# The list of files ---------------------------------------------------------------------------------------------------


@pytest.fixture
def walked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The folders that were listed."""
    found: list[str] = []
    scandir = os.scandir
    monkeypatch.setattr(os, "scandir", lambda path: found.append(str(path)) or scandir(path))
    return found


def settle(root: Path) -> None:
    """Let all folders have been changed some seconds ago."""
    for path in (root, *filter(Path.is_dir, root.rglob("*"))):
        before = path.stat().st_mtime_ns - 2 * SETTLED_NS
        os.utime(path, ns=(before, before))


def test_a_tree_is_listed_once(make_tree: MakeTree, walked: list[str]) -> None:
    root = make_tree()
    (root / "train" / "a" / "notes.txt").touch()
    for settled in (False, True):
        if settled:
            settle(root)
        walked.clear()
        with pytest.warns(UserWarning, match="1 left out: 1 not images"):
            expected = module(root).stored
        assert len(walked) == 7
    walked.clear()
    with pytest.warns(UserWarning, match="1 left out: 1 not images"):
        stored = module(root).stored
    assert not walked
    assert (stored.classes, stored.files.path) == (expected.classes, expected.files.path)
    assert torch.equal(stored.label, expected.label)
    assert torch.equal(stored.split, expected.split)


@pytest.mark.filterwarnings("ignore:.*left out")
def test_a_changed_tree_is_listed_again(make_tree: MakeTree, own_cache: Path, walked: list[str]) -> None:
    root = make_tree()
    settle(root)
    assert len(module(root).stored.label) == 24
    added = root / "train" / "b" / "deep"
    added.mkdir()
    settle(root)
    (added / "x.png").write_bytes((root / "train" / "b" / "000.png").read_bytes())
    assert len(module(root).stored.label) == 25
    (root / "test" / "a" / "000.png").unlink()
    assert len(module(root).stored.label) == 24
    (root / "train" / "a").rename(root / "train" / "c")
    (root / "test" / "a").rename(root / "test" / "c")
    assert module(root).classes == ["b", "c"]
    settle(root)
    assert module(root).classes == ["b", "c"]
    next(own_cache.glob("*.files.json")).write_text("{")
    assert module(root).classes == ["b", "c"], "a damaged list is made again"
