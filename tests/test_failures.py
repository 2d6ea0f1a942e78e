"""What goes wrong in a run is one sentence where the cause is known, and a traceback where it is not."""

import errno
from collections.abc import Callable
from pathlib import Path

import pytest
import pytorch_lightning as pl
import torch

import cct_lightning
from cct_lightning.commands.failures import explain
from cct_lightning.errors import TrainingFailed
from cct_lightning.training.memory import out_of_memory
from cct_lightning.training.module import Classifier


def raised(function: Callable[[], object]) -> Exception:
    """Return what a function raises."""
    with pytest.raises(Exception) as caught:  # noqa: PT011 - any
        function()
    return caught.value


def test_what_lightning_raises_on_purpose_is_its_sentence() -> None:
    trainer = pl.Trainer(accelerator="cpu", logger=False, enable_checkpointing=False)
    told = explain(raised(lambda: trainer.fit(torch.nn.Linear(1, 1))))  # type: ignore[arg-type]
    assert told is not None
    assert "must be a `LightningModule`" in told
    assert explain(raised(lambda: int("abc"))) is None, "raised in code of ours: a traceback helps"


def test_a_port_that_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MASTER_ADDR", "127.0.0.1")
    first = torch.distributed.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    monkeypatch.setenv("MASTER_PORT", str(first.port))
    told = explain(raised(lambda: torch.distributed.TCPStore("127.0.0.1", first.port, is_master=True)))
    assert told is not None
    assert f"cannot meet at 127.0.0.1:{first.port} (MASTER_ADDR:MASTER_PORT)" in told


def test_a_full_disk() -> None:
    assert "make room" in str(explain(OSError(errno.ENOSPC, "No space left on device", "here")))


def test_a_path_that_cannot_be_used(tmp_path: Path) -> None:
    missing = tmp_path / "none" / "log"
    told = explain(raised(lambda: missing.open("w")))
    assert told == f"Cannot use {missing} (No such file or directory): give another path, or make this one usable."


def test_out_of_memory_names_its_cause() -> None:
    usual = {"img_size": (32, 32), "global_batch_size": None, "precision": "32-true"}
    few = out_of_memory(tokens=256, batch_size=64, **usual)  # type: ignore[arg-type]
    assert few.startswith("Out of memory: halve --data.batch_size and double --trainer.accumulate_grad_batches")
    assert "bf16-mixed" in few
    fixed = out_of_memory(tokens=None, batch_size=64, img_size=(32, 32), global_batch_size=128, precision="bf16-mixed")
    assert fixed.startswith("Out of memory: double --trainer.accumulate_grad_batches")
    assert "bf16" not in fixed
    many = out_of_memory(tokens=12_544, batch_size=1, img_size=(224, 224), global_batch_size=None, precision="32-true")
    assert many.startswith("Out of memory with 12,544 tokens of 224x224 pixels: make fewer tokens")
    for word in ("--model.kernel_size", "--model.conv_blocks", "--data.img_size"):
        assert word in many
    assert "halve" not in many, "one image cannot be halved"


def test_a_run_out_of_memory_says_what_its_images_cost(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory.")

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(Classifier, "training_step", fail)
    options = {"max_epochs": 1, "warmup_epochs": 0, "run_dir": "run", "limit_train_batches": 1, "batch_size": 1}
    with pytest.raises(TrainingFailed, match=r"with 1,600 tokens of 80x80 pixels: make fewer tokens"):
        cct_lightning.fit(
            "digits", arch="cct_2_3x1", options={"data.img_size": 80, "tracking.mode": "disabled"}, **options
        )
