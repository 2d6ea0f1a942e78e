"""The norm of the gradient is in the row of its own step, beside the loss of that step."""

import csv
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback, Timer
from pytorch_lightning.loggers import CSVLogger
from training.small import classifier, digits, trainer

from cct_lightning.training.callbacks.gradient_norm import GradientNorm


class ByHand(Callback):
    """The norm and the last loss of every optimizer step."""

    def __init__(self) -> None:
        self.norms: list[float] = []
        self.losses: list[float] = []

    def on_before_backward(self, trainer: pl.Trainer, pl_module: pl.LightningModule, loss: torch.Tensor) -> None:
        self.loss = float(loss.detach()) * trainer.accumulate_grad_batches

    def on_before_optimizer_step(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *_: Any) -> None:
        squares = [p.grad.double().square().sum() for p in pl_module.parameters() if p.grad is not None]
        self.norms.append(float(torch.stack(squares).sum().sqrt()))
        self.losses.append(self.loss)


def rows(logger: CSVLogger) -> list[dict[str, str]]:
    logger.save()
    with Path(logger.log_dir, "metrics.csv").open(newline="") as file:
        return [row for row in csv.DictReader(file) if row.get("train/loss_step")]


def assert_each_in_its_row(found: list[dict[str, str]], by_hand: ByHand) -> None:
    for row in found:
        step = int(row["step"])
        assert float(row["train/grad_norm"]) == pytest.approx(by_hand.norms[step], rel=1e-5), step
        assert float(row["train/loss_step"]) == pytest.approx(by_hand.losses[step], rel=1e-5), step


@pytest.mark.parametrize("accumulate", [1, 2])
@pytest.mark.parametrize("every", [1, 5])
def test_it_is_in_the_row_of_its_step(every: int, accumulate: int, tmp_path: Path) -> None:
    by_hand, data, logger = ByHand(), digits(16), CSVLogger(tmp_path)
    run = trainer(
        tmp_path,
        by_hand,
        GradientNorm(),
        batches=13,
        logger=logger,
        log_every_n_steps=every,
        accumulate_grad_batches=accumulate,
        gradient_clip_val=0.01,  # the norm is that before clipping
    )
    run.fit(classifier(data), datamodule=data)
    assert len(by_hand.norms) == 26 if accumulate == 1 else 14
    found = rows(logger)
    assert [int(row["step"]) for row in found] == list(range(every - 1, len(by_hand.norms), every))
    assert_each_in_its_row(found, by_hand)


class TimeIsUp(Timer):
    """A Timer that ends the run after a step, whatever the clock says."""

    def on_train_batch_end(self, trainer: pl.Trainer, *_: Any, **__: Any) -> None:
        trainer.should_stop = trainer.global_step == 7  # type: ignore[attr-defined]


def test_the_last_row_of_a_run_out_of_time_has_its_own(tmp_path: Path) -> None:
    by_hand, data, logger = ByHand(), digits(16), CSVLogger(tmp_path)
    run = trainer(
        tmp_path, by_hand, GradientNorm(), TimeIsUp("01:00:00:00"), batches=13, logger=logger, log_every_n_steps=5
    )
    run.fit(classifier(data), datamodule=data)
    assert [int(row["step"]) for row in rows(logger)] == [4, 6]
    assert_each_in_its_row(rows(logger), by_hand)


def test_nothing_is_logged_where_nothing_is_asked_for(tmp_path: Path) -> None:
    data = digits(16)
    run = trainer(tmp_path, GradientNorm(), log_every_n_steps=0, max_epochs=1)
    run.fit(classifier(data), datamodule=data)
    assert "train/grad_norm" not in run.callback_metrics
