"""Optimizers by name, and `build_optimizer`: what trains with which rate and which decay.

AdamW (Loshchilov & Hutter, arXiv 1711.05101) for everything, or Muon for the hidden matrices beside it (`muon.py`).
Another one is one entry of `OPTIMIZERS`; a class of yours needs none, its import path is enough.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn
from torch.optim import Optimizer

from cct_lightning.compat import unscale_outside
from cct_lightning.errors import InputError, nearest
from cct_lightning.models.parts import PartSpec, build_part, split_spec
from cct_lightning.system.importing import import_class
from cct_lightning.training.optim.finetune import FineTune, with_layer_rates
from cct_lightning.training.optim.groups import Groups, parameter_groups
from cct_lightning.training.optim.muon import MuonAdamW, split_off_matrices
from cct_lightning.training.optim.options import Optim


@dataclass(frozen=True, kw_only=True)
class OptimizerEntry:
    """How an optimizer is built.

    Args:
        build: Builds it from parameter groups, whose `lr` and `weight_decay` win, and options, `lr_scaling` applied.
        split: Makes groups of the parameters that it treats in another way; None: there are none.
        needs_full_weights: It cannot train weights of which each device holds a piece (FSDP).
    """

    build: Callable[[Groups, Optim], Optimizer]
    split: Callable[[Groups, nn.Module, Optim], Groups] | None = None
    needs_full_weights: bool = False


def _adamw(groups: Groups, optim: Optim) -> Optimizer:
    # The fused kernel exists on every device type that the Trainer drives here, CPU included.
    return torch.optim.AdamW(groups, lr=optim.lr, betas=optim.betas, eps=optim.eps, fused=True)


def _muon(groups: Groups, optim: Optim) -> Optimizer:
    return MuonAdamW(groups, lr=optim.lr, betas=optim.betas, eps=optim.eps, momentum=optim.muon_momentum)


OPTIMIZERS: dict[str, OptimizerEntry] = {
    "adamw": OptimizerEntry(build=_adamw),
    "muon": OptimizerEntry(build=_muon, split=split_off_matrices, needs_full_weights=True),
}


def find_optimizer(spec: PartSpec) -> OptimizerEntry:
    """Return how an optimizer is built, for a name in `OPTIMIZERS` or a subclass of `torch.optim.Optimizer`.

    Such a class is given by its import path, also as a dict of `class_path` and `init_args`. It gets `params`, the
    groups with their weight decay, `lr`, and what `init_args` hold: the other options are those of AdamW and Muon.

    Raises:
        InputError: No such optimizer, or arguments for a built-in one.
    """
    name, arguments = split_spec("optimizer", spec)
    if name in OPTIMIZERS:
        if arguments:
            raise InputError(f"The optimizer {name!r} takes no init_args: set its options with --model.optim.")
        return OPTIMIZERS[name]
    if "." not in name:
        raise InputError(
            f"optim.optimizer is {name!r}: choose {', '.join(OPTIMIZERS)}, or the import path of a class of yours."
            f"{nearest(name, OPTIMIZERS)}"
        )
    import_class(name, "optimizer", Optimizer)  # what cannot be imported is found before data and model are built
    return OptimizerEntry(
        build=lambda groups, optim: build_part("optimizer", spec, {}, Optimizer, params=groups, lr=optim.lr)
    )


def build_optimizer(
    net: nn.Module, optim: Optim, *, global_batch_size: int, finetune: FineTune | None = None
) -> Optimizer:
    """Build the one optimizer of a run; its groups carry `name` and `param_names`.

    Args:
        net: What to train.
        optim: The options.
        global_batch_size: Samples of one optimizer step, over all devices and accumulated batches.
        finetune: How the rate differs within the net; None: nowhere.

    Raises:
        InputError: No such optimizer, nothing to train, no matrix for Muon, or a net whose layers have no known order.
    """
    entry, optim = find_optimizer(optim.optimizer), optim.scaled(global_batch_size)
    groups = parameter_groups(net, weight_decay=optim.weight_decay)
    if entry.split is not None:
        groups = entry.split(groups, net, optim)
    if finetune is not None:
        groups = with_layer_rates(groups, net, lr=optim.lr, finetune=finetune)
    optimizer = entry.build(groups, optim)
    unscale_outside(optimizer)
    return optimizer
