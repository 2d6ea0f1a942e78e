"""Random erasing: a rectangle of the normalized image becomes the mean color, one random color, or noise.

Source: Zhong et al., "Random Erasing Data Augmentation" (arXiv 1708.04896), as in timm's `RandomErasing`: up to ten
attempts at a rectangle that is smaller than the image on both sides, otherwise nothing is erased.

Letters: B images, C channels, H rows, W columns.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from cct_lightning.data.augment import counter_rng, crop
from cct_lightning.data.augment.policies import AugmentPolicy
from cct_lightning.data.augment.tables import kept

_BOX_DRAWS = 2 * crop.ATTEMPTS + 3
_QUANTILES = 4096


def boxes(draw: Callable[[int], Tensor], policy: AugmentPolicy, size: tuple[int, int]) -> tuple[Tensor, ...]:
    """Draw rectangles: top, left, height and width in pixels, int64, and whether there is one, bool, (B,) each.

    Args:
        draw: Gives uniform numbers, `draw(n)`, shape (B, n).
        policy: Probability, range of areas and range of ratios.
        size: Height and width of the images.
    """
    h, w = size
    draws = draw(_BOX_DRAWS)
    heights, widths = crop.attempted_sides(
        draws[:, : 2 * crop.ATTEMPTS], pixels=h * w, scale=policy.erasing_scale, ratio=policy.erasing_ratio
    )
    fits = (heights < h) & (widths < w)
    first = fits.to(torch.uint8).argmax(1, keepdim=True)
    height, width = heights.gather(1, first)[:, 0], widths.gather(1, first)[:, 0]
    top, left = counter_rng.integers(draws[:, -3], h - height + 1), counter_rng.integers(draws[:, -2], w - width + 1)
    return top, left, height, width, (draws[:, -1] < policy.erasing) & fits.any(1)


def erase(
    images: Tensor, drawn: tuple[Tensor, ...], policy: AugmentPolicy, index: Tensor, draw: Callable[..., Tensor]
) -> Tensor:
    """Erase a rectangle from the images that drew one.

    Args:
        images: Normalized, float32, shape (B, C, H, W), as is the result; may be overwritten.
        drawn: What `boxes` returned.
        policy: What the rectangle shows.
        index: The samples' places in the data set, shape (B,).
        draw: Gives uniform numbers for noise, `draw(n, index=index)`, shape (B, n).
    """
    h, w = images.shape[2:]
    top, left, height, width, erased = drawn
    rows, columns = torch.arange(h, device=images.device), torch.arange(w, device=images.device)
    in_rows = (rows >= top[:, None]) & (rows < (top + height)[:, None])
    in_columns = (columns >= left[:, None]) & (columns < (left + width)[:, None])
    box = (in_rows & erased[:, None])[:, None, :, None] & in_columns[:, None, None, :]  # (B, 1, H, W)
    shape = (images.shape[1], 1, 1) if policy.erasing_mode == "rand" else tuple(images.shape[1:])
    const = policy.erasing_mode == "const"
    if torch.compiler.is_compiling() or images.device.type != "cpu":
        images = images.mul_(~box)  # zero is the mean, once normalized
        return images if const else images.add_(_noise(shape, index, draw) * box)
    # Only the images that drew one: numbers for whole images cost more than the rest together.
    drew = erased.nonzero()[:, 0]
    box = box.index_select(0, drew)
    some = images.index_select(0, drew).mul_(~box)
    return images.index_copy_(0, drew, some if const else some.add_(_noise(shape, index[drew], draw) * box))


def _noise(shape: tuple[int, ...], index: Tensor, draw: Callable[..., Tensor]) -> Tensor:
    """Standard normal numbers of 4096 values, (B, *shape), exactly alike on every device."""
    draws = draw(_BOX_DRAWS + math.prod(shape), index=index)[:, _BOX_DRAWS:]
    return _quantiles(index.device)[counter_rng.integers(draws, _QUANTILES)].view(len(index), *shape)


@kept(4)
def _quantiles(device: torch.device) -> Tensor:
    """A table, because logarithms and cosines of whole images cost more, and may differ in the last bit."""
    middles = (torch.arange(_QUANTILES, dtype=torch.float64) + 0.5) / _QUANTILES
    return torch.special.ndtri(middles).float().to(device)
