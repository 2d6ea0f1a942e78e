"""Optimizers: what trains with which rate and which decay.

AdamW (Loshchilov & Hutter, arXiv 1711.05101) for everything, or Muon for the hidden matrices beside it (`muon.py`).
"""

from collections.abc import Iterator
from typing import Any

import torch
from torch import nn

from cct_lightning.errors import InputError
from cct_lightning.training.optim.finetune import FineTune, with_layer_rates
from cct_lightning.training.optim.muon import MuonAdamW
from cct_lightning.training.optim.options import Optim
from cct_lightning.training.sharding import shape_of


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
