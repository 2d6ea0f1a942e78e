"""Options of optimizer and schedule. This file imports no torch, so that configurations are read at once."""

import dataclasses
import math
from dataclasses import dataclass
from typing import Any, Literal, get_args

from cct_lightning.errors import InputError
from cct_lightning.models.parts import PartSpec, plain_spec

Schedule = Literal["cosine", "linear", "constant"]
Scaling = Literal["none", "linear", "sqrt"]


@dataclass(frozen=True, kw_only=True)
class Optim:
    """Optimizer and learning-rate schedule.

    The defaults are the published 200-epoch recipe. Epochs may be fractions; the rate moves with every optimizer step.

    Args:
        optimizer: `adamw`, `muon` or an import path. `muon` is Muon for the hidden matrices and AdamW for all else
            (biases, norms, tokens, position embedding, head); the path is that of a subclass of
            `torch.optim.Optimizer`, with class_path and init_args where it takes more than `params` and `lr`.
        lr: Peak learning rate, for a global batch of `base_batch_size` where `lr_scaling` is on.
        weight_decay: Decoupled weight decay, of matrices and convolutions; norms, biases, class token and position
            embedding have none.
        betas: Decay rates of AdamW's two moments.
        eps: Added to AdamW's denominator.
        muon_lr: Peak rate of the Muon matrices; scaled as `lr` is. None: `lr`, since Muon's updates are
            brought to the size of AdamW's (0.2 sqrt(max(rows, columns))).
        muon_momentum: Muon's (Nesterov) momentum.
        schedule: Decay: `cosine`, `linear` or `constant`. From `lr` to `min_lr`, between warm-up and cool-down;
            `constant` has none.
        warmup_epochs: Epochs of linear rise to `lr`, from `warmup_lr`.
        warmup_lr: Rate of the first step; scaled as `lr` is.
        cooldown_epochs: Last epochs of the run, at `min_lr`.
        min_lr: Rate at the end of the decay; scaled as `lr` is.
        lr_scaling: Scaling: `none`, `linear` or `sqrt`. Of the rates, with the global batch size over
            `base_batch_size`; `sqrt` is usual for Adam.
        base_batch_size: Global batch size that `lr` is meant for; used by `lr_scaling` alone.

    Raises:
        InputError: A value out of its range.
    """

    optimizer: PartSpec = "adamw"
    lr: float = 5e-4
    weight_decay: float = 3e-2
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8
    muon_lr: float | None = None
    muon_momentum: float = 0.95
    schedule: Schedule = "cosine"
    warmup_epochs: float = 10.0
    warmup_lr: float = 1e-6
    cooldown_epochs: float = 0.0
    min_lr: float = 0.0
    lr_scaling: Scaling = "none"
    base_batch_size: int = 128

    def __post_init__(self) -> None:
        object.__setattr__(self, "optimizer", plain_spec("optimizer", self.optimizer))
        for name, allowed in (("schedule", get_args(Schedule)), ("lr_scaling", get_args(Scaling))):
            if getattr(self, name) not in allowed:
                raise InputError(f"optim.{name} is {getattr(self, name)!r}: choose {', '.join(allowed)}.")
        for names, in_range, rule in (
            ("lr eps muon_lr base_batch_size", lambda x: 0 < x < math.inf, "a positive number"),
            ("weight_decay warmup_epochs cooldown_epochs", lambda x: 0 <= x < math.inf, "zero or a positive number"),
            ("warmup_lr min_lr", lambda x: 0 <= x <= self.lr, f"between 0 and lr ({self.lr})"),
            ("betas muon_momentum", lambda x: 0 <= x < 1, "a decay rate of at least 0 and below 1"),
        ):
            for name in names.split():
                given = getattr(self, name)
                for value in given if isinstance(given, (tuple, list)) else [given]:
                    if value is not None and not in_range(value):
                        raise InputError(f"optim.{name} is {value}: it must be {rule}.")

    def for_a_trial(self) -> "Optim":
        """Return these options without warm-up and cool-down, for `fast_dev_run`: one epoch of a few batches."""
        return dataclasses.replace(self, warmup_epochs=0.0, cooldown_epochs=0.0)

    def scaled(self, global_batch_size: int) -> "Optim":
        """Return the rates used with this global batch size: `lr_scaling` applied, and set to `none`."""
        ratio = global_batch_size / self.base_batch_size
        factor = {"none": 1.0, "linear": ratio, "sqrt": math.sqrt(ratio)}[self.lr_scaling]
        rates = {name: getattr(self, name) for name in ("lr", "muon_lr", "warmup_lr", "min_lr")}
        new: dict[str, Any] = {name: rate * factor for name, rate in rates.items() if rate is not None}
        return dataclasses.replace(self, **new, lr_scaling="none")
