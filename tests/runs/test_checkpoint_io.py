"""Checkpoints that a thread writes: a snapshot, in order, whole or not at all, and waited for where it matters."""

import threading
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from cct_lightning.compat import set_state_dict_metadata, state_dict_metadata
from cct_lightning.errors import TrainingFailed
from cct_lightning.runs.checkpoint_io import AtomicCheckpointIO, BackgroundCheckpointIO, checkpoint_io
from cct_lightning.system import atomic


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch, writer: BackgroundCheckpointIO) -> Iterator[threading.Event]:
    """A disk that takes bytes and keeps none before it is set."""
    event, sync = threading.Event(), atomic._sync

    def wait(path: Path) -> None:
        assert event.wait(60)
        sync(path)

    monkeypatch.setattr(atomic, "_sync", wait)
    yield event
    event.set()  # or the writer would wait at its end


@pytest.fixture
def writer() -> Iterator[BackgroundCheckpointIO]:
    found = BackgroundCheckpointIO()
    yield found
    found.teardown()


def test_training_goes_on_while_a_snapshot_is_written(
    writer: BackgroundCheckpointIO, disk: threading.Event, tmp_path: Path
) -> None:
    weights, last = OrderedDict(a=torch.zeros(3)), tmp_path / "last.ckpt"
    set_state_dict_metadata(weights, {"kept": 1})
    writer.save_checkpoint({"state_dict": weights}, last)
    weights["a"].fill_(9)  # the next step
    assert not last.exists()
    disk.set()
    writer.flush()
    written = torch.load(last, weights_only=True)["state_dict"]
    assert (written["a"].tolist(), state_dict_metadata(written)) == ([0, 0, 0], {"kept": 1})


def test_a_kill_while_it_is_written_leaves_the_one_before(
    writer: BackgroundCheckpointIO, disk: threading.Event, tmp_path: Path
) -> None:
    disk.set()
    writer.save_checkpoint({"state_dict": {}, "epoch": 1}, tmp_path / "last.ckpt")
    writer.flush()
    disk.clear()
    writer.save_checkpoint({"state_dict": {}, "epoch": 2}, tmp_path / "last.ckpt")
    # What a process finds that is started now.
    assert torch.load(tmp_path / "last.ckpt", weights_only=True)["epoch"] == 1
    disk.set()
    writer.flush()
    assert torch.load(tmp_path / "last.ckpt", weights_only=True)["epoch"] == 2
    assert torch.load(tmp_path / "prev.ckpt", weights_only=True)["epoch"] == 1


def test_a_slow_disk_is_waited_for_when_two_are_in_line(
    writer: BackgroundCheckpointIO, disk: threading.Event, tmp_path: Path
) -> None:
    for epoch in (1, 2):
        writer.save_checkpoint({"epoch": epoch}, tmp_path / "best.ckpt")
    third = threading.Thread(target=writer.save_checkpoint, args=({"epoch": 3}, tmp_path / "last.ckpt"))
    third.start()
    third.join(0.2)
    assert third.is_alive()
    disk.set()
    third.join(60)
    assert not third.is_alive()
    assert writer.load_checkpoint(tmp_path / "last.ckpt", weights_only=True)["epoch"] == 3, "it waits for what it reads"
    assert torch.load(tmp_path / "best.ckpt", weights_only=True)["epoch"] == 2


def test_what_cannot_be_written_is_said(writer: BackgroundCheckpointIO, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    writer.save_checkpoint({}, tmp_path / "file" / "last.ckpt")
    with pytest.raises(TrainingFailed, match=r"Cannot save .*last\.ckpt"):
        writer.flush()
    writer.save_checkpoint({}, tmp_path / "file" / "last.ckpt")
    with pytest.raises(TrainingFailed):
        writer.teardown()
    writer.save_checkpoint({}, tmp_path / "last.ckpt")  # another fit of the same Trainer
    writer.teardown()
    assert (tmp_path / "last.ckpt").exists()


def test_after_a_failure_nothing_that_is_in_line_is_written(
    writer: BackgroundCheckpointIO, disk: threading.Event, tmp_path: Path
) -> None:
    """last.ckpt would name a best.ckpt that is not there."""
    (tmp_path / "best.ckpt").mkdir()
    writer.save_checkpoint({}, tmp_path / "best.ckpt")
    writer.save_checkpoint({"best": "best.ckpt"}, tmp_path / "last.ckpt")
    disk.set()
    with pytest.raises(TrainingFailed, match=r"Cannot save .*best\.ckpt"):
        writer.teardown()
    assert not (tmp_path / "last.ckpt").exists()
    writer.save_checkpoint({}, tmp_path / "last.ckpt")  # another fit of the same Trainer
    writer.teardown()
    assert (tmp_path / "last.ckpt").exists()


def test_files_of_other_callbacks_are_written_at_once(writer: BackgroundCheckpointIO, tmp_path: Path) -> None:
    """Lightning's ModelCheckpoint looks for them, and removes those that are no longer among the best."""
    loss = torch.ones(2, requires_grad=True).sum()
    writer.save_checkpoint({"callbacks": {"mine": {"loss": loss}}}, tmp_path / "last.ckpt")  # with a graph
    writer.save_checkpoint({}, tmp_path / "e1.ckpt")
    assert torch.load(tmp_path / "last.ckpt", weights_only=True)["callbacks"]["mine"]["loss"] == 2
    writer.remove_checkpoint(tmp_path / "e1.ckpt")
    writer.flush()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["last.ckpt"]


def test_a_thread_writes_where_it_saves_time() -> None:
    kinds = [type(*checkpoint_io(strategy, device_type=kind)) for strategy, kind in (("auto", "cpu"), ("ddp", "cuda"))]
    assert kinds == [AtomicCheckpointIO, BackgroundCheckpointIO]
    assert checkpoint_io("deepspeed_stage_2", device_type="cuda") == []
