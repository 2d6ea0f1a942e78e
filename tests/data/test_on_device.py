"""Images that lie on the device: the same batches, one gather each, and only where they fit."""

import pickle
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from pretended_gpu import DEVICE, pretended_gpu
from training.small import classifier, digits, trainer

from cct_lightning.data.batch import Batch
from cct_lightning.data.datamodule import ImageDataModule
from cct_lightning.data.on_device import ImagesOnDevice
from cct_lightning.errors import InputError


class Seen(pl.Callback):
    """Keep every batch as the model is shown it."""

    def __init__(self) -> None:
        self.batches: dict[str, list[Batch]] = {"train": [], "val": [], "test": []}

    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Batch, batch_idx: int) -> None:
        self.batches["train"].append(batch)

    def on_validation_batch_start(self, trainer: Any, pl_module: Any, batch: Batch, *_: int) -> None:
        self.batches["val"].append(batch)

    def on_test_batch_start(self, trainer: Any, pl_module: Any, batch: Batch, *_: int) -> None:
        self.batches["test"].append(batch)


class Looks(pl.Callback):
    """Look at validation images in the middle of a run, and fail after it."""

    def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        [batch] = [next(iter(trainer.datamodule.val_dataloader()))]
        assert batch.image.shape[1:] == (1, 8, 8)
        assert trainer.datamodule.on_device._images is not None
        raise ZeroDivisionError


def shown(folder: Path, **options: Any) -> dict[str, list[Batch]]:
    data, seen = ImageDataModule(augment="light", batch_size=64, **options), Seen()
    run = trainer(folder, seen, batches=3, limit_val_batches=2, enable_checkpointing=False)
    model = classifier(data)
    run.fit(model, datamodule=data)
    run.test(model, datamodule=data, verbose=False)
    assert data.on_device._images is None, "the memory is free again"
    return seen.batches


def test_the_same_batches(tmp_path: Path) -> None:
    usual, there = shown(tmp_path), shown(tmp_path, on_device=True)
    for split, batches in usual.items():
        assert len(batches) == len(there[split]) > 2
        for one, two in zip(batches, there[split], strict=True):
            assert all(torch.equal(a, b) for a, b in zip(one[:3], two[:3], strict=True)), split


def test_a_callback_that_asks_for_a_loader_gets_images(tmp_path: Path) -> None:
    data = ImageDataModule(augment="light", batch_size=64, on_device=True)
    with pytest.raises(ZeroDivisionError):
        trainer(tmp_path, Looks(), batches=3, limit_val_batches=2, enable_checkpointing=False).fit(
            classifier(data), datamodule=data
        )
    assert data.on_device._images is None, "the memory is free again"


def test_evaluation_has_a_batch_size_of_its_own(tmp_path: Path) -> None:
    seen = shown(tmp_path, eval_batch_size=50)
    assert {len(batch.label) for batch in seen["train"]} == {64}
    assert [len(batch.label) for batch in seen["test"]] == [50] * 7 + [9]
    with pytest.raises(InputError, match="eval_batch_size"):
        ImageDataModule(eval_batch_size=0)


def test_by_default_where_they_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    def wanted(asked: bool | None, device: str = "cuda", status: str = "running") -> bool:
        state = SimpleNamespace(status=status)
        used: Any = SimpleNamespace(state=state, strategy=SimpleNamespace(root_device=torch.device(device)))
        return ImagesOnDevice(asked).for_loader("val", torch.zeros(100, dtype=torch.uint8), used)

    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (free, 10**9))
    free = 400
    assert [wanted(asked) for asked in (None, True, False)] == [True, True, False]
    free = 399
    assert [wanted(asked) for asked in (None, True, False)] == [False, True, False]
    assert [wanted(asked, "cpu") for asked in (None, True, False)] == [False, True, False]
    assert not wanted(True, status="finished"), "who looks at a loader after a run gets images"
    with pytest.raises(InputError, match="Streamed files"):
        ImageDataModule(name="folder", root="x", img_size=8, stream=True, on_device=True)


def test_on_a_gpu_a_batch_is_one_gather_and_nothing_waits() -> None:
    data = digits()
    loaded = data.stored.dataset(data.index["train"], images_wait=True).__getitems__(range(64))
    assert loaded.image.shape == (64, 0)
    with pretended_gpu() as watch:
        data.transfer_batch_to_device(loaded, DEVICE, 0)  # the first brings all
        before = watch.launches, watch.waits
        batch = data.transfer_batch_to_device(loaded, DEVICE, 0)
        assert (watch.launches - before[0], watch.waits - before[1]) == (3, 0), "two copies, one gather"
    assert (batch.image.device, batch.image.shape, batch.image.dtype) == (DEVICE, (64, 1, 8, 8), torch.uint8)
    assert (batch.label.device, batch.index.device.type) == (DEVICE, "cpu")
    assert pickle.loads(pickle.dumps(data)).on_device._images is None
