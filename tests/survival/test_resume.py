"""A signal in any batch, within accumulated gradients, in validation: always the same end, bit by bit."""

import signal
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Literal

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback, Timer
from survival.processes import assert_same_run, checkpoint

from cct_lightning.config.resolved import ResolvedConfig
from cct_lightning.data.datamodule import ImageDataModule
from cct_lightning.runs import last_checkpoint
from cct_lightning.runs.checkpoint_io import AtomicCheckpointIO, BackgroundCheckpointIO
from cct_lightning.runs.checkpoints import checkpoints
from cct_lightning.runs.folder import RunFolder
from cct_lightning.runs.interrupts import Stopped
from cct_lightning.runs.last_checkpoint import LastCheckpoint
from cct_lightning.runs.metrics_csv import MetricsCsv
from cct_lightning.runs.record import RunRecord
from cct_lightning.training.callbacks.seeding import StepSeed
from cct_lightning.training.module import Classifier
from cct_lightning.training.optim import Optim

Moment = tuple[str, int, int]  # train or val, epoch, batch


class Signals(Callback):
    """Send real signals to this process at some moments, each once."""

    def __init__(self, moments: list[Moment]) -> None:
        self.moments = list(moments)

    def _send(self, now: Moment) -> None:
        if now in self.moments:
            self.moments.remove(now)
            signal.raise_signal(signal.SIGTERM)

    def on_before_backward(self, trainer: pl.Trainer, pl_module: pl.LightningModule, loss: torch.Tensor) -> None:
        self._send(("train", trainer.current_epoch, trainer.fit_loop.batch_idx))

    def on_validation_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        if not trainer.sanity_checking:
            self._send(("val", trainer.current_epoch, batch_idx))


def fit(
    folder: Path,
    signals: Callback,
    *,
    workers: int = 0,
    optimizer: str = "adamw",
    schedule: Literal["cosine", "constant"] = "cosine",
    writer: type[AtomicCheckpointIO] = AtomicCheckpointIO,
    least_seconds: float = 0.0,
    **options: Any,
) -> None:
    """Train six batches an epoch, from last.ckpt where there is one."""
    torch.manual_seed(0)
    data = ImageDataModule(name="digits", batch_size=32, num_workers=workers, augment="light")
    model = Classifier(
        arch="cct_2_3x1",
        embed_dim=16,
        img_size=data.img_size,
        in_chans=data.in_chans,
        attn_drop=0.2,
        proj_drop=0.2,
        drop_path_rate=0.2,
        ema_decay=0.9,
        optim=Optim(optimizer=optimizer, warmup_epochs=0.5, schedule=schedule),  # type: ignore[arg-type]
    )
    last = folder / "last.ckpt"
    callbacks: list[Callback] = [
        signals,
        StepSeed(seed=0),
        RunRecord(folder=RunFolder(folder), config=ResolvedConfig({}), costs={}),
        *checkpoints(folder, monitor="val/acc", every_minutes=1000, least_seconds=least_seconds),
    ]
    trainer = pl.Trainer(
        accelerator="cpu",
        limit_train_batches=6,
        logger=MetricsCsv(folder),
        callbacks=callbacks,
        plugins=[writer()],
        log_every_n_steps=1,
        enable_progress_bar=False,
        enable_model_summary=False,
        **{"max_epochs": 3, **options},
    )
    trainer.fit(model, datamodule=data, ckpt_path=last if last.exists() else None, weights_only=True)


CASES: dict[str, tuple[list[Moment], dict[str, Any]]] = {
    "in training": ([("train", 0, 2), ("train", 1, 0), ("train", 1, 4)], {}),
    "in the last batch": ([("train", 0, 5), ("train", 2, 5)], {}),
    "in validation": ([("val", 0, 0), ("val", 1, 3)], {}),
    "everywhere": ([("train", 0, 0), ("val", 0, 1), ("train", 1, 3), ("val", 1, 4), ("train", 2, 1)], {}),
    "accumulated": ([("train", 0, 0), ("train", 1, 2), ("val", 1, 2)], {"accumulate_grad_batches": 2}),
    "accumulated unevenly": ([("train", 0, 1), ("train", 1, 5)], {"accumulate_grad_batches": 4}),
    "validated within epochs": ([("train", 0, 2), ("train", 1, 3), ("val", 1, 1)], {"val_check_interval": 3}),
    "muon": ([("train", 0, 3), ("val", 1, 1)], {"optimizer": "muon"}),
    "workers": ([("train", 0, 3), ("val", 1, 1)], {"workers": 1}),
    "as on a GPU": (
        [("train", 0, 3), ("val", 1, 1), ("train", 2, 5)],
        {"writer": BackgroundCheckpointIO, "least_seconds": 30.0},
    ),
    "nothing to validate with": ([("train", 0, 3), ("train", 1, 0)], {"limit_val_batches": 2}),
}


@pytest.mark.parametrize("case", CASES)
def test_stopped_and_continued(case: str, tmp_path: Path) -> None:
    moments, options = CASES[case]
    fit(tmp_path / "whole", Signals([]), **options)
    signals, stops = Signals(moments), 0
    while stops <= len(moments):
        try:
            fit(tmp_path / "parts", signals, **options)
            break
        except Stopped:
            stops += 1
    assert signals.moments == []
    assert stops >= len(moments) - 1  # one in the very last batch comes too late to stop anything
    assert_same_run(tmp_path / "whole", tmp_path / "parts")


def test_long_epochs_are_saved_within(tmp_path: Path) -> None:
    saved: list[int] = []

    class Watch(Callback):
        def on_save_checkpoint(self, trainer: pl.Trainer, *_: Any) -> None:
            saved.append(trainer.global_step)

    class Short(Signals):
        def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
            trainer.callbacks.append(Watch())
            for callback in trainer.callbacks:
                if isinstance(callback, LastCheckpoint):
                    callback.every_seconds = 0.0

    fit(tmp_path, Short([]))
    assert set(saved) == set(range(1, 19))
    assert checkpoint(tmp_path / "last.ckpt")["global_step"] == 18


def test_short_epochs_are_saved_at_intervals(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    saved: list[int] = []

    class Clock(Signals):
        def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
            clock = SimpleNamespace(monotonic=lambda: 2.0 * trainer.global_step)
            monkeypatch.setattr(last_checkpoint, "time", clock)

    save = BackgroundCheckpointIO.save_checkpoint

    def note(self: BackgroundCheckpointIO, state: dict[str, Any], path: Path, storage_options: Any = None) -> None:
        saved.extend([state["global_step"]] if Path(path).name == "last.ckpt" else [])
        save(self, state, path, storage_options)

    monkeypatch.setattr(BackgroundCheckpointIO, "save_checkpoint", note)
    fit(tmp_path, Clock([]), writer=BackgroundCheckpointIO, least_seconds=24.0, max_epochs=5)
    assert saved == [12, 24, 30], "every second epoch of 12 seconds, and the end"
    assert checkpoint(tmp_path / "last.ckpt")["global_step"] == 30


class BatchesAsSeconds(Timer):
    """A Timer for which each batch takes a second."""

    batches = 0

    def time_elapsed(self, stage: str = "train") -> float:
        return float(self.batches)

    def on_train_batch_start(self, *_: Any) -> None:
        self.batches += 1

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.batches = int(state_dict["time_elapsed"]["train"])


@pytest.mark.parametrize("accumulate", [1, 3])
def test_with_more_time_a_run_continues_within_the_epoch(accumulate: int, tmp_path: Path) -> None:
    # The time is up within an epoch, and with accumulation between the batches of a step.
    options: dict[str, Any] = {"accumulate_grad_batches": accumulate, "schedule": "constant"}
    fit(tmp_path / "whole", Signals([]), max_epochs=2, **options)
    timer = BatchesAsSeconds("00:00:00:10")
    fit(tmp_path / "parts", timer, max_epochs=-1, **options)
    assert timer.batches == 10
    assert checkpoint(tmp_path / "parts" / "last.ckpt")["global_step"] == 10 // accumulate
    fit(tmp_path / "parts", Signals([]), max_epochs=2, **options)
    whole, parts = (checkpoint(tmp_path / name / "last.ckpt") for name in ("whole", "parts"))
    assert whole["global_step"] == parts["global_step"]
    for key in ("state_dict", "current_model_state"):
        for name, value in whole[key].items():
            assert torch.equal(value, parts[key][name]), (key, name)
