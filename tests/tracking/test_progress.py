"""The lines of a batch job's log."""

import time
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
from pytorch_lightning.callbacks import Callback, LambdaCallback
from pytorch_lightning.demos.boring_classes import BoringModel

from cct_lightning.tracking.progress import EpochLines


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
