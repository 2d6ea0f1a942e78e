"""Optimizers: what trains with which rate and which decay.

AdamW (Loshchilov & Hutter, arXiv 1711.05101) for everything, or Muon for the hidden matrices beside it (`muon.py`).
"""

import dataclasses
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import nn

from cct_lightning.errors import InputError
from cct_lightning.training.finetune import FineTune, with_layer_rates
from cct_lightning.training.muon import MuonAdamW
from cct_lightning.training.sharding import shape_of


@dataclass(frozen=True, kw_only=True)
class Optim:
    """Optimizer and learning-rate schedule.

    The defaults are the published 200-epoch recipe. All epochs are epochs of the run, and may be fractions; the rate
    moves every optimizer step.

    Args:
        optimizer: `adamw`, or `muon`: Muon for the hidden matrices and AdamW for all else (biases, norms, tokens,
            position embedding, head).
        lr: Peak learning rate, for a global batch of `base_batch_size` where `lr_scaling` is on.
        weight_decay: Decoupled weight decay of matrices and convolutions; norms, biases, class token and position
            embedding have none.
        betas: Decay rates of AdamW's two moments.
        eps: Added to AdamW's denominator.
        muon_lr: Peak learning rate of the Muon matrices; scaled as `lr` is. None: `lr`, since Muon's updates are
            brought to the size of AdamW's (0.2 sqrt(max(rows, columns))).
        muon_momentum: Muon's (Nesterov) momentum.
        schedule: Decay from `lr` to `min_lr` between warm-up and cool-down: `cosine`, `linear`, or `constant` (none).
        warmup_epochs: Epochs of linear rise from `warmup_lr` to `lr`.
        warmup_lr: Rate of the first step; scaled as `lr` is.
        cooldown_epochs: Last epochs of the run, at `min_lr`; they count as epochs of the run.
        min_lr: Rate at the end of the decay; scaled as `lr` is.
        lr_scaling: With the global batch size over `base_batch_size`: `none`, `linear`, or `sqrt` (usual for Adam).
        base_batch_size: The global batch size that `lr` is meant for; used by `lr_scaling` alone.

    Raises:
        InputError: A value out of its range.
    """

    optimizer: Literal["adamw", "muon"] = "adamw"
    lr: float = 5e-4
    weight_decay: float = 3e-2
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8
    muon_lr: float | None = None
    muon_momentum: float = 0.95
    schedule: Literal["cosine", "linear", "constant"] = "cosine"
    warmup_epochs: float = 10.0
    warmup_lr: float = 1e-6
    cooldown_epochs: float = 0.0
    min_lr: float = 0.0
    lr_scaling: Literal["none", "linear", "sqrt"] = "none"
    base_batch_size: int = 128

    def __post_init__(self) -> None:
        choices = {
            "optimizer": ("adamw", "muon"),
            "schedule": ("cosine", "linear", "constant"),
            "lr_scaling": ("none", "linear", "sqrt"),
        }
        for name, allowed in choices.items():
            if getattr(self, name) not in allowed:
                raise InputError(f"optim.{name} is {getattr(self, name)!r}: choose {', '.join(allowed)}.")
        for name in ("lr", "eps", "muon_lr", "base_batch_size"):
            value = getattr(self, name)
            if value is not None and not 0 < value < math.inf:
                raise InputError(f"optim.{name} is {value}: it must be a positive number.")
        for name in ("weight_decay", "warmup_epochs", "cooldown_epochs"):
            if not 0 <= getattr(self, name) < math.inf:
                raise InputError(f"optim.{name} is {getattr(self, name)}: it must be zero or a positive number.")
        for name in ("warmup_lr", "min_lr"):
            if not 0 <= getattr(self, name) <= self.lr:
                raise InputError(f"optim.{name} is {getattr(self, name)}: it must lie between 0 and lr ({self.lr}).")
        for name, value in (("betas", self.betas[0]), ("betas", self.betas[1]), ("muon_momentum", self.muon_momentum)):
            if not 0 <= value < 1:
                raise InputError(f"optim.{name} holds {value}: a decay rate must be at least 0 and below 1.")

    def lr_factor(self, global_batch_size: int) -> float:
        """Return what `lr_scaling` multiplies every rate by.

        Args:
            global_batch_size: Samples of one optimizer step, over all devices and accumulated batches.
        """
        ratio = global_batch_size / self.base_batch_size
        return {"none": 1.0, "linear": ratio, "sqrt": math.sqrt(ratio)}[self.lr_scaling]

    def for_a_trial(self) -> "Optim":
        """Return these options without warm-up and cool-down, for `fast_dev_run`: one epoch of a few batches."""
        return dataclasses.replace(self, warmup_epochs=0.0, cooldown_epochs=0.0)

    def scaled(self, global_batch_size: int) -> "Optim":
        """Return the rates really used with this global batch size, `lr_scaling` applied and set to `none`."""
        factor = self.lr_factor(global_batch_size)
        return dataclasses.replace(
            self,
            lr=self.lr * factor,
            muon_lr=None if self.muon_lr is None else self.muon_lr * factor,
            warmup_lr=self.warmup_lr * factor,
            min_lr=self.min_lr * factor,
            lr_scaling="none",
        )


def _named_parameters(net: nn.Module) -> Iterator[tuple[str, nn.Parameter, bool]]:
    """Yield name, parameter and whether it decays, of every trainable parameter once."""
    exempt: set[str] = set()
    for prefix, module in net.named_modules():
        # timm's convention: a set of names or a method that returns one, here at any part of the net.
        declared: Any = getattr(module, "no_weight_decay", ())
        names = declared() if callable(declared) else declared
        exempt.update(f"{prefix}.{name}" if prefix else name for name in names)
        if isinstance(module, nn.Embedding):
            exempt.add(f"{prefix}.weight" if prefix else "weight")
    for name, parameter in net.named_parameters():
        if parameter.requires_grad:
            leaf = name.rpartition(".")[2]
            plain = len(shape_of(parameter)) <= 1 or any(word in leaf for word in ("bias", "token", "embed"))
            yield name, parameter, not (plain or name in exempt)


def parameter_groups(net: nn.Module, *, weight_decay: float) -> list[dict[str, Any]]:
    """Split a net's trainable parameters by weight decay, named, in the form that torch's optimizers take.

    Without decay: vectors and scalars (norms, biases, LayerScale), biases of any shape, class tokens, position and
    other embeddings, and what a part declares in timm's way: `no_weight_decay`, a set of its parameters' names (or a
    method that returns one).

    Args:
        net: Any module.
        weight_decay: Weight decay of the others.

    Returns:
        The groups `decay` and `no_decay`, those that are not empty.

    Raises:
        InputError: Nothing is trainable.
    """
    groups: dict[bool, list[tuple[str, nn.Parameter]]] = {True: [], False: []}
    for name, parameter, decays in _named_parameters(net):
        groups[decays].append((name, parameter))
    if not groups[True] and not groups[False]:
        raise InputError("Nothing to train: every parameter of the model is frozen; unfreeze at least the head.")
    return [
        {
            "name": "decay" if decays else "no_decay",
            "params": members,
            "weight_decay": weight_decay if decays else 0.0,
        }
        for decays, members in groups.items()
        if members
    ]


def muon_names(net: nn.Module) -> set[str]:
    """Return the names of the parameters that Muon trains: hidden matrices and convolutions.

    The head and everything that is not a matrix are AdamW's, as Muon's authors advise. Convolutions count as matrices,
    the tokenizer's first one included, which they would leave to AdamW (CCT-2/3x2, 3 epochs of CIFAR-10, one seed, on
    held-out images: 80.5 % with it, 79.8 % without). The head is the last linear layer of the net; a single row or
    column (SeqPool's scores) is a vector.
    """
    heads = [name for name, module in net.named_modules() if isinstance(module, nn.Linear)][-1:]
    return {
        name
        for name, parameter, decays in _named_parameters(net)
        if decays and parameter.ndim >= 2 and min(parameter.flatten(1).shape) > 1
        if name not in {f"{head}.weight" for head in heads}
    }


def build_optimizer(
    net: nn.Module, optim: Optim, *, global_batch_size: int, finetune: FineTune | None = None
) -> torch.optim.Optimizer:
    """Build the one optimizer of a run.

    Args:
        net: What to train.
        optim: The options.
        global_batch_size: Samples of one optimizer step, over all devices and accumulated batches.
        finetune: How the rate differs within the net; None: nowhere.

    Returns:
        AdamW, or `MuonAdamW`; its groups carry `name` and `param_names`.

    Raises:
        InputError: Nothing to train, no matrix for Muon, or a net whose layers have no known order.
    """
    optim = optim.scaled(global_batch_size)
    groups = parameter_groups(net, weight_decay=optim.weight_decay)
    if optim.optimizer == "muon":
        groups = _with_muon(groups, net, optim)
    if finetune is not None:
        groups = with_layer_rates(groups, net, lr=optim.lr, finetune=finetune)
    options: dict[str, Any] = {"lr": optim.lr, "betas": optim.betas, "eps": optim.eps}
    if optim.optimizer == "muon":
        optimizer: torch.optim.Optimizer = MuonAdamW(groups, momentum=optim.muon_momentum, **options)
    else:
        # The fused kernel exists on every device type that the Trainer drives here, CPU included.
        optimizer = torch.optim.AdamW(groups, fused=True, **options)
    # Lightning refuses to clip under float16 where the optimizer unscales by itself, as fused AdamW offers to do.
    optimizer._step_supports_amp_scaling = False  # type: ignore[attr-defined]
    return optimizer


def _with_muon(groups: list[dict[str, Any]], net: nn.Module, optim: Optim) -> list[dict[str, Any]]:
    names = muon_names(net)
    matrices = [(name, p) for group in groups for name, p in group["params"] if name in names]
    if not matrices:
        raise InputError("Muon trains hidden matrices and this model has none: use --model.optim.optimizer adamw.")
    for group in groups:
        group["params"] = [(name, p) for name, p in group["params"] if name not in names]
    muon = {"name": "muon", "params": matrices, "weight_decay": optim.weight_decay, "muon": True}
    muon["lr"] = optim.lr if optim.muon_lr is None else optim.muon_lr
    return [muon, *(group for group in groups if group["params"])]
