"""What every analysis needs: a checked model, and the inputs and outputs of modules on the way.

Letters: B batch, C channels, (H, W) image, (h, w) grid of tokens, P prefix tokens, N = P + h*w tokens, D dimension.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, Literal, cast

import torch
from torch import Tensor, nn

from cct_lightning.errors import InputError
from cct_lightning.models.compact import CompactTransformer
from cct_lightning.models.compact import evaluating as evaluating
from cct_lightning.models.encoder import Block
from cct_lightning.models.position import Grid


def compact(net: nn.Module) -> CompactTransformer:
    """Return the Compact Transformer that token analyses need, or raise an InputError where the model is another."""
    if isinstance(net, CompactTransformer):
        return net
    if isinstance(inner := getattr(net, "net", None), CompactTransformer):  # a LightningModule around the model
        return inner
    raise InputError(
        f"{type(net).__name__} has no tokens to look at: give a model of create_model named cct_..., cvt_... or "
        "vit_..., or use input_gradient and smooth_grad, which work with every network."
    )


def ready(net: nn.Module, images: Tensor) -> Tensor:
    """Return the images on the device and in the dtype of the network.

    Raises:
        InputError: Not a batch, not normalized, or another number of channels than the network reads.
    """
    if images.ndim != 4:
        raise InputError(f"Expected a batch of images (B, C, H, W), got a tensor of shape {tuple(images.shape)}.")
    if not images.is_floating_point():
        raise InputError(f"The images are {images.dtype}: normalize them as in training first (Augment.normalize).")
    if isinstance(net, CompactTransformer) and images.shape[1] != net.arch.in_chans:
        raise InputError(f"The images have {images.shape[1]} channels, the model reads {net.arch.in_chans}.")
    weight = next(net.parameters())
    return images.to(weight.device, weight.dtype)


def blocks_of(net: CompactTransformer) -> list[Block]:
    """Return the encoder's layers, the first one first."""
    return [cast(Block, block) for block in net.encoder.blocks]


@contextmanager
def capturing(modules: Iterable[nn.Module], take: Callable[[Any, Tensor, Tensor], Any]) -> Iterator[list[Any]]:
    """Collect `take(module, input, output)` of each module in the order of the calls."""
    found: list[Any] = []

    def hook(module: nn.Module, args: tuple[Any, ...], output: Tensor) -> None:
        found.append(take(module, args[0], output))

    with ExitStack() as handles:
        for module in modules:
            handles.enter_context(module.register_forward_hook(hook))
        yield found


def grid_of(net: CompactTransformer, images: Tensor) -> Grid:
    """Return the token grid (h, w) of these images (B, C, H, W)."""
    return net.tokenizer.grid((images.shape[-2], images.shape[-1]))


def on_grid(weights: Tensor, grid: Grid) -> Tensor:
    """Drop the prefix of weights (B, N), let the rest sum to one again, and lay it on the grid (B, h, w)."""
    inside = weights[:, weights.shape[1] - grid[0] * grid[1] :]
    return (inside / inside.sum(-1, keepdim=True).clamp_min(torch.finfo(inside.dtype).tiny)).unflatten(-1, grid)


Stage = Literal["tokens", "features"]


def maps_at(net: CompactTransformer, images: Tensor, stage: Stage) -> Tensor:
    """Return the tokens of a stage on their grid, (B, D, h, w), prefix dropped.

    The stage is `tokens`, the tokenizer's output, or `features`, the encoder's normalized output.
    """
    if stage not in ("tokens", "features"):
        raise InputError(f"Unknown stage {stage!r}: choose 'tokens' or 'features'.")
    tokens = net.tokenizer(images) if stage == "tokens" else net.forward_features(images)
    grid = grid_of(net, images)
    return tokens[:, tokens.shape[1] - grid[0] * grid[1] :].transpose(1, 2).unflatten(-1, grid)
