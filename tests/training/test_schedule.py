"""The rate at every step of small runs."""

import io
import math
from typing import Any

import pytest
import torch
from torch import nn

from cct_lightning.errors import InputError
from cct_lightning.training.optim import Optim
from cct_lightning.training.optim.optimizers import build_optimizer
from cct_lightning.training.optim.schedule import build_schedule

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
