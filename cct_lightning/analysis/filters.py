"""The filters with which the tokenizer reads the image.

Source: Dosovitskiy et al., arXiv 2010.11929, figure 7 (left); Hassani et al., arXiv 2104.05704, section 3 (tokenizers).

Letters: C channels, k kernel side, F filters.
"""

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor, nn

from cct_lightning.analysis.pictures import picture
from cct_lightning.analysis.probe import compact
from cct_lightning.analysis.style import SIGNED, Array, map_panels, numbers, panels, styled
from cct_lightning.errors import InputError


def tokenizer_filters(net: nn.Module) -> Tensor:
    """Return the filters (F, C, k, k) of the tokenizer's first convolution, those of the largest norm first.

    Raises:
        InputError: The tokenizer has no convolution.
    """
    tokenizer = compact(net).tokenizer
    for module in tokenizer.modules():
        if isinstance(module, nn.Conv2d):
            weight = module.weight.detach().float()
            return weight[torch.argsort(weight.flatten(1).norm(dim=1), descending=True)]
    raise InputError(f"{type(tokenizer).__name__} has no convolution, so no filters to show.")


@styled
def plot_filters(filters: Tensor | Array, *, count: int = 32, columns: int = 8) -> Figure:
    """Draw the first `count` filters (F, C, k, k) of `tokenizer_filters`.

    Three channels are drawn in color, each filter stretched to its own range; of others the mean over channels, signed.
    """
    array = numbers(filters)[:count]
    if array.shape[1] == 3:
        figure, axes = panels(len(array), columns=columns, side=1.0, aspect=array.shape[2] / array.shape[3])
        limit = np.abs(array).max((1, 2, 3), keepdims=True)
        for ax, pixel in zip(axes, (0.5 + 0.5 * array / np.maximum(limit, 1e-12)).transpose(0, 2, 3, 1), strict=True):
            ax.imshow(pixel)
        figure.suptitle("Filters of the first convolution, largest norm first (grey: zero)")
        return figure
    signed = array.mean(1)
    top = float(np.abs(signed).max())
    none = [""] * len(signed)
    figure = map_panels(signed, none, columns=columns, side=1.0, limits=(-top, top), label="weight", colors=SIGNED)
    figure.suptitle("Filters of the first convolution, largest norm first")
    return figure


@picture("tokenizer/filters")
def _picture(net: nn.Module, images: Tensor) -> Figure:
    return plot_filters(tokenizer_filters(net), count=16)
