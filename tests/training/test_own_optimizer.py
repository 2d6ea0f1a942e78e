"""Optimizers from outside the package: by import path, and as an entry of the table."""

import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from pytorch_lightning.callbacks import Callback
from training.small import classifier, digits, last, load, trainer

from cct_lightning.config.parser import parse
from cct_lightning.errors import InputError
from cct_lightning.models.factory import create_model
from cct_lightning.training.checks import check_sharding
from cct_lightning.training.optim import Optim, options
from cct_lightning.training.optim.finetune import FineTune
from cct_lightning.training.optim.groups import Groups
from cct_lightning.training.optim.optimizers import OPTIMIZERS, OptimizerEntry, build_optimizer

MY_LAB = '''
"""Lion (Chen et al., arXiv 2302.06675), as a user would write it."""

import torch


class Lion(torch.optim.Optimizer):
    def __init__(self, params, lr, betas=(0.9, 0.99)):
        super().__init__(params, {"lr": lr, "betas": tuple(betas), "weight_decay": 0.0})

    @torch.no_grad()
    def step(self, closure=None):
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is None:
                    continue
                state = self.state[p]
                momentum = state.setdefault("momentum", torch.zeros_like(p))
                update = momentum.lerp(p.grad, 1 - group["betas"][0]).sign_()
                p.mul_(1 - group["lr"] * group["weight_decay"]).add_(update, alpha=-group["lr"])
                momentum.lerp_(p.grad, 1 - group["betas"][1])
        return loss
'''
LION: list[Any] = ["my_lab.Lion", {"class_path": "my_lab.Lion", "init_args": {"betas": [0.8, 0.95]}}]


@pytest.fixture(autouse=True)
def _my_lab(tmp_path: Path) -> None:
    (tmp_path / "my_lab.py").write_text(MY_LAB)
    sys.path.insert(0, str(tmp_path))


@pytest.mark.parametrize("lion", LION)
def test_it_gets_the_groups_the_rate_and_its_arguments(lion: Any) -> None:
    optim = Optim(optimizer=lion, lr=1e-3, weight_decay=0.2, lr_scaling="linear", base_batch_size=64)
    net = create_model("cct_2_3x1")
    optimizer = build_optimizer(net, optim, global_batch_size=128, finetune=FineTune(head_lr_scale=10))
    assert type(optimizer).__name__ == "Lion"
    groups = {group["name"]: group for group in optimizer.param_groups}
    assert groups.keys() == {"decay", "decay.head", "no_decay", "no_decay.head"}
    assert {name: group["lr"] for name, group in groups.items()} == pytest.approx(
        {"decay": 2e-3, "decay.head": 2e-2, "no_decay": 2e-3, "no_decay.head": 2e-2}
    )
    assert {name: group["weight_decay"] for name, group in groups.items()} == {
        "decay": 0.2,
        "decay.head": 0.2,
        "no_decay": 0.0,
        "no_decay.head": 0.0,
    }
    assert groups["decay"]["betas"] == ((0.9, 0.99) if isinstance(lion, str) else (0.8, 0.95))


@pytest.mark.parametrize("lion", LION)
def test_a_run_with_it_stops_and_continues(lion: Any, tmp_path: Path) -> None:
    class Stop(Callback):
        def on_train_epoch_start(self, trainer: Any, *_: Any) -> None:
            if trainer.current_epoch == 1:
                raise KeyError("stopped")

    def fit(folder: Path, *callbacks: Callback, ckpt_path: Path | None = None) -> None:
        data = digits()
        model = classifier(data, optim=Optim(optimizer=lion, lr=1e-4, warmup_epochs=0.5))
        run = trainer(tmp_path, *callbacks, last(folder))
        run.fit(model, datamodule=data, ckpt_path=ckpt_path, weights_only=True)

    fit(tmp_path / "whole")
    with pytest.raises(KeyError):
        fit(tmp_path / "parts", Stop())
    fit(tmp_path / "parts", ckpt_path=tmp_path / "parts" / "last.ckpt")
    whole, parts = (load(tmp_path / name / "last.ckpt") for name in ("whole", "parts"))
    assert whole["hyper_parameters"]["optim"]["optimizer"] == lion
    assert whole["global_step"] == parts["global_step"] == 8
    for name, value in whole["state_dict"].items():
        assert torch.equal(value, parts["state_dict"][name]), name
    for state, other in zip(*(run["optimizer_states"][0]["state"].values() for run in (whole, parts)), strict=True):
        assert torch.equal(state["momentum"], other["momentum"])


def test_an_entry_of_the_table(monkeypatch: pytest.MonkeyPatch) -> None:
    def sgd(groups: Groups, optim: Optim) -> torch.optim.Optimizer:
        return torch.optim.SGD(groups, lr=optim.lr, momentum=optim.muon_momentum)

    monkeypatch.setitem(OPTIMIZERS, "sgd", OptimizerEntry(build=sgd, needs_full_weights=True))
    optimizer = build_optimizer(create_model("cct_2_3x1"), Optim(optimizer="sgd"), global_batch_size=1)
    assert isinstance(optimizer, torch.optim.SGD)
    monkeypatch.setattr("cct_lightning.training.checks.is_sharded", lambda trainer: True)
    with pytest.raises(InputError, match="Sgd needs full matrices"):
        check_sharding(None, optimizer="sgd", ema_decay=None)  # type: ignore[arg-type]
    check_sharding(None, optimizer="my_lab.Lion", ema_decay=None)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("optimizer", "word"),
    [
        ("sgd", "choose adamw, muon, or the import path"),
        ("muom", "Did you mean 'muon'"),
        ("my_lab.Tiger", "Cannot import the optimizer"),
        ("torch.nn.Linear", "not a subclass of torch.optim"),
        ({"class_path": "adamw", "init_args": {"eps": 1}}, "takes no init_args"),
        ({"class_path": "my_lab.Lion", "init_args": {"beta": 1}}, "takes no argument 'beta'.* Did you mean 'betas'"),
        ({"class_path": "my_lab.Lion", "init_args": {"lr": 1}}, "gets its lr from the model"),
    ],
)
def test_bad_optimizers(optimizer: Any, word: str) -> None:
    with pytest.raises(InputError, match=word) as caught:
        build_optimizer(create_model("cct_2_3x1"), Optim(optimizer=optimizer), global_batch_size=1)
    assert "\n" not in str(caught.value)


def test_options_are_read_without_torch() -> None:
    import subprocess

    code = "import sys, cct_lightning.training.optim.options; sys.exit('torch' in sys.modules)"
    assert options.__file__ is not None
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


@pytest.mark.parametrize("first", ["class", "arguments"])
@pytest.mark.parametrize("recipe", ["digits", "mine.yaml"])
def test_its_arguments_on_the_command_line(
    recipe: str, first: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("mine.yaml").write_text("base: digits\nmodel:\n  optim:\n    optimizer: my_lab.Lion\n")
    words = ["--config", recipe, "--model.loss", "bce"]
    chosen = ["--model.optim.optimizer", "my_lab.Lion"] if recipe == "digits" else []
    arguments = ["--model.optim.optimizer.betas", "[0.8, 0.95]"]
    found = parse("fit", [*words, *(chosen + arguments if first == "class" else arguments + chosen)])
    assert found.model.optim.optimizer == {"class_path": "my_lab.Lion", "init_args": {"betas": [0.8, 0.95]}}
    assert found.model.loss == "bce"
