"""How alike the position embeddings of the places of an image are.

Source: Dosovitskiy et al., arXiv 2010.11929, figure 7 (center).

Letters: (H, W) image, (h, w) grid of tokens, P prefix tokens, N = P + h*w tokens, D dimension.
"""

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor, nn

from cct_lightning.analysis.pictures import picture
from cct_lightning.analysis.probe import compact
from cct_lightning.analysis.style import Array, map_panels, numbers, styled
from cct_lightning.errors import InputError


@torch.no_grad()
def position_embedding(net: nn.Module, *, img_size: tuple[int, int] | None = None) -> Tensor:
    """Return what the model adds to the tokens of an image to mark their places.

    Args:
        net: A Compact Transformer.
        img_size: (H, W) in pixels; the model's own when None. Other sizes show the resized embedding.

    Returns:
        (h, w, D); a class token's own embedding is left out.

    Raises:
        InputError: The model has no position embedding.
    """
    model = compact(net)
    grid = model.tokenizer.grid(img_size or model.arch.img_size)
    prefix = model.pool.num_prefix_tokens
    weight = next(model.parameters())
    # Added to zeros, it is the embedding itself, whatever class it is of.
    table = model.position(weight.new_zeros(1, prefix + grid[0] * grid[1], model.arch.embed_dim), grid)[0, prefix:]
    if not table.any():
        raise InputError(
            f"The model has no position embedding (position={model.arch.position!r}): there is nothing to show."
        )
    return table.unflatten(0, grid).float()


def position_similarity(net: nn.Module, *, img_size: tuple[int, int] | None = None) -> Tensor:
    """Return the cosine similarity of each pair of places of `position_embedding`.

    Returns:
        (h, w, h, w); `[i, j]` is the map for the token in row i, column j.
    """
    unit = nn.functional.normalize(position_embedding(net, img_size=img_size), dim=-1)
    return torch.einsum("ijd,kld->ijkl", unit, unit)


@styled
def plot_position_similarity(similarity: Tensor | Array, *, most: int = 8) -> Figure:
    """Draw the map of each place of `position_similarity`, laid out as the places are.

    `most` is the number of rows and columns at most; larger grids are shown at evenly spaced places.
    """
    maps = numbers(similarity)
    rows, columns = (np.linspace(0, n - 1, min(n, most)).round().astype(int) for n in maps.shape[:2])
    figure = map_panels(
        maps[np.ix_(rows, columns)].reshape(-1, *maps.shape[2:]),
        [f"{i + 1},{j + 1}" for i in rows for j in columns],
        columns=len(columns),
        side=1.1,
        limits=(min(0.0, float(maps.min())), 1),
        label="cosine similarity",
    )
    figure.suptitle("Position embeddings: similarity to the token in row,column")
    return figure


@picture("position/similarity")
def _picture(net: nn.Module, images: Tensor) -> Figure:
    return plot_position_similarity(position_similarity(net), most=4)
