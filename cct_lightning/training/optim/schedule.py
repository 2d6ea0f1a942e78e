"""The learning rate over the optimizer steps of a run: warm-up, decay, cool-down.

Cosine: Loshchilov & Hutter, arXiv 1608.03983; linear warm-up: Goyal et al., arXiv 1706.02677; the cool-down at the
smallest rate is timm's.
"""

import functools
import math
from collections.abc import Callable
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Timer
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from cct_lightning.compat import set_rates
from cct_lightning.errors import InputError
from cct_lightning.training.optim.options import Optim

Share = Callable[[], float]  # of a run's time, from 0 to 1


def check_epochs(optim: Optim, *, epochs: float) -> None:
    """Check that warm-up and cool-down leave something of the whole run's epochs, which include them.

    Raises:
        InputError: They do not, or the run has no step.
    """
    if epochs <= 0:
        raise InputError(f"A run of {epochs:g} epochs trains nothing: --trainer.max_epochs must be at least 1.")
    if optim.warmup_epochs + optim.cooldown_epochs >= epochs:
        raise InputError(
            f"A warm-up of {optim.warmup_epochs:g} and a cool-down of {optim.cooldown_epochs:g} epochs leave nothing "
            f"of a run of {epochs:g} epochs: shorten them (--model.optim.warmup_epochs, cooldown_epochs) or train "
            "longer (--trainer.max_epochs, max_steps)."
        )


def run_length(trainer: pl.Trainer) -> tuple[float, int]:
    """Return the optimizer steps of a whole run, infinite where only time limits it, and those of an epoch.

    Raises:
        InputError: Nothing limits the run.
    """
    trainer.fit_loop.setup_data()  # or the number of batches is not known yet
    batches, steps = trainer.num_training_batches, trainer.estimated_stepping_batches
    if trainer.max_epochs == 0 or (math.isinf(steps) and time_share(trainer) is None):
        raise InputError("A schedule needs the length of the run: give --trainer.max_epochs, max_steps or max_time.")
    # Lightning says infinite where no batch is to be trained, too.
    return steps, math.ceil(batches / trainer.accumulate_grad_batches) if math.isfinite(batches) else 0


def time_share(trainer: pl.Trainer) -> Share | None:
    """Return what tells the share of a run's time that is over; None where time does not limit it.

    The time of a run that was stopped and continued counts from its beginning. It is that of the first process, or
    processes would train with different rates.
    """
    timers = (callback for callback in trainer.callbacks if isinstance(callback, Timer))  # type: ignore[attr-defined]
    timer = next((timer for timer in timers if timer.time_remaining() is not None), None)
    if timer is None:
        return None

    def share() -> float:
        elapsed, left = timer.time_elapsed(), timer.time_remaining() or 0.0
        return float(trainer.strategy.broadcast(elapsed / (elapsed + left) if elapsed + left else 1.0))

    return share


def build_schedule(
    optimizer: Optimizer, optim: Optim, *, steps: float, steps_per_epoch: int, time_share: Share | None = None
) -> LambdaLR:
    """Build the schedule of a run, to be stepped after every optimizer step.

    Every parameter group follows the same curve, scaled by its own rate. Where time limits the run, the curve is as
    long as the run will be at its pace so far, or `steps` where that is shorter: it follows the larger of the shares
    of steps and time, and is at `min_lr` when the time is up. The rates then depend on the clock: no two such runs
    have the same weights, nor does one that was stopped and continued have those of one that was not. The warm-up
    takes its epochs also where the time ends before them.

    Args:
        optimizer: What `build_optimizer` returned for `optim`.
        optim: The options.
        steps: Optimizer steps of the whole run, warm-up and cool-down included; infinite where only time limits it.
        steps_per_epoch: Optimizer steps an epoch, accumulation counted out.
        time_share: Returns the share of the run's time that is over; None: time does not limit the run.

    Raises:
        InputError: No step to take, or a warm-up and cool-down as long as the run.
    """
    if steps_per_epoch < 1:
        raise InputError(
            "An epoch without one whole optimizer step trains nothing: use a smaller batch (--data.batch_size) or less "
            "accumulation (--trainer.accumulate_grad_batches)."
        )
    check_epochs(optim, epochs=steps / steps_per_epoch)
    warmup, cooldown = (round(steps_per_epoch * epochs) for epochs in (optim.warmup_epochs, optim.cooldown_epochs))
    start, end = optim.warmup_lr / optim.lr, optim.min_lr / optim.lr

    @functools.lru_cache(maxsize=1)  # of all groups, or the clock would give each another rate
    def length(step: int) -> float:
        share = time_share() if time_share is not None else 0.0
        return min(steps, step / share) if share > 0 else steps

    def factor(step: int) -> float:
        if step < warmup:
            return start + (1 - start) * step / warmup
        last = length(step) - cooldown
        if step >= last and cooldown > 0:
            return end
        done = min(1.0, (step - warmup) / max(1, last - warmup))  # of the decay, from 0 to 1
        share = {"cosine": (1 + math.cos(math.pi * done)) / 2, "linear": 1 - done, "constant": 1.0}[optim.schedule]
        return end + (1 - end) * share

    return LambdaLR(optimizer, factor)


def apply_options(optimizer: Optimizer, schedule: LambdaLR, options: list[dict[str, Any]]) -> str:
    """Give a restored optimizer and its restored schedule the options of this run.

    `options` holds what each group was built with, `initial_lr` included: all but parameters and the rate now. Returned
    is what has changed, such as `lr 0.001 (was 0.003)`; empty where nothing has.
    """
    changed: dict[str, str] = {}
    for group, ours in zip(optimizer.param_groups, options, strict=True):
        for key in ("initial_lr", "weight_decay", "betas", "eps", "momentum"):
            if group.get(key) != ours.get(key):
                changed.setdefault(key, f"{key.removeprefix('initial_')} {ours.get(key)} (was {group.get(key)})")
        group |= ours
    schedule.base_lrs = [group["initial_lr"] for group in optimizer.param_groups]
    # The restored rate is on the curve of another run where its length or warm-up has changed, too.
    curves = zip(schedule.base_lrs, schedule.lr_lambdas, strict=True)
    set_rates(schedule, [base * factor(schedule.last_epoch) for base, factor in curves])
    return ", ".join(changed.values())
