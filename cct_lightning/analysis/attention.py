"""Attention maps by layer and head, and attention rollout.

Sources: Vaswani et al., arXiv 1706.03762; Abnar and Zuidema, "Quantifying Attention Flow in Transformers",
arXiv 2005.00928 (rollout).

Letters: L layers, B batch, h heads or height of the token grid, P prefix tokens, N = P + h*w tokens.
"""

from functools import reduce

import torch
from matplotlib.figure import Figure
from torch import Tensor, nn

from cct_lightning.analysis.overlay import UNIFORM, over_uniform
from cct_lightning.analysis.pictures import Maps, picture
from cct_lightning.analysis.probe import blocks_of, capturing, compact, evaluating, grid_of, on_grid, ready
from cct_lightning.analysis.seqpool import plot_pool_weights, read_weights
from cct_lightning.analysis.style import QUANTITY, Array, numbers, panels, styled
from cct_lightning.errors import InputError
from cct_lightning.models.position import Grid


@torch.no_grad()
def attention_maps(net: nn.Module, images: Tensor) -> Tensor:
    """Return the attention weights of every layer and head, which the fused kernel uses without forming them.

    Returns:
        (L, B, heads, N, N) float32; row i is how token i reads all tokens, and sums to one. Prefix tokens come first.
        Keep B small for large images.
    """
    model = compact(net)
    layers = [block.attn for block in blocks_of(model)]
    with evaluating(model), capturing(layers, lambda module, x, _: module.weights(x)) as found:
        model.forward_features(ready(model, images))
    return torch.stack(found).float()


@torch.no_grad()
def residual_share(net: nn.Module, images: Tensor) -> Tensor:
    """Measure the share of the residual stream in what each attention layer passes on: |x| / (|x| + |attn(norm1(x))|).

    Rollout assumes one half. Give the result, (L,) means over tokens and images, to `rollout(residual=...)` to see what
    the assumption does.
    """
    model = compact(net)
    with evaluating(model), capturing(blocks_of(model), lambda block, x, _: (x, block.attn(block.norm1(x)))) as found:
        model.forward_features(ready(model, images))
    norms = torch.stack([torch.stack(parts).float().norm(dim=-1) for parts in found])  # (L, 2, B, N)
    return (norms[:, 0] / norms.sum(1)).mean((1, 2))


def rollout(maps: Tensor, *, residual: float | Tensor = 0.5) -> Tensor:
    """Follow attention through all layers: how much of each input token is in each output token.

    Each layer counts as the mixing matrix residual * I + (1 - residual) * A with A the mean over heads, and the
    matrices are multiplied. That is an approximation: it leaves out the values, the projections and the MLPs, and takes
    the two branches of the residual to be of the same size. The blocks of Compact Transformers also normalize the
    stream itself between attention and MLP. A LayerNorm treats each token alone, so the proportions in which tokens are
    mixed pass through it unchanged, and the product means what it means for usual pre-norm blocks; but since the stream
    is brought back to the same size in every layer, the residual's share does not grow with depth as it does there.
    `residual_share` measures it.

    Args:
        maps: (L, B, heads, N, N), from `attention_maps`.
        residual: Share of the residual in each layer, or one for each layer (L,).

    Returns:
        (B, N, N); each row sums to one.
    """
    mixed = maps.mean(2)  # (L, B, N, N)
    share = torch.as_tensor(residual, dtype=mixed.dtype, device=mixed.device).expand(len(maps)).view(-1, 1, 1, 1)
    if not ((share >= 0) & (share <= 1)).all():
        raise InputError("residual is a share: it must be between 0 and 1.")
    layers = share * torch.eye(mixed.shape[-1], dtype=mixed.dtype, device=mixed.device) + (1 - share) * mixed
    return reduce(lambda total, layer: layer @ total, layers)


@torch.no_grad()
def rollout_map(net: nn.Module, images: Tensor, *, residual: float | Tensor = 0.5) -> Tensor:
    """Return how much each place of each image counts in the pooled vector, all layers taken together.

    The rows of `rollout` are read as the pooling reads the tokens: weighted by SeqPool, from the class token,
    uniformly for the mean, by share of dimensions for the maximum. `residual` is that of `rollout`.

    Returns:
        (B, h, w); each image's weights sum to one, what remains on the class token left out.
    """
    model = compact(net)
    images = ready(model, images)
    with evaluating(model):
        reading = read_weights(model.pool, model.forward_features(images))  # (B, N)
    flow = rollout(attention_maps(model, images), residual=residual)
    return on_grid((reading[:, None] @ flow).squeeze(1), grid_of(model, images))


@picture("rollout")
def _picture(net: nn.Module, images: Tensor) -> Maps:
    # Image after image: attention of all layers, heads and tokens takes memory.
    return Maps(over_uniform(torch.cat([rollout_map(net, image) for image in images.split(1)])), UNIFORM)


plot_rollout = plot_pool_weights  # both are weights of places


@styled
def plot_attention(maps: Tensor | Array, *, grid: Grid, token: int | tuple[int, int]) -> Figure:
    """Draw what one token reads, by layer (rows) and head (columns).

    The color scale is each panel's own: from 0 to its largest weight, which its title gives in multiples of the uniform
    weight.

    Args:
        maps: (L, heads, N, N): one image of `attention_maps`, as in `maps[:, 0]`.
        grid: The token grid (h, w) of the image.
        token: Row and column on the grid, or the number of a prefix token (0 for the class token).
    """
    array = numbers(maps)
    prefix = array.shape[-1] - grid[0] * grid[1]
    if array.ndim != 4 or prefix < 0:
        raise InputError(
            f"Expected maps of one image (L, heads, N, N) with N >= {grid[0]}*{grid[1]}, got {array.shape}."
        )
    query = token if isinstance(token, int) else prefix + token[0] * grid[1] + token[1]
    if not 0 <= query < (prefix if isinstance(token, int) else array.shape[-1]):
        raise InputError(
            f"There is no token {token}: {prefix} prefix tokens come before a grid of {grid[0]}x{grid[1]}."
        )
    layers, heads = array.shape[:2]
    figure, axes = panels(layers * heads, columns=heads, side=1.8, aspect=grid[0] / grid[1])
    for i, ax in enumerate(axes):
        layer, head = divmod(i, heads)
        row = array[layer, head, query]
        ax.imshow(row[prefix:].reshape(grid), cmap=QUANTITY, vmin=0)
        ax.set_title(f"L{layer + 1} H{head + 1}: {row[prefix:].max() * len(row):.1f}")
        if not isinstance(token, int):
            for color, size, width in (("white", 9, 3), ("black", 8, 1.5)):
                ax.plot(token[1], token[0], "x", color=color, markersize=size, markeredgewidth=width)
    figure.suptitle("Attention by layer (L) and head (H): largest ÷ uniform weight")
    return figure
