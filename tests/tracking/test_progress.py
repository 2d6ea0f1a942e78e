"""The lines of a batch job's log, and what stands beside the bar of a terminal."""

import time
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback, LambdaCallback, RichProgressBar
from pytorch_lightning.demos.boring_classes import BoringModel

from cct_lightning.tracking import progress
from cct_lightning.tracking.progress import EpochLines, Progress


def test_time_left_of_a_run_that_goes_on_in_mid_epoch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def trainer(*more: Callback) -> pl.Trainer:
        return pl.Trainer(
            max_epochs=3,
            limit_train_batches=4,
            limit_val_batches=0,
            callbacks=[EpochLines(), *more],
            default_root_dir=tmp_path,
            accelerator="cpu",
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
        )

    def save(trainer: pl.Trainer, *_: Any) -> None:
        if trainer.global_step == 6:
            trainer.save_checkpoint(tmp_path / "half.ckpt")

    trainer(LambdaCallback(on_train_batch_end=save)).fit(BoringModel())
    capsys.readouterr()
    rest = trainer()
    monkeypatch.setattr(time, "perf_counter", lambda: 10.0 * rest.global_step)  # a step takes ten seconds
    rest.fit(BoringModel(), ckpt_path=tmp_path / "half.ckpt")
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("epoch")]
    assert lines == ["epoch 2/3  left 0:00:40", "epoch 3/3  left 0:00:00"]


def test_metrics_beside_the_bar_are_not_read_at_every_step(monkeypatch: pytest.MonkeyPatch) -> None:
    reads = []

    def read(self: RichProgressBar, trainer: pl.Trainer, pl_module: pl.LightningModule) -> dict[str, Any]:
        reads.append(1)
        return {"v_num": 1, "train/loss_step": len(reads)}

    monkeypatch.setattr(RichProgressBar, "get_metrics", read)
    bar, trainer, model = Progress(), pl.Trainer(accelerator="cpu", logger=False), BoringModel()
    monkeypatch.setattr(progress, "_SECONDS_SHOWN", 3600)
    assert [bar.get_metrics(trainer, model) for _ in range(3)] == [{"train/loss_step": 1}] * 3
    monkeypatch.setattr(progress, "_SECONDS_SHOWN", 0)
    assert bar.get_metrics(trainer, model) == {"train/loss_step": 2}
    assert bar.refresh_rate <= 10, "times a second that a thread draws, while no kernel is launched"


def test_a_line_of_an_epoch_without_validation_has_none_of_an_earlier_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    class Model(BoringModel):
        def validation_step(self, batch: Any, batch_idx: int) -> None:
            self.log("val/acc", torch.tensor(0.5))

    pl.Trainer(
        max_epochs=3,
        limit_train_batches=1,
        limit_val_batches=1,
        check_val_every_n_epoch=2,
        callbacks=[EpochLines()],
        default_root_dir=tmp_path,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    ).fit(Model())
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("epoch")]
    assert ["val/acc" in line for line in lines] == [False, True, False]
