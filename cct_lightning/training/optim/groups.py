"""Parameter groups: which weights decay."""

from collections.abc import Iterator
from typing import Any

from torch import nn

from cct_lightning.errors import InputError
from cct_lightning.training.sharding import shape_of

Groups = list[dict[str, Any]]
"""As torch's optimizers take them: `params` with names, `name`, `weight_decay`, and `lr` where it is not the run's."""


def named_parameters(net: nn.Module) -> Iterator[tuple[str, nn.Parameter, bool]]:
    """Yield name, parameter and whether it decays, of every trainable parameter once."""
    exempt: set[str] = set()
    for prefix, module in net.named_modules():
        # timm's convention: a set of names or a method that returns one, here at any part of the net.
        declared: Any = getattr(module, "no_weight_decay", ())
        names = [*(declared() if callable(declared) else declared)]
        names += ["weight"] if isinstance(module, nn.Embedding) else []
        exempt.update(f"{prefix}.{name}" if prefix else name for name in names)
    for name, parameter in net.named_parameters():
        if parameter.requires_grad:
            leaf = name.rpartition(".")[2]
            plain = len(shape_of(parameter)) <= 1 or any(word in leaf for word in ("bias", "token", "embed"))
            yield name, parameter, not (plain or name in exempt)


def parameter_groups(net: nn.Module, *, weight_decay: float) -> Groups:
    """Split the trainable parameters of any module into `decay` and `no_decay`, without the group that is empty.

    Without decay: vectors and scalars (norms, biases, LayerScale), biases of any shape, class tokens, position and
    other embeddings, and what a part declares in timm's way: `no_weight_decay`, a set of its parameters' names (or a
    method that returns one).

    Raises:
        InputError: Nothing is trainable.
    """
    decay: dict[str, Any] = {"name": "decay", "params": [], "weight_decay": weight_decay}
    no_decay: dict[str, Any] = {"name": "no_decay", "params": [], "weight_decay": 0.0}
    for name, parameter, decays in named_parameters(net):
        (decay if decays else no_decay)["params"].append((name, parameter))
    groups = [group for group in (decay, no_decay) if group["params"]]
    if not groups:
        raise InputError("Nothing to train: every parameter of the model is frozen; unfreeze at least the head.")
    return groups
