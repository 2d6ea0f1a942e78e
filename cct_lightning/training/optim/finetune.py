"""Fine-tuning: a head that learns faster, a backbone that is frozen or learns the slower the earlier its layers are.

Sources: layer-wise decay of the learning rate as in BEiT (Bao et al., arXiv 2106.08254) and MAE (He et al.,
arXiv 2111.06377), where layer 0 is the embedding of the image, layer i + 1 block i, and the last layer what follows.
"""

import itertools
import math
import re
from dataclasses import dataclass
from typing import Any

from torch import nn

from cct_lightning.errors import InputError
from cct_lightning.models.compact import CompactTransformer
from cct_lightning.models.weights.pretrained import head_of
from cct_lightning.training.optim.groups import Groups

# The blocks of the baselines, which are registered in the order in which they are passed.
_BLOCKS = (
    re.compile(r"encoder\.layers\.encoder_layer_\d+"),  # torchvision's ViT
    re.compile(r"layer\d+\.\d+"),  # ResNets: layer1.0, layer1.1, layer2.0, ...
    re.compile(r"features\.\d+"),  # MobileNetV2: features.0 is the stem
    re.compile(r"blocks\.\d+"),  # timm's ViT
)


@dataclass(frozen=True, kw_only=True)
class FineTune:
    """How the learning rate differs within a model that starts from trained weights; the defaults change nothing.

    Args:
        head_lr_scale: Factor of the head's learning rate; 10 for instance, since the head starts from nothing.
        layer_decay: Factor of the learning rate per layer; once for each layer between a parameter and the last one.
            0.75 is usual for transformers, 1 is off.
        freeze_backbone: Train the head alone.

    Raises:
        InputError: A value out of its range.
    """

    head_lr_scale: float = 1.0
    layer_decay: float = 1.0
    freeze_backbone: bool = False

    def __post_init__(self) -> None:
        if not 0 < self.head_lr_scale < math.inf:
            raise InputError(f"head_lr_scale is {self.head_lr_scale}: it must be a positive number.")
        if not 0 < self.layer_decay <= 1:
            raise InputError(f"layer_decay is {self.layer_decay}: it must be above 0 and at most 1 (1 is off).")


def layer_of(name: str, depth: int) -> int:
    """Return the layer of a parameter of a `CompactTransformer` with `depth` encoder layers, by its name.

    0 for tokenizer, position embedding and class token, i + 1 for block i, depth + 1 for all that follows (norm, pool,
    head).
    """
    if block := re.match(r"encoder\.blocks\.(\d+)\.", name):
        return int(block[1]) + 1
    return 0 if name.startswith(("tokenizer.", "position.")) or name == "pool.token" else depth + 1


def layers(net: nn.Module) -> dict[str, int]:
    """Return the layer of every parameter of a net, 0 for the first.

    The net is a `CompactTransformer`, a baseline, or a model of yours with a method `layer_of(name: str) -> int`.

    Raises:
        InputError: Nothing tells the order of the layers.
    """
    names = [name for name, _ in net.named_parameters()]
    own = getattr(net, "layer_of", None)
    if callable(own):
        return {name: own(name) for name in names}
    if isinstance(net, CompactTransformer):
        return {name: layer_of(name, net.arch.depth) for name in names}
    for pattern in _BLOCKS:
        blocks = {name: found[0] if (found := pattern.match(name)) else "" for name in names}
        if any(blocks.values()):
            # What is registered before the blocks is the stem, what comes after them the end.
            runs = itertools.groupby(names, key=blocks.__getitem__)
            return {name: layer for layer, (_, run) in enumerate(runs) for name in run}
    raise InputError(
        f"layer_decay needs to know the order of the layers of {type(net).__name__}: give it a method "
        "layer_of(name: str) -> int, 0 for the first layer, or leave layer_decay at 1."
    )


def with_layer_rates(groups: Groups, net: nn.Module, *, lr: float, finetune: FineTune) -> Groups:
    """Split the parameter groups of a net by learning rate; `lr` is the peak rate of the last layer.

    Each new group has its own `lr` and otherwise the options of the group that it comes from, and is named by layer
    (`decay.layer3`) or head (`no_decay.head`). Where `finetune` changes nothing, the groups are returned as they are.
    """
    if finetune.head_lr_scale == 1 and finetune.layer_decay == 1:
        return groups
    head = f"{head_of(net)}."
    number = layers(net) if finetune.layer_decay < 1 else {}
    last = max(number.values(), default=0)
    split: dict[str, dict[str, Any]] = {}
    for group in groups:
        base = group.get("lr", lr)  # a group may have a rate of its own (Muon's matrices)
        for name, parameter in group["params"]:
            layer = number.get(name, last)
            if name.startswith(head):
                key, rate = f"{group['name']}.head", base * finetune.head_lr_scale
            else:
                key = f"{group['name']}.layer{layer}" if number else group["name"]
                rate = base * finetune.layer_decay ** (last - layer)
            split.setdefault(key, {**group, "name": key, "params": [], "lr": rate})["params"].append((name, parameter))
    return list(split.values())
