"""EMA, the stop on a lost loss and the gradient's norm, in real runs on scikit-learn's digits."""

import copy
import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback, ModelCheckpoint
from torch import Tensor, nn

from cct_lightning.data.batch import Batch
from cct_lightning.data.datamodule import ImageDataModule
from cct_lightning.errors import InputError, TrainingFailed
from cct_lightning.training.callbacks.ema import EMA
from cct_lightning.training.callbacks.gradient_norm import GradientNorm
from cct_lightning.training.callbacks.nan_guard import StopOnNonFiniteLoss
from cct_lightning.training.module import Classifier
from cct_lightning.training.optim import Optim


@pytest.fixture
def data(tmp_path: Path) -> ImageDataModule:
    return ImageDataModule(name="digits", batch_size=64, cache_dir=str(tmp_path / "cache"), augment="none")


def classifier(data: ImageDataModule, *, lr: float = 1e-3) -> Classifier:
    torch.manual_seed(0)
    return Classifier(
        arch="cct_2_3x2",
        img_size=data.img_size,
        in_chans=data.in_chans,
        num_classes=data.num_classes,
        optim=Optim(lr=lr, warmup_epochs=0),
        attn_drop=0.0,
        drop_path_rate=0.0,
    )


def trainer(folder: Path, *callbacks: Callback, batches: int = 4, **options: Any) -> pl.Trainer:
    return pl.Trainer(
        accelerator="cpu",
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=folder,
        callbacks=list(callbacks),
        limit_train_batches=batches,
        limit_val_batches=1,
        num_sanity_val_steps=0,
        log_every_n_steps=1,
        **{"max_epochs": 2, **options},
    )


def last(folder: Path) -> ModelCheckpoint:
    return ModelCheckpoint(
        dirpath=folder,
        filename="last",
        every_n_epochs=1,
        save_on_train_epoch_end=True,
        save_on_exception=True,
        enable_version_counter=False,
    )


def load(path: Path) -> dict[str, Any]:
    return torch.load(path, weights_only=True)


class Trace(Callback):
    """Keep the weights after every optimizer step, and those that validation and test saw."""

    def __init__(self) -> None:
        self.trained: list[dict[str, Tensor]] = []
        self.validated: list[dict[str, Tensor]] = []
        self.tested: list[dict[str, Tensor]] = []

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *_: Any) -> None:
        self.trained.append(copy.deepcopy(pl_module.state_dict()))

    def on_validation_batch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *_: Any) -> None:
        self.validated.append(copy.deepcopy(pl_module.state_dict()))

    def on_test_batch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *_: Any) -> None:
        self.tested.append(copy.deepcopy(pl_module.state_dict()))


def average(weights: list[dict[str, Tensor]], *, decay: float) -> dict[str, Tensor]:
    """Average in float64, by the formula in the docstring."""
    found = {name: value.double() for name, value in weights[0].items()}
    for n, state in enumerate(weights[1:], start=1):
        d = min(decay, (1 + n) / (10 + n))
        found = {name: d * value + (1 - d) * state[name].double() for name, value in found.items()}
    return found


def assert_close(a: dict[str, Tensor], b: dict[str, Tensor]) -> None:
    assert a.keys() == b.keys()
    for name in a:
        torch.testing.assert_close(a[name].double(), b[name].double(), rtol=1e-5, atol=1e-6, msg=name)


def test_ema_is_validated_saved_and_tested(data: ImageDataModule, tmp_path: Path) -> None:
    trace, model = Trace(), classifier(data)
    run = trainer(tmp_path, EMA(decay=0.9), trace, last(tmp_path))
    run.fit(model, datamodule=data)
    assert len(trace.trained) == 8
    first, second = average(trace.trained[:4], decay=0.9), average(trace.trained, decay=0.9)
    assert_close(trace.validated[0], first)
    assert_close(trace.validated[1], second)
    saved = load(tmp_path / "last.ckpt")
    assert_close(saved["state_dict"], second)
    assert_close(saved["current_model_state"], trace.trained[-1])
    name = "net.head.weight"
    assert not torch.allclose(saved["state_dict"][name], trace.trained[-1][name], atol=1e-5)

    # In the Trainer that has just trained, and in a fresh one: both test the average.
    run.test(model, datamodule=data, ckpt_path=tmp_path / "last.ckpt", verbose=False, weights_only=True)
    assert_close(trace.tested[-1], second)
    fresh = Trace()
    trainer(tmp_path, fresh).test(
        classifier(data), datamodule=data, ckpt_path=tmp_path / "last.ckpt", verbose=False, weights_only=True
    )
    assert_close(fresh.tested[-1], second)


def test_ema_resumes_exactly(data: ImageDataModule, tmp_path: Path) -> None:
    whole = classifier(data)
    trainer(tmp_path, EMA(decay=0.9), last(tmp_path / "whole"), max_epochs=3).fit(whole, datamodule=data)

    class Kill(Callback):
        def on_validation_batch_start(self, trainer: pl.Trainer, *_: Any) -> None:
            if trainer.current_epoch == 1:
                raise RuntimeError("killed in validation, while the average stands in for the weights")

    def fit(*callbacks: Callback, **options: Any) -> None:
        # A model of other weights: all must come from the checkpoint.
        run = trainer(tmp_path, EMA(decay=0.9), *callbacks, last(tmp_path / "parts"), max_epochs=3)
        torch.manual_seed(1)
        run.fit(classifier(data), datamodule=data, weights_only=True, **options)

    with pytest.raises(RuntimeError, match="killed"):
        fit(Kill())
    fit(ckpt_path=tmp_path / "parts" / "last.ckpt")
    a, b = load(tmp_path / "whole" / "last.ckpt"), load(tmp_path / "parts" / "last.ckpt")
    assert a["global_step"] == b["global_step"] == 12
    for key in ("state_dict", "current_model_state", "averaging_state"):
        for name, value in a[key].items():
            assert torch.equal(value, b[key][name]), (key, name)


def test_ema_keeps_counters_whole(tmp_path: Path) -> None:
    net = nn.BatchNorm1d(2)

    class Module(pl.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.net = net

    ema, module = EMA(decay=0.5), Module()
    ema.on_fit_start(trainer(tmp_path), module)
    for step in (1, 2, 3):
        net(torch.randn(4, 2))
        ema.on_train_batch_end(SimpleNamespace(global_step=step), module)  # type: ignore[arg-type]
    ema.on_train_end(trainer(tmp_path), module)
    assert int(net.num_batches_tracked) == 3


@pytest.mark.parametrize("decay", [0.0, 1.0, -1.0, 2.0])
def test_ema_wants_a_decay_between_0_and_1(decay: float) -> None:
    with pytest.raises(InputError, match="ema_decay"):
        EMA(decay=decay)


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
    with pytest.raises(TrainingFailed, match=r"epoch 1 at step 6 \(batch 2, samples") as caught:
        run.fit(classifier(data), datamodule=data)
    message = str(caught.value)
    assert "\n" not in message
    assert f"samples {', '.join(str(i) for i in poison.index[:8].tolist())}, ...)" in message
    assert str(tmp_path / "nan.ckpt") in message
    assert "bf16" not in message
    state = load(tmp_path / "nan.ckpt")
    assert_close(state["state_dict"], poison.weights)
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
    with pytest.raises(TrainingFailed, match=r"epoch 0 at step 1 \(batch 1, samples"):
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
