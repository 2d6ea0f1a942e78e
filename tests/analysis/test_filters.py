import pytest
import torch

from cct_lightning.analysis import plot_filters, tokenizer_filters
from cct_lightning.errors import InputError
from cct_lightning.models.factory import create_model
from cct_lightning.models.tokenizer import Tokenizer


def test_filters(net) -> None:
    filters = tokenizer_filters(net)
    side = 3 if net.arch.tokenizer == "conv" else 2
    assert filters.shape == (128, 1, side, side)
    norms = filters.flatten(1).norm(dim=1)
    assert (norms.diff() <= 0).all()
    weight = next(p for p in net.tokenizer.parameters() if p.ndim == 4)
    assert norms[0] == weight.flatten(1).norm(dim=1).max()


def test_no_convolution() -> None:
    net = create_model("cct_2_3x1")
    net.tokenizer = Tokenizer(in_chans=3, embed_dim=128, kernel_size=3, conv_blocks=1)
    with pytest.raises(InputError, match="Tokenizer has no convolution"):
        tokenizer_filters(net)


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_plot(channels: int) -> None:
    figure = plot_filters(torch.randn(40, channels, 3, 3), count=16)
    assert sum(bool(ax.images) for ax in figure.axes) == 16
