"""The learning rate over the optimizer steps of a run: warm-up, decay, cool-down.

Cosine: Loshchilov & Hutter, arXiv 1608.03983; linear warm-up: Goyal et al., arXiv 1706.02677; the cool-down at the
smallest rate is timm's.
"""

import math
from typing import Any

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from cct_lightning.errors import InputError
from cct_lightning.training.optim.options import Optim


def check_epochs(optim: Optim, *, epochs: int) -> None:
    """Check that warm-up and cool-down leave something of the run.

    Args:
        optim: The options.
        epochs: Epochs of the whole run, warm-up and cool-down included.

    Raises:
        InputError: They do not, or the run has no epoch.
    """
    if epochs < 1:
        raise InputError(f"A run of {epochs} epochs trains nothing: --trainer.max_epochs must be at least 1.")
    if optim.warmup_epochs + optim.cooldown_epochs >= epochs:
        raise InputError(
            f"A warm-up of {optim.warmup_epochs:g} and a cool-down of {optim.cooldown_epochs:g} epochs leave nothing "
            f"of a run of {epochs} epochs: shorten them (--model.optim.warmup_epochs, cooldown_epochs) or train longer "
            "(--trainer.max_epochs)."
        )


def build_schedule(optimizer: Optimizer, optim: Optim, *, steps_per_epoch: int, epochs: int) -> LambdaLR:
    """Build the schedule of a run, to be stepped after every optimizer step.

    Every parameter group follows the same curve, scaled by its own rate.

    Args:
        optimizer: What `build_optimizer` returned for `optim`.
        optim: The options.
        steps_per_epoch: Optimizer steps an epoch, accumulation counted out.
        epochs: Epochs of the whole run, warm-up and cool-down included.

    Raises:
        InputError: No step to take, or a warm-up and cool-down as long as the run.
    """
    check_epochs(optim, epochs=epochs)
    if steps_per_epoch < 1:
        raise InputError(
            "An epoch without one whole optimizer step trains nothing: use a smaller batch (--data.batch_size) or less "
            "accumulation (--trainer.accumulate_grad_batches)."
        )
    total = steps_per_epoch * epochs
    warmup = round(steps_per_epoch * optim.warmup_epochs)
    cooldown = total - round(steps_per_epoch * optim.cooldown_epochs)  # its first step
    start, end = optim.warmup_lr / optim.lr, optim.min_lr / optim.lr

    def factor(step: int) -> float:
        if step < warmup:
            return start + (1 - start) * step / warmup
        if step >= cooldown and optim.cooldown_epochs > 0:
            return end
        done = min(1.0, (step - warmup) / max(1, cooldown - warmup))  # of the decay, from 0 to 1
        share = {"cosine": (1 + math.cos(math.pi * done)) / 2, "linear": 1 - done, "constant": 1.0}[optim.schedule]
        return end + (1 - end) * share

    return LambdaLR(optimizer, factor)


def options_of(optimizer: Optimizer) -> list[dict[str, Any]]:
    """Return what the groups of an optimizer with a schedule were built with: all but parameters and the rate now."""
    groups = optimizer.param_groups
    return [{key: value for key, value in group.items() if key not in ("params", "lr")} for group in groups]


def apply_options(optimizer: Optimizer, schedule: LambdaLR, options: list[dict[str, Any]]) -> str:
    """Give an optimizer and its schedule the options of this run: a checkpoint restores those of its own.

    Args:
        optimizer: As restored.
        schedule: As restored.
        options: What `options_of` returned before.

    Returns:
        What has changed, such as `lr 0.001 (was 0.003)`; empty where nothing has.
    """
    changed: dict[str, str] = {}
    groups = optimizer.param_groups
    for group, ours in zip(groups, options, strict=True):
        for key in ("initial_lr", "weight_decay", "betas", "eps", "momentum"):
            if group.get(key) != ours.get(key):
                changed.setdefault(key, f"{key.removeprefix('initial_')} {ours.get(key)} (was {group.get(key)})")
        group |= ours
    schedule.base_lrs = [group["initial_lr"] for group in groups]
    # The restored rate lies on the curve of another run where its length or warm-up has changed, too.
    rates = [
        base * factor(schedule.last_epoch) for base, factor in zip(schedule.base_lrs, schedule.lr_lambdas, strict=True)
    ]
    for group, rate in zip(groups, rates, strict=True):
        group["lr"] = rate
    schedule._last_lr = rates
    return ", ".join(changed.values())
