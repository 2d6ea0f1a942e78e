"""What a built model costs: parameters, tokens, multiply-accumulates. Works for ours, baselines and a user's own.

The counting is PyTorch's (`torch.utils.flop_counter`): convolutions and matrix products, those of attention included.
The published tables leave the latter out; `cct_lightning.models.arch.budget` gives both without building anything.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.utils.flop_counter import FlopCounterMode

from cct_lightning.models.compact import CompactTransformer


@dataclass(frozen=True)
class Summary:
    """What a model costs.

    Attributes:
        params: Trainable parameters.
        macs: Multiply-accumulates of the forward pass of one image.
        tokens: Length of the sequence, prefix included; None where the model is not a `CompactTransformer`.
    """

    params: int
    macs: int
    tokens: int | None


def summarize(model: nn.Module, img_size: tuple[int, int], in_chans: int) -> Summary:
    """Count parameters and multiply-accumulates of a model; its weights, mode and device stay as they are.

    Args:
        model: Any model from images (B, C, H, W) to logits.
        img_size: (H, W) in pixels.
        in_chans: Channels of the images.

    Returns:
        The counts for one image in evaluation mode.
    """
    modes = {module: module.training for module in model.modules()}
    model.eval()
    try:
        macs = _macs(model, (1, in_chans, *img_size))
    finally:
        for module, mode in modes.items():
            module.training = mode
    tokens = None
    if isinstance(model, CompactTransformer):
        grid = model.tokenizer.grid(img_size)
        tokens = model.pool.num_prefix_tokens + grid[0] * grid[1]
    return Summary(sum(p.numel() for p in model.parameters() if p.requires_grad), macs, tokens)


@torch.no_grad()
def _macs(model: nn.Module, shape: tuple[int, ...]) -> int:
    own: dict[str, Tensor] = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    shapes = {name: torch.empty_like(value, device="meta") for name, value in own.items()}
    dtype = next((value.dtype for value in own.values() if value.is_floating_point()), torch.float32)
    try:
        # The meta device computes shapes alone: a ViT-B costs milliseconds.
        with FlopCounterMode(display=False) as counter:
            functional_call(model, shapes, (torch.empty(shape, dtype=dtype, device="meta"),))
    except (RuntimeError, NotImplementedError):
        # A user's model may make tensors on a device of its own, or look at values.
        device = next((value.device for value in own.values()), torch.device("cpu"))
        with FlopCounterMode(display=False) as counter:
            model(torch.zeros(shape, dtype=dtype, device=device))
    return counter.get_total_flops() // 2
