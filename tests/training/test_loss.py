"""Losses by name, and one from outside the package."""

import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from pytorch_lightning.callbacks import Callback
from timm.loss import BinaryCrossEntropy as TimmBinaryCrossEntropy
from torch import Tensor, nn
from training.small import classifier, digits, load, trainer

from cct_lightning.config.parser import parse
from cct_lightning.data.batch import Batch
from cct_lightning.errors import InputError
from cct_lightning.training.loss import BinaryCrossEntropy, build_loss
from cct_lightning.training.module import Classifier

LOGITS = torch.randn(6, 4, generator=torch.Generator().manual_seed(0))
LABELS = torch.tensor([0, 3, 1, 1, 2, 0])
SOFT = LOGITS.flip(0).softmax(-1)

MY_LAB = """
from torch import nn


class Focal(nn.Module):
    def __init__(self, gamma=2.0):
        super().__init__()
        self.gamma = gamma

    def forward(self, logits, targets):
        loss = nn.functional.cross_entropy(logits, targets, reduction="none")
        return ((1 - (-loss).exp()) ** self.gamma * loss).mean()


class Learned(nn.Module):
    def __init__(self):
        super().__init__()
        self.scale = nn.Linear(1, 1)
"""


@pytest.fixture
def my_lab(tmp_path: Path) -> Path:
    """A module of a user's own, on the path."""
    (tmp_path / "my_lab.py").write_text(MY_LAB)
    sys.path.insert(0, str(tmp_path))
    return tmp_path


@pytest.mark.parametrize("targets", [LABELS, SOFT], ids=["labels", "soft"])
def test_cross_entropy_is_that_of_torch(targets: Tensor) -> None:
    ours = build_loss("cross_entropy", label_smoothing=0.1)(LOGITS, targets)
    assert torch.equal(ours, nn.functional.cross_entropy(LOGITS, targets, label_smoothing=0.1))


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_bce_is_that_of_timm(smoothing: float) -> None:
    ours = build_loss("bce", label_smoothing=smoothing)
    theirs = TimmBinaryCrossEntropy(smoothing=smoothing)
    torch.testing.assert_close(ours(LOGITS, LABELS), theirs(LOGITS, LABELS))
    # timm's mixing smooths before it mixes, which is linear.
    torch.testing.assert_close(ours(LOGITS, SOFT), theirs(LOGITS, SOFT * (1 - smoothing) + smoothing / 4))


def test_bce_averages_over_classes_and_takes_half_precision() -> None:
    loss = BinaryCrossEntropy()(torch.zeros(5, 7, dtype=torch.bfloat16), torch.zeros(5, dtype=torch.long))
    assert float(loss) == pytest.approx(0.6931, abs=1e-2)


@pytest.mark.parametrize(
    ("loss", "gamma"), [("my_lab.Focal", 2.0), ({"class_path": "my_lab.Focal", "init_args": {"gamma": 1.0}}, 1.0)]
)
def test_a_loss_from_outside_is_trained_and_kept(loss: Any, gamma: float, my_lab: Path) -> None:
    data = digits()
    model, run = classifier(data, loss=loss), trainer(my_lab, max_epochs=1)
    run.fit(model, datamodule=data)
    assert model.loss.gamma == gamma
    run.save_checkpoint(my_lab / "last.ckpt")
    assert load(my_lab / "last.ckpt")["hyper_parameters"]["loss"] == loss
    again = Classifier.load(my_lab / "last.ckpt")
    assert again.loss.gamma == gamma
    # What is reported after training is the cross-entropy, comparable with every other run.
    logits, label = again(torch.zeros(1, 1, 8, 8)), torch.tensor([0])
    assert not torch.allclose(again.loss(logits, label), nn.functional.cross_entropy(logits, label))
    expected = Expected()
    found = trainer(my_lab, expected).validate(again, datamodule=data, verbose=False)[0]["val/loss"]
    assert found == pytest.approx(expected.loss, rel=1e-5)


@pytest.mark.parametrize("form", ["{option} {value}", "{option}={value}"])
@pytest.mark.parametrize("first", ["class", "arguments"])
def test_its_arguments_on_the_command_line(first: str, form: str, my_lab: Path) -> None:
    options = [("--model.loss", "my_lab.Focal"), ("--model.loss.gamma", "1.5")]
    ordered = options if first == "class" else options[::-1]
    words = [word for option, value in ordered for word in form.format(option=option, value=value).split()]
    found = parse("fit", ["--config", "digits", *words])
    assert found.model.loss == {"class_path": "my_lab.Focal", "init_args": {"gamma": 1.5}}


class Expected(Callback):
    """The cross-entropy of the one batch that is validated."""

    def on_validation_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Batch, *_: Any) -> None:
        self.loss = float(nn.functional.cross_entropy(pl_module(batch.image), batch.label))


def test_the_loss_that_is_trained_is_the_one_asked_for() -> None:
    batch = Batch(image=torch.randn(6, 1, 8, 8), label=LABELS, index=torch.arange(6))
    model = classifier(digits(), loss="bce", label_smoothing=0.2)
    expected = BinaryCrossEntropy(label_smoothing=0.2)(model(batch.image), batch.label)
    assert torch.equal(model.training_step(batch, 0), expected)


def test_a_checkpoint_without_a_loss_is_of_cross_entropy() -> None:
    model = Classifier.load(Path(__file__).parents[1] / "survival" / "version_0_1" / "best.ckpt")
    assert isinstance(model.loss, nn.CrossEntropyLoss)


@pytest.mark.parametrize(
    ("loss", "word"),
    [
        ("cross_entrpy", "Unknown loss 'cross_entrpy'.* Did you mean 'cross_entropy'"),
        ("my_lab.Nothing", "Cannot import the loss"),
        ("pathlib.Path", "not a subclass of torch.nn"),
        ("my_lab.Learned", "'my_lab.Learned' has weights to train"),
        ({"class_path": "my_lab.Focal", "init_args": {"gama": 1}}, "takes no argument 'gama'.* Did you mean 'gamma'"),
        ({"class_path": "bce", "init_args": {"label_smoothing": 0.1}}, "gets its label_smoothing from the model"),
    ],
)
def test_bad_losses(loss: Any, word: str, my_lab: Path) -> None:
    with pytest.raises(InputError, match=word) as caught:
        build_loss(loss, label_smoothing=0.1)
    assert "\n" not in str(caught.value)
