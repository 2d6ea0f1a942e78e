"""The stop on a lost loss, in real runs on scikit-learn's digits."""

import copy
import math
from pathlib import Path

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback
from training.small import classifier, last, load, trainer

from cct_lightning.data.batch import Batch
from cct_lightning.data.datamodule import ImageDataModule
from cct_lightning.errors import TrainingFailed
from cct_lightning.training.callbacks.gradient_norm import GradientNorm
from cct_lightning.training.callbacks.nan_guard import StopOnNonFiniteLoss


class Poison(Callback):
    """Make one image of one batch NaN, as a broken file or an overflow would."""

    def __init__(self, epoch: int, batch: int) -> None:
        self.where = (epoch, batch)

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Batch, batch_idx: int
    ) -> None:
        if (trainer.current_epoch, batch_idx) == self.where:
            batch.image[3] = math.nan
            self.index = batch.index.clone()
            self.weights = copy.deepcopy(pl_module.state_dict())


def test_a_lost_loss_stops_before_the_weights_are(data: ImageDataModule, tmp_path: Path) -> None:
    poison = Poison(1, 2)
    run = trainer(tmp_path, poison, StopOnNonFiniteLoss(), last(tmp_path))
    with pytest.raises(TrainingFailed, match=r"epoch 2 at step 6 \(batch 2, samples") as caught:
        run.fit(classifier(data), datamodule=data)
    message = str(caught.value)
    assert "\n" not in message
    assert f"samples {', '.join(str(i) for i in poison.index[:8].tolist())}, ...)" in message
    assert str(tmp_path / "nan.ckpt") in message
    assert "bf16" not in message
    state = load(tmp_path / "nan.ckpt")
    for name, value in state["state_dict"].items():
        assert torch.equal(value, poison.weights[name]), name
    failure = state["callbacks"]["StopOnNonFiniteLoss"]
    assert torch.equal(failure["index"], poison.index)
    assert (failure["epoch"], failure["step"], failure["batch_idx"]) == (1, 6, 2)
    assert math.isnan(failure["loss"])
    # The exception did not write over the end of epoch 0.
    assert load(tmp_path / "last.ckpt")["global_step"] == 4


@pytest.mark.parametrize("every", [3, 50])
def test_a_lazy_look_names_the_right_step(data: ImageDataModule, tmp_path: Path, every: int) -> None:
    # As on a GPU; with 50 it is the checkpoint at the end of the epoch that has to look.
    poison = Poison(0, 1)
    run = trainer(tmp_path, poison, StopOnNonFiniteLoss(every_n_batches=every), last(tmp_path))
    with pytest.raises(TrainingFailed, match=r"epoch 1 at step 1 \(batch 1, samples"):
        run.fit(classifier(data), datamodule=data)
    assert torch.equal(load(tmp_path / "nan.ckpt")["callbacks"]["StopOnNonFiniteLoss"]["index"], poison.index)
    assert not (tmp_path / "last.ckpt").exists()


def test_a_rate_far_too_high_is_caught(data: ImageDataModule, tmp_path: Path) -> None:
    run = trainer(tmp_path, StopOnNonFiniteLoss(run_dir=tmp_path / "run"), batches=10)
    with pytest.raises(TrainingFailed, match="lower the learning rate"):
        run.fit(classifier(data, lr=1e30), datamodule=data)
    assert (tmp_path / "run" / "nan.ckpt").is_file()


def test_a_sound_run_is_left_alone(data: ImageDataModule, tmp_path: Path) -> None:
    watch = StopOnNonFiniteLoss(every_n_batches=3)
    run = trainer(tmp_path, watch, GradientNorm(), last(tmp_path), gradient_clip_val=0.01)
    run.fit(classifier(data), datamodule=data)
    assert watch.state_dict() == {}
    assert not (tmp_path / "nan.ckpt").exists()
    # Before clipping: the clipped norm would be 0.01.
    assert run.callback_metrics["train/grad_norm"] > 0.05
