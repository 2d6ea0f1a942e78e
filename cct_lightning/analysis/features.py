"""What the tokens hold, layer by layer, projected to a plane.

Sources: scikit-learn's PCA and t-SNE (van der Maaten and Hinton, JMLR 2008).

Letters: L layers, B batch, C channels, (H, W) image, P prefix tokens, N = P + h*w tokens, D dimension.
"""

from collections.abc import Sequence
from typing import Literal

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor, nn

from cct_lightning.analysis.probe import blocks_of, compact, evaluating, grid_of, ready
from cct_lightning.analysis.style import Array, look, numbers, panels, styled
from cct_lightning.errors import InputError


@torch.no_grad()
def layer_tokens(net: nn.Module, images: Tensor) -> Tensor:
    """Return the token stream before the first layer and after each.

    Returns:
        (L + 1, B, N, D) float32; the last is what enters the final LayerNorm.
    """
    model = compact(net)
    with evaluating(model):
        stream = [model.embed(ready(model, images))]
        for block in blocks_of(model):
            stream.append(block(stream[-1]))
    return torch.stack(stream).float()


def layer_features(net: nn.Module, images: Tensor, *, batch_size: int = 128) -> Tensor:
    """Return one vector for each image and layer: the mean of its grid tokens (a class token is constant at the start).

    Returns:
        (L + 1, B, D) float32. `batch_size`, the images computed at a time, bounds the memory.
    """
    count = int(np.prod(grid_of(compact(net), images)))
    chunks = [layer_tokens(net, chunk)[:, :, -count:].mean(2) for chunk in images.split(batch_size)]
    return torch.cat(chunks, 1)


def project(features: Tensor | Array, *, method: Literal["pca", "tsne"] = "pca", seed: int = 0) -> Array:
    """Project vectors (M, D) to a plane (M, 2).

    `pca` is linear, its axes ordered by variance; `tsne` keeps neighborhoods but neither distances nor densities, takes
    seconds for a thousand vectors, and depends on the seed.

    Raises:
        InputError: Fewer than three vectors, or an unknown method.
    """
    vectors = numbers(features)
    if vectors.ndim != 2 or len(vectors) < 3:
        raise InputError(f"A projection needs at least 3 vectors (M, D), got an array of shape {vectors.shape}.")
    if method == "pca":
        from sklearn.decomposition import PCA  # half a second of imports, which training need not wait for

        return PCA(2, svd_solver="full").fit_transform(vectors)
    if method == "tsne":
        from sklearn.manifold import TSNE

        perplexity = min(30.0, (len(vectors) - 1) / 3)
        return TSNE(2, perplexity=perplexity, init="pca", random_state=seed).fit_transform(vectors)
    raise InputError(f"Unknown method {method!r}: choose 'pca' or 'tsne'.")


@styled
def plot_projection(
    points: Sequence[Tensor | Array],
    labels: Tensor | Array,
    *,
    classes: Sequence[str],
    titles: Sequence[str] | None = None,
    columns: int = 4,
) -> Figure:
    """Draw projected vectors by class, one panel a layer.

    Args:
        points: One (M, 2) for each panel, from `project`.
        labels: (M,) classes.
        classes: Their names. Up to 20 are in a legend, by color and marker.
    """
    member = numbers(labels)
    figure, axes = panels(len(points), columns=columns, side=3.0)
    for ax, place, title in zip(axes, map(numbers, points), titles or [""] * len(points), strict=True):
        ax.set_axis_on()
        ax.set(xticks=[], yticks=[], title=title, xlabel="component 1", ylabel="component 2")
        for k, name in enumerate(classes):
            mine = place[member == k]
            ax.scatter(mine[:, 0], mine[:, 1], s=36, label=name, alpha=0.8, linewidths=0, **look(k))
    if len(classes) <= 20:
        handles, texts = axes[0].get_legend_handles_labels()
        figure.legend(handles, texts, loc="outside right center", markerscale=1.3, frameon=False)
    return figure
