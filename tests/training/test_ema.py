"""EMA in real runs on scikit-learn's digits: what is validated, shown, saved, tested and trained further."""

import copy
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback
from torch import Tensor, nn
from training.small import classifier, digits, last, load, trainer

from cct_lightning.data.datamodule import ImageDataModule
from cct_lightning.errors import InputError
from cct_lightning.training.callbacks.ema import EMA
from cct_lightning.training.module import Classifier

VERSION_0_1 = Path(__file__).parents[1] / "survival" / "version_0_1"


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


class Look(Callback):
    """Keep the weights that a callback sees at the end of a validation, where pictures are drawn, and save there."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.seen: list[dict[str, Tensor]] = []

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.seen.append(copy.deepcopy(pl_module.state_dict()))
        trainer.save_checkpoint(self.folder / f"{trainer.current_epoch}.ckpt", weights_only=False)


def test_pictures_show_the_weights_that_were_measured(data: ImageDataModule, tmp_path: Path) -> None:
    look, trace = Look(tmp_path), Trace()
    # As the Classifier adds it: after the callbacks of the Trainer.
    run, model = trainer(tmp_path, look, trace), classifier(data, ema_decay=0.9)
    run.fit(model, datamodule=data)
    assert len(look.seen) == 2
    for epoch, (seen, validated) in enumerate(zip(look.seen, trace.validated, strict=True)):
        assert_same(seen, validated)
        # Whatever the module holds at the moment, a checkpoint has both.
        saved = load(tmp_path / f"{epoch}.ckpt")
        assert_same(saved["state_dict"], validated)
        assert_same(saved["current_model_state"], trace.trained[4 * epoch + 3])
    assert_same(model.state_dict(), look.seen[-1])


def assert_same(a: dict[str, Tensor], b: dict[str, Tensor]) -> None:
    assert a.keys() == b.keys()
    for name in a:
        assert torch.equal(a[name], b[name]), name


def test_the_average_is_where_the_weights_are(data: ImageDataModule, tmp_path: Path) -> None:
    # In the hooks before `on_fit_start`, Lightning has not moved the module yet; here the device is a pretended one.
    ema, model, run = EMA(decay=0.5), classifier(data), trainer(tmp_path)
    run.state.fn = "fit"  # type: ignore[assignment]
    ema.setup(run, model, "fit")
    checkpoint = {"current_model_state": model.state_dict(), "averaging_state": {"n_averaged": torch.tensor(3)}}
    ema.on_load_checkpoint(run, model, checkpoint)
    assert {value.device.type for value in ema.weights} == {"cpu"}
    ema.on_fit_start(run, model.to("meta"))
    assert {value.device.type for value in ema.weights} == {"meta"}


def test_a_run_without_an_average_continues_with_one(data: ImageDataModule, tmp_path: Path) -> None:
    trainer(tmp_path, last(tmp_path), max_epochs=1).fit(classifier(data), datamodule=data)
    trace = Trace()
    run = trainer(tmp_path, trace, last(tmp_path / "on"))
    run.fit(classifier(data, ema_decay=0.9), datamodule=data, ckpt_path=tmp_path / "last.ckpt", weights_only=True)
    assert_close(load(tmp_path / "on" / "last.ckpt")["state_dict"], average(trace.trained, decay=0.9))


def test_a_finished_run_of_version_0_1_continues(tmp_path: Path) -> None:
    old = load(VERSION_0_1 / "last.ckpt")
    assert_same(old["state_dict"], old["current_model_state"])  # that version kept the average alone
    model, data = Classifier.load(VERSION_0_1 / "last.ckpt").train(), digits()
    assert_same(model.state_dict(), old["state_dict"])
    begun: list[dict[str, Tensor]] = []

    class Begin(Callback):
        def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
            begun.append(copy.deepcopy(pl_module.state_dict()))

    run = trainer(tmp_path, Begin(), last(tmp_path), batches=1000, max_epochs=3)
    run.fit(model, datamodule=data, ckpt_path=VERSION_0_1 / "last.ckpt", weights_only=True)
    assert_same(begun[0], old["current_model_state"])
    new = load(tmp_path / "last.ckpt")
    assert new["global_step"] == 3 * old["global_step"] // 2
    assert int(new["averaging_state"]["n_averaged"]) == 3 * int(old["averaging_state"]["n_averaged"]) // 2
    assert not torch.equal(new["state_dict"]["net.head.weight"], new["current_model_state"]["net.head.weight"])
