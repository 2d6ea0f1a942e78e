"""One name for the learning rate, whatever the optimizer; the accuracy of the training, of the labels before mixing."""

import csv
from pathlib import Path
from typing import Any

import pytest
import torch
from pytorch_lightning.loggers import CSVLogger
from training.small import classifier, digits, trainer

from cct_lightning.data.augment.mixup import MixingPolicy
from cct_lightning.data.batch import Batch
from cct_lightning.data.datamodule import ImageDataModule
from cct_lightning.training.callbacks.learning_rate import LearningRate
from cct_lightning.training.optim import Optim
from cct_lightning.training.optim.finetune import FineTune


@pytest.mark.parametrize(
    ("options", "parts"),
    [
        ({"optim": Optim(lr=2e-3, warmup_epochs=0)}, set()),
        ({"optim": Optim(optimizer="muon", lr=2e-3, warmup_epochs=0)}, set()),
        ({"optim": Optim(optimizer="muon", lr=2e-3, muon_lr=2e-2, warmup_epochs=0)}, {"muon"}),
        ({"optim": Optim(optimizer="torch.optim.SGD", lr=2e-3, warmup_epochs=0)}, set()),
        ({"optim": Optim(lr=2e-3, warmup_epochs=0), "finetune": FineTune(head_lr_scale=10)}, None),
    ],
)
def test_one_lr_and_parts_where_they_differ(options: dict[str, Any], parts: set[str] | None, tmp_path: Path) -> None:
    data, logger = digits(), CSVLogger(tmp_path)
    trainer(tmp_path, LearningRate(), logger=logger, log_every_n_steps=2).fit(
        classifier(data, **options), datamodule=data
    )
    logger.save()
    with Path(logger.log_dir, "metrics.csv").open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["lr"]]
    assert [int(row["step"]) for row in rows] == [1, 3, 5, 7]
    assert all(row["train/loss_step"] for row in rows), "in the row of its step"
    rates = [float(row["lr"]) for row in rows]
    assert 2e-3 > rates[0] > rates[-1] > 0
    differ = {key.removeprefix("lr/") for key in rows[0] if key.startswith("lr/")}
    assert differ == parts if parts is not None else differ
    if parts == {"muon"}:
        assert [float(row["lr/muon"]) for row in rows] == pytest.approx([10 * rate for rate in rates])


def test_the_training_accuracy_is_of_the_labels_before_mixing(tmp_path: Path) -> None:
    data = ImageDataModule(
        name="digits", batch_size=64, augment="none", num_workers=0, mixing=MixingPolicy(mixup_alpha=1.0, prob=1.0)
    )
    model, right, seen = classifier(data), 0, 0

    def count(module: torch.nn.Module, inputs: tuple[torch.Tensor, ...], logits: torch.Tensor) -> None:
        nonlocal right, seen
        if module.training:
            batch: Batch = batches[-1]
            labels = data.stored.dataset(batch.index.cpu()).label[batch.index]
            right, seen = right + int((logits.argmax(-1) == labels).sum()), seen + len(labels)

    batches: list[Batch] = []
    step = model.training_step
    model.training_step = lambda batch, batch_idx: (batches.append(batch), step(batch, batch_idx))[1]  # type: ignore[method-assign]
    model.net.register_forward_hook(count)
    run = trainer(tmp_path, max_epochs=1)
    run.fit(model, datamodule=data)
    assert all(batch.label.shape == (64, 10) for batch in batches), "soft labels"
    assert float(run.callback_metrics["train/acc"]) == pytest.approx(right / seen)
