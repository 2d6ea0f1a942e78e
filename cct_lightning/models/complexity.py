"""What a model costs (tokens, parameters, multiply-accumulates): by arithmetic from its name, or counted when built.

The arithmetic knows the built-in parts and needs no torch, so that `cct models` answers at once. Everything else (parts
and models of yours, baselines) is built and counted by `torch.utils.flop_counter`. Tests compare the two, to the unit.

Letters: (H, W) image, N tokens, D embedding dimension.
"""

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cct_lightning.models.arch import HIDDEN_CHANS, Arch, conv_grids, patch_grid

if TYPE_CHECKING:
    from torch import nn
    from torch.utils.flop_counter import FlopCounterMode


@dataclass(frozen=True)
class Costs:
    """What a model costs."""

    tokens: int | None  # length of the sequence, prefix included; None where it is not a Compact Transformer
    params: int  # trainable ones (a sine embedding has none)
    macs: int  # multiply-accumulates of the forward pass of one image, by convolutions and matrix products
    # The two products of attention where `macs` leaves them out, as the published tables do; None where it holds them.
    attention_macs: int | None = None


def _conv(arch: Arch) -> tuple[int, int, int]:
    grids = conv_grids(arch.img_size, kernel_size=arch.kernel_size, conv_blocks=arch.conv_blocks)
    chans = [arch.in_chans] + [HIDDEN_CHANS] * (arch.conv_blocks - 1) + [arch.embed_dim]
    params = macs = 0
    for block, (height, width) in enumerate(grids[::2]):
        weights = chans[block] * chans[block + 1] * arch.kernel_size**2
        params, macs = params + weights, macs + weights * height * width
    return grids[-1][0] * grids[-1][1], params, macs


def _patch(arch: Arch) -> tuple[int, int, int]:
    height, width = patch_grid(arch.img_size, arch.kernel_size)
    weights = arch.in_chans * arch.kernel_size**2 * arch.embed_dim
    return height * width, weights + arch.embed_dim, weights * height * width


# The arithmetic of the built-in parts. A part that is not here is built and counted.
# Tokenizer: Arch -> tokens, parameters, MACs.
TOKENIZER_COSTS: dict[str, Callable[[Arch], tuple[int, int, int]]] = {"conv": _conv, "patch": _patch}
# Pooling: tokens without the prefix, D -> prefix tokens, parameters, MACs.
POOL_COSTS: dict[str, Callable[[int, int], tuple[int, int, int]]] = {
    "seqpool": lambda tokens, dim: (0, dim + 1, 2 * dim * tokens),  # scores, weighted mean
    "class_token": lambda tokens, dim: (1, dim, 0),
    "mean": lambda tokens, dim: (0, 0, 0),
    "max": lambda tokens, dim: (0, 0, 0),
}
# Position embedding: tokens with the prefix, D -> parameters.
POSITION_COSTS: dict[str, Callable[[int, int], int]] = {
    "learnable": lambda tokens, dim: tokens * dim,
    "sine": lambda tokens, dim: 0,
    "none": lambda tokens, dim: 0,
}


def budget(arch: Arch) -> Costs:
    """Count what a Compact Transformer costs; it is built only where a part is not built-in.

    The counts agree with the published table with four exceptions. Its MACs hold one operation more for each value
    that passes a ReLU of the tokenizer, which shows in the last digit of CCT-7/3x2 (0.274G here, 0.275G there) and
    CCT-14/7x2 at 384 (15.01G, 15.02G). Its 3.168M parameters of CCT-6/3x1 are those of the sine variant (the learnable
    one has 3.234M), and its 22.36M of CCT-14/7x2 at 224 are cut off, not rounded (22.367M).

    Raises:
        InputError: Parts that do not fit each other or the image.
    """
    tokenizer, pool, position = str(arch.tokenizer), str(arch.pool), str(arch.position)
    if not (tokenizer in TOKENIZER_COSTS and pool in POOL_COSTS and position in POSITION_COSTS):
        return _built(arch)  # a part of the user's, perhaps with arguments
    dim, layers = arch.embed_dim, arch.depth
    tokens, params, macs = TOKENIZER_COSTS[tokenizer](arch)
    prefix, pool_params, pool_macs = POOL_COSTS[pool](tokens, dim)
    tokens += prefix
    hidden = int(dim * arch.mlp_ratio)
    matrices = 4 * dim * dim + 2 * dim * hidden  # qkv, proj; the two layers of the MLP
    vectors = dim + hidden + dim + 4 * dim  # biases of proj and MLP, two LayerNorms
    encoder, head = layers * (matrices + vectors) + 2 * dim, dim * arch.num_classes
    params += pool_params + POSITION_COSTS[position](tokens, dim) + encoder + head + arch.num_classes
    macs += pool_macs + layers * matrices * tokens + head
    return Costs(tokens, params, macs, _attention_macs(arch, tokens))


def _attention_macs(arch: Arch, tokens: int) -> int:
    return 2 * arch.depth * tokens**2 * arch.embed_dim


def _built(arch: Arch) -> Costs:
    import torch

    from cct_lightning.models.compact import CompactTransformer

    with torch.random.fork_rng(devices=[]):  # to count draws no random number of the caller's
        model = CompactTransformer(arch)
    attention = _attention_macs(arch, model.num_tokens(arch.img_size))
    found = summarize(model, arch.img_size, arch.in_chans)
    return dataclasses.replace(found, macs=found.macs - attention, attention_macs=attention)


def summarize(model: "nn.Module", img_size: tuple[int, int], in_chans: int) -> Costs:
    """Count the costs of one image in a built model, attention included; its weights, mode and device stay as they are.

    Args:
        model: Any model from images (B, C, H, W) to logits; it is counted in evaluation mode.
        img_size: (H, W) in pixels.
        in_chans: Channels C of the images.
    """
    from cct_lightning.models.compact import CompactTransformer, evaluating

    with evaluating(model):
        macs = count_operations(model, (1, in_chans, *img_size)).get_total_flops() // 2
    params = sum(p.numel() for p in model.parameters() if p.requires_grad)
    return Costs(model.num_tokens(img_size) if isinstance(model, CompactTransformer) else None, params, macs)


def count_operations(model: "nn.Module", shape: tuple[int, ...]) -> "FlopCounterMode":
    """Return torch's counter of what a forward pass of inputs of a shape computes; two operations are one MAC."""
    import torch
    from torch.func import functional_call
    from torch.utils.flop_counter import FlopCounterMode

    own = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    shapes = {name: torch.empty_like(value, device="meta") for name, value in own.items()}
    dtype = next((value.dtype for value in own.values() if value.is_floating_point()), torch.float32)
    try:
        # The meta device computes shapes alone: a ViT-B costs milliseconds.
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            functional_call(model, shapes, (torch.empty(shape, dtype=dtype, device="meta"),))
    except (RuntimeError, NotImplementedError):
        # A user's model may make tensors on a device of its own, or look at values.
        device = next((value.device for value in own.values()), torch.device("cpu"))
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            model(torch.zeros(shape, dtype=dtype, device=device))
    return counter


Budget = Summary = Costs  # the names of version 0.1, until version 0.3
