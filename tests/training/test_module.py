"""The LightningModule: what it refuses, and the mean loss of an epoch that two processes share the work of."""

from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.trainer.states import TrainerFn

from cct_lightning.errors import InputError
from cct_lightning.training.checks import check_fits
from cct_lightning.training.loss import MeanLoss
from cct_lightning.training.module import Classifier


def classifier(**options: Any) -> Classifier:
    return Classifier(arch="cct_2_3x1", embed_dim=16, img_size=(8, 8), **{"in_chans": 1, **options})


def test_one_class_is_no_classifier() -> None:
    with pytest.raises(InputError, match="num_classes is 1"):
        classifier(num_classes=1)


def test_weights_of_another_model_are_named() -> None:
    checkpoint = {"state_dict": classifier(depth=3).state_dict(), "hyper_parameters": {"arch": "cct_3_3x1"}}
    with pytest.raises(InputError, match=r"another model \(cct_3_3x1\): 11 of its weights .* net\.encoder\.blocks\.2"):
        check_fits(classifier(), checkpoint)
    check_fits(classifier(), {"state_dict": classifier().state_dict(), "hyper_parameters": {}})


def test_the_mean_loss_of_an_epoch_continues_to_the_last_digit(monkeypatch: pytest.MonkeyPatch) -> None:
    losses = torch.rand(30, generator=torch.Generator().manual_seed(0))
    whole, first, second, other = (classifier() for _ in range(4))
    trainer = pl.Trainer(accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False)
    trainer.state.fn = TrainerFn.FITTING
    for loss in losses:
        whole.train_loss.update(loss, weight=7)
    for loss in losses[:13]:
        first.train_loss.update(loss, weight=7)
    first.trainer = second.trainer = other.trainer = trainer
    checkpoint: dict[str, Any] = {"state_dict": first.state_dict()}
    first.on_save_checkpoint(checkpoint)
    second.on_load_checkpoint(checkpoint)
    for loss in losses[13:]:
        second.train_loss.update(loss, weight=7)
    assert torch.equal(second.train_loss.compute(), whole.train_loss.compute())
    # On any other device than the first nothing is counted twice.
    monkeypatch.setattr(pl.Trainer, "is_global_zero", False)
    other.on_load_checkpoint(checkpoint)
    assert (float(other.train_loss.mean_value), float(other.train_loss.weight)) == (0, 0)


def test_the_mean_loss_waits_for_no_device() -> None:
    mean = MeanLoss().to("meta")  # where nothing has a value, asking for one is an error
    mean.update(torch.empty((), device="meta"), weight=8)
    mean.update(torch.empty((), device="meta"), weight=8)
    mean = MeanLoss()
    mean.update(torch.tensor(2.0), weight=3)
    mean.update(torch.tensor(6.0, dtype=torch.bfloat16), weight=1)
    assert mean.compute() == 3
