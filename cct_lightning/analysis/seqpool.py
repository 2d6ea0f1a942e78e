"""How much each token counts in the pooled vector: SeqPool's weights, and what corresponds to them in other poolings.

Source: Hassani et al., arXiv 2104.05704, section 3.2 and its pictures of SeqPool's weights.

Letters: B batch, C channels, (H, W) image, (h, w) grid of tokens, P prefix tokens, N = P + h*w tokens, K classes.
"""

from collections.abc import Sequence

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor, nn

from cct_lightning.analysis.overlay import UNIFORM, over_uniform, plot_overlays
from cct_lightning.analysis.pictures import Maps, picture
from cct_lightning.analysis.probe import blocks_of, capturing, compact, evaluating, grid_of, on_grid, ready
from cct_lightning.analysis.style import Array, map_panels, styled
from cct_lightning.errors import InputError
from cct_lightning.models.pooling import Pooling


def read_weights(pool: Pooling, features: Tensor) -> Tensor:
    """Return how much of each token (B, N, D) the pooling reads, (B, N), each row summing to one.

    A pooling says so itself, by its method `weights(tokens) -> (B, N)`; one without reads its prefix tokens alone, as
    the class token does.

    Raises:
        InputError: A pooling with neither.
    """
    weights = getattr(pool, "weights", None)
    if callable(weights):
        return weights(features).float()
    if pool.num_prefix_tokens:
        row = features.new_zeros(features.shape[:2], dtype=torch.float32)
        row[:, : pool.num_prefix_tokens] = 1 / pool.num_prefix_tokens
        return row
    raise InputError(f"{type(pool).__name__} does not say its weights: give it a method weights(tokens) -> (B, N).")


@torch.no_grad()
def pool_weights(net: nn.Module, images: Tensor) -> Tensor:
    """Return how much each place of each image counts in the pooled vector.

    SeqPool: its softmax weights. Class token: the last layer's attention from the token to the grid, mean over heads,
    its attention to itself left out and the rest scaled to sum to one. Mean: uniform. Max: the share of dimensions in
    which the token is the largest.

    Returns:
        (B, h, w); each image's weights sum to one.
    """
    model = compact(net)
    images = ready(model, images)
    attention = blocks_of(model)[-1].attn
    with evaluating(model), capturing([attention], lambda module, x, _: module.weights(x)) as found:
        features = model.forward_features(images)
        prefix = model.pool.num_prefix_tokens
        if prefix and not hasattr(model.pool, "weights"):
            weights = found[0].float().mean(1)[:, :prefix].mean(1)  # (B, h, N, N) -> (B, N)
        else:
            weights = read_weights(model.pool, features)
    return on_grid(weights, grid_of(model, images))


@picture("pool_weights")
def _picture(net: nn.Module, images: Tensor) -> Maps:
    return Maps(over_uniform(pool_weights(net, images)), UNIFORM)


def mean_by_class(maps: Tensor, labels: Tensor, *, num_classes: int) -> Tensor:
    """Average maps (B, h, w) of `pool_weights` or `rollout_map` over the images of each class, by labels (B,) int64.

    Returns:
        (K, h, w); NaN where a class has no image.
    """
    member = nn.functional.one_hot(labels.to(maps.device), num_classes).to(maps.dtype)  # (B, K)
    return torch.einsum("bk,bhw->khw", member, maps) / member.sum(0)[:, None, None]


def plot_pool_weights(
    images: Tensor | Array, weights: Tensor | Array, *, titles: Sequence[str] | None = None, columns: int = 6
) -> Figure:
    """Draw weights of places (B, h, w) over their images (B, C, H, W); the color is the weight over the uniform one."""
    return plot_overlays(images, over_uniform(weights), titles=titles, columns=columns)


@styled
def plot_class_weights(weights: Tensor | Array, *, classes: Sequence[str], columns: int = 5) -> Figure:
    """Draw the mean pooling weights (K, h, w) of `mean_by_class`, each under the name of its class."""
    maps = over_uniform(weights)
    if len(maps) != len(classes):
        raise InputError(f"There are {len(maps)} maps but {len(classes)} class names.")
    top = 1.0 if np.isnan(maps).all() else float(np.nanmax(maps))
    return map_panels(maps, classes, columns=columns, side=1.6, limits=(0, top), label="weight ÷ uniform weight")
