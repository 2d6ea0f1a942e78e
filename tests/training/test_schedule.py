"""The rate at every step of small runs."""

import io
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback, Timer
from torch import nn
from training.small import classifier, digits, trainer

from cct_lightning.errors import InputError
from cct_lightning.training.optim import Optim
from cct_lightning.training.optim.optimizers import build_optimizer
from cct_lightning.training.optim.schedule import build_schedule, time_share

NET = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))


def rates(optim: Optim, *, steps_per_epoch: int, epochs: int, group: int = 0) -> list[float]:
    optimizer = build_optimizer(NET, optim, global_batch_size=128)
    schedule = build_schedule(optimizer, optim, steps=steps_per_epoch * epochs, steps_per_epoch=steps_per_epoch)
    found = []
    for _ in range(steps_per_epoch * epochs):
        found.append(optimizer.param_groups[group]["lr"])
        optimizer.step()
        schedule.step()
    return found


def test_warm_up_cosine_cool_down() -> None:
    optim = Optim(lr=1.0, warmup_epochs=2, warmup_lr=0.1, cooldown_epochs=3, min_lr=0.01)
    found = rates(optim, steps_per_epoch=10, epochs=20)
    assert found[0] == pytest.approx(0.1)
    assert found[10] == pytest.approx(0.55)
    assert found[20] == 1.0
    assert found[:21] == sorted(found[:21])
    middle = 20 + 150 // 2
    assert found[middle] == pytest.approx((1 + 0.01) / 2)
    assert found[20 + 50] == pytest.approx(0.01 + 0.99 * (1 + math.cos(math.pi / 3)) / 2)
    assert found[20:170] == sorted(found[20:170], reverse=True)
    assert found[170:] == pytest.approx([0.01] * 30)


def test_linear_ends_near_the_smallest_rate() -> None:
    found = rates(Optim(lr=1.0, warmup_epochs=0.5, schedule="linear"), steps_per_epoch=10, epochs=2)
    assert found[5:] == pytest.approx([1 - k / 15 for k in range(15)])


def test_constant_keeps_the_rate() -> None:
    found = rates(Optim(lr=1.0, warmup_epochs=0, schedule="constant"), steps_per_epoch=5, epochs=2)
    assert found == [1.0] * 10
    found = rates(
        Optim(lr=1.0, warmup_epochs=0, schedule="constant", cooldown_epochs=1, min_lr=0.1), steps_per_epoch=5, epochs=2
    )
    assert found == pytest.approx([1.0] * 5 + [0.1] * 5)


def test_every_group_follows_by_its_own_rate() -> None:
    optim = Optim(optimizer="muon", lr=1e-3, muon_lr=0.5, warmup_epochs=1, warmup_lr=1e-4)
    muon, adamw = (rates(optim, steps_per_epoch=4, epochs=3, group=group) for group in (0, 1))
    assert muon == pytest.approx([500 * rate for rate in adamw])


def test_scaled_rates_keep_the_curve() -> None:
    optim = Optim(lr=1e-3, warmup_lr=1e-4, warmup_epochs=1, min_lr=1e-5, lr_scaling="linear", base_batch_size=32)
    plain = Optim(lr=1e-3, warmup_lr=1e-4, warmup_epochs=1, min_lr=1e-5)
    assert rates(optim, steps_per_epoch=3, epochs=4) == pytest.approx(
        [4 * rate for rate in rates(plain, steps_per_epoch=3, epochs=4)]
    )


def test_resume_goes_on_where_it_stopped() -> None:
    optim = Optim(lr=1.0, warmup_epochs=1)
    whole = rates(optim, steps_per_epoch=3, epochs=4)
    optimizer = build_optimizer(NET, optim, global_batch_size=1)
    schedule = build_schedule(optimizer, optim, steps=12, steps_per_epoch=3)
    for _ in range(5):
        optimizer.step()
        schedule.step()
    file = io.BytesIO()
    torch.save([optimizer.state_dict(), schedule.state_dict()], file)
    file.seek(0)
    state = torch.load(file, weights_only=True)
    optimizer = build_optimizer(NET, optim, global_batch_size=1)
    schedule = build_schedule(optimizer, optim, steps=12, steps_per_epoch=3)
    optimizer.load_state_dict(state[0])
    schedule.load_state_dict(state[1])
    assert optimizer.param_groups[0]["lr"] == pytest.approx(whole[5])
    optimizer.step()
    schedule.step()
    assert optimizer.param_groups[0]["lr"] == pytest.approx(whole[6])


@pytest.mark.parametrize(
    ("options", "run", "word"),
    [
        ({"warmup_epochs": 10}, {"steps": 15}, "warm-up of 10"),
        ({"warmup_epochs": 5}, {"steps": 15}, "leave nothing"),
        ({"warmup_epochs": 2, "cooldown_epochs": 3}, {"steps": 15}, "cool-down of 3"),
        ({"warmup_epochs": 2}, {"steps": 5}, r"leave nothing of a run of 1\.66667 epochs"),
        ({}, {"steps": 0}, "trains nothing"),
        ({}, {"steps": 60, "steps_per_epoch": 0}, "whole optimizer step"),
    ],
)
def test_bad_runs(options: dict[str, Any], run: dict[str, Any], word: str) -> None:
    optim = Optim(**options)
    optimizer = build_optimizer(NET, optim, global_batch_size=1)
    with pytest.raises(InputError, match=word):
        build_schedule(optimizer, optim, **{"steps_per_epoch": 3, **run})


class Rates(Callback):
    """The rate of every optimizer step."""

    def __init__(self) -> None:
        self.found: list[float] = []

    def on_before_optimizer_step(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, optimizer: torch.optim.Optimizer
    ) -> None:
        self.found.append(optimizer.param_groups[0]["lr"])


def trained(folder: Path, optim: Optim, *callbacks: Callback, **options: Any) -> list[float]:
    """Train digits in epochs of 10 batches; return the rates."""
    data, kept = digits(16), Rates()
    trainer(folder, kept, *callbacks, batches=10, limit_val_batches=0, **options).fit(
        classifier(data, arch="cct_2_3x1", embed_dim=16, optim=optim), datamodule=data
    )
    return kept.found


@pytest.mark.parametrize(
    "options",
    [
        {"max_epochs": None, "max_steps": 25},
        {"max_epochs": -1, "max_steps": 25},
        {"max_epochs": 20, "max_steps": 25},
        {"max_epochs": None, "max_steps": 13, "accumulate_grad_batches": 2},
        {"max_epochs": 3},
    ],
)
def test_the_curve_is_as_long_as_the_run(options: dict[str, Any], tmp_path: Path) -> None:
    optim = Optim(lr=1e-3, warmup_epochs=1, warmup_lr=1e-4, schedule="linear")
    steps, epoch = options.get("max_steps", 30), 10 // options.get("accumulate_grad_batches", 1)
    found = trained(tmp_path, optim, **options)
    # The warm-up takes an epoch of the data, whatever ends the run; the decay takes the rest.
    warmup = [1e-4 + 9e-4 * step / epoch for step in range(epoch)]
    decay = [1e-3 * (1 - step / (steps - epoch)) for step in range(steps - epoch)]
    assert found == pytest.approx(warmup + decay)


class StepsAsSeconds(Timer):
    """A Timer for which each optimizer step takes a second."""

    steps = 0

    def time_elapsed(self, stage: str = "train") -> float:
        return float(self.steps)

    def on_before_zero_grad(self, *_: Any) -> None:
        self.steps += 1


@pytest.mark.parametrize("max_epochs", [-1, 100])
def test_the_curve_ends_when_the_time_does(max_epochs: int, tmp_path: Path) -> None:
    optim = Optim(lr=1e-3, warmup_epochs=0.5, warmup_lr=1e-4, min_lr=1e-5, schedule="linear")
    found = trained(tmp_path, optim, StepsAsSeconds("00:00:00:40"), max_epochs=max_epochs)
    warmup = [1e-4 + 9e-4 * step / 5 for step in range(5)]
    decay = [1e-5 + 99e-5 * (1 - step / 35) for step in range(35)]
    assert found == pytest.approx(warmup + decay)


def curve(optim: Optim, share: Callable[[int], float], *, steps: float, run: int) -> list[float]:
    """Return the rates of a run of 10 steps an epoch whose clock says so at each step."""
    now = [0]
    optimizer = build_optimizer(NET, optim, global_batch_size=1)
    schedule = build_schedule(optimizer, optim, steps=steps, steps_per_epoch=10, time_share=lambda: share(now[0]))
    found = []
    for step in range(run):
        now[0] = step + 1
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    return found


def test_the_larger_share_decides() -> None:
    optim = Optim(lr=1.0, warmup_epochs=0, schedule="linear")
    by_steps = [1 - step / 40 for step in range(40)]
    # Time for twice the steps, and for half of them.
    assert curve(optim, lambda step: step / 80, steps=40, run=40) == pytest.approx(by_steps)
    assert curve(optim, lambda step: step / 20, steps=40, run=20) == pytest.approx(by_steps[::2])
    # A slow first step, as with torch.compile, and a validation in the middle: the rate falls and does not rise again.
    uneven = curve(optim, lambda step: min(1.0, 0.2 + step / 100 + 0.3 * (step > 25)), steps=math.inf, run=60)
    assert uneven[1:] == sorted(uneven[1:], reverse=True)
    assert uneven[-1] == 0


def test_a_cool_down_before_the_time_is_up() -> None:
    optim = Optim(lr=1.0, warmup_epochs=1, cooldown_epochs=1, min_lr=0.1, schedule="constant")
    found = curve(optim, lambda step: step / 40, steps=math.inf, run=40)
    assert found[10:30] == [1.0] * 20
    assert found[30:] == pytest.approx([0.1] * 10)


def test_the_time_of_a_continued_run_counts_from_its_beginning(tmp_path: Path) -> None:
    timer = Timer("00:00:01:40")
    timer.load_state_dict({"time_elapsed": {"train": 25.0}})  # as from a checkpoint
    share = time_share(trainer(tmp_path, timer))
    assert share is not None
    assert share() == 0.25
    assert time_share(trainer(tmp_path, Timer())) is None


def test_every_group_has_the_rate_of_one_moment() -> None:
    clock = iter(range(1, 1000))
    optim = Optim(optimizer="muon", lr=1.0, muon_lr=1.0, warmup_epochs=0, schedule="linear")
    net = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    optimizer = build_optimizer(net, optim, global_batch_size=1)
    schedule = build_schedule(
        optimizer, optim, steps=math.inf, steps_per_epoch=10, time_share=lambda: next(clock) / 1000
    )
    for _ in range(5):
        optimizer.step()
        schedule.step()
        assert len({group["lr"] for group in optimizer.param_groups}) == 1


def test_a_run_without_a_length(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="needs the length"):
        trained(tmp_path, Optim(warmup_epochs=0), max_epochs=-1)
    with pytest.raises(InputError, match=r"leave nothing of a run of 0\.5 epochs"):
        trained(tmp_path, Optim(warmup_epochs=1), max_epochs=-1, max_steps=5)
