"""Which pixels a token sees: by arithmetic, and measured by gradients.

Source: Araujo, Norris and Sim, "Computing Receptive Fields of Convolutional Neural Networks", Distill 2019; Luo et al.,
arXiv 1701.04128 (effective receptive field).

Letters: B batch, C channels, (H, W) image, (h, w) grid of tokens, D dimension.
"""

from dataclasses import dataclass

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from torch import Tensor, nn

from cct_lightning.analysis.probe import Stage, compact, evaluating, grid_of, maps_at, ready
from cct_lightning.analysis.style import OKABE_ITO, QUANTITY, Array, figure_of, numbers, one_axes, styled
from cct_lightning.errors import InputError


@dataclass(frozen=True)
class ReceptiveField:
    """What the tokens of a tokenizer see along one side of the image, in pixels.

    Attributes:
        size: Pixels that one token sees.
        stride: Pixels from one token to the next.
        start: First pixel that token 0 would see; negative where it lies in the padding.
    """

    size: int
    stride: int
    start: int

    def span(self, token: int) -> tuple[int, int]:
        """Return the first pixel that a token sees and the first one after; they may lie outside the image."""
        first = self.start + token * self.stride
        return first, first + self.size


def receptive_field(net: nn.Module) -> ReceptiveField:
    """Return what the tokens of a model see before the encoder, by arithmetic over the layers of its tokenizer.

    Raises:
        InputError: A tokenizer of yours without the method `layers`; see `receptive_fields`.
    """
    tokenizer = compact(net).tokenizer
    layers = tokenizer.layers()
    if layers is None:
        raise InputError(f"The layers of {type(tokenizer).__name__} are not known: use measured_receptive_field.")
    size, jump, start = 1, 1, 0
    for kernel, stride, padding in layers:  # the first one first
        size += (kernel - 1) * jump
        start -= padding * jump
        jump *= stride
    return ReceptiveField(size=size, stride=jump, start=start)


def receptive_fields(net: nn.Module) -> tuple[ReceptiveField, ReceptiveField]:
    """Return what tokens see along height and width: by arithmetic where the tokenizer has `layers`, else measured."""
    if compact(net).tokenizer.layers() is None:
        return measured_receptive_field(net)
    return receptive_field(net), receptive_field(net)


def token_gradient(net: nn.Module, images: Tensor, *, token: tuple[int, int], stage: Stage = "tokens") -> Tensor:
    """Return how strongly each pixel acts on one token.

    The token is given by row and column on the grid. `stage` is `tokens` for the tokenizer's output (its receptive
    field) or `features` for the encoder's (every pixel may act).

    Returns:
        (H, W): |gradient| of the token's dimensions, each with a random sign, mean over images, sum over channels.
    """
    model = compact(net)
    pixels = ready(model, images).detach().requires_grad_()
    grid = grid_of(model, pixels)
    if not (0 <= token[0] < grid[0] and 0 <= token[1] < grid[1]):
        raise InputError(f"There is no token {token} on a grid of {grid[0]}x{grid[1]}.")
    with evaluating(model), torch.enable_grad():
        maps = maps_at(model, pixels, stage)[..., token[0], token[1]]  # (B, D)
        # A LayerNorm's outputs add up to nearly nothing, and so would their gradients: random signs keep them apart.
        draws = torch.rand(maps.shape[1], generator=torch.Generator().manual_seed(0))
        signs = torch.where(draws < 0.5, -1.0, 1.0).to(maps)
        (gradient,) = torch.autograd.grad((maps * signs).sum(), pixels)
    return gradient.float().abs().sum(1).mean(0)


def measured_receptive_field(net: nn.Module) -> tuple[ReceptiveField, ReceptiveField]:
    """Measure what the tokens of any tokenizer see, along height and width: where the gradient of noise is not zero.

    Raises:
        InputError: Tokens that see past the border of an image of twice the model's size, or move unevenly.
    """
    model = compact(net)
    # Twice the size leaves room around the middle; a maximum passes its gradient to one pixel only, so that it takes
    # many random images and dimensions to reach every pixel that may win.
    height, width = model.arch.img_size
    noise = torch.randn(16, model.arch.in_chans, 2 * height, 2 * width, generator=torch.Generator().manual_seed(0))
    middle = tuple(side // 2 for side in grid_of(model, noise))
    found = []
    for axis in (0, 1):
        spans = []
        for token in (middle, (middle[0] - (axis == 0), middle[1] - (axis == 1))):
            seen = token_gradient(model, noise, token=(token[0], token[1])).amax(1 - axis).nonzero().flatten()
            spans.append((int(seen.min()), int(seen.max()) + 1) if len(seen) else (0, 0))
        (first, end), (first_before, end_before) = spans
        stride = first - first_before
        if stride <= 0 or end - end_before != stride:
            raise InputError(
                f"The middle tokens see pixels {first_before} to {end_before - 1} and {first} to {end - 1} of an image "
                f"of {2 * height}x{2 * width}, cut by its border or unevenly: take a model of a larger img_size."
            )
        found.append(ReceptiveField(size=end - first, stride=stride, start=first - middle[axis] * stride))
    return found[0], found[1]


@styled
def plot_token_gradient(
    gradient: Tensor | Array, *, box: tuple[ReceptiveField, tuple[int, int]] | None = None, ax: Axes | None = None
) -> Figure:
    """Draw which pixels act on a token, (H, W) of `token_gradient`.

    `box` is a receptive field and the token (row, column), drawn as a frame.
    """
    values = numbers(gradient)
    ax = one_axes(ax, (5, 4))
    image = ax.imshow(values / max(float(values.max()), 1e-12), cmap=QUANTITY, vmin=0, vmax=1)
    if box is not None:
        field, token = box
        (top, _), (left, _) = field.span(token[0]), field.span(token[1])
        corner, side = (left - 0.5, top - 0.5), field.size
        ax.add_patch(Rectangle(corner, side, side, fill=False, edgecolor=OKABE_ITO[1], linewidth=3))
    ax.set(xlabel="pixel column", ylabel="pixel row")
    figure_of(ax).colorbar(image, ax=ax, shrink=0.9).set_label("|gradient| ÷ largest")
    return figure_of(ax)
