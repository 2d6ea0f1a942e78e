import pytest
import torch
from torch import nn

from cct_lightning.analysis import (
    ReceptiveField,
    measured_receptive_field,
    plot_token_gradient,
    receptive_field,
    token_gradient,
)
from cct_lightning.errors import InputError
from cct_lightning.models.factory import create_model
from cct_lightning.models.tokenizer import Tokenizer


@pytest.mark.parametrize("name", ["cct_2_3x1", "cct_2_3x2", "cct_2_5x1", "cct_2_7x1", "vit_2_4", "cvt_2_8"])
def test_arithmetic_is_what_gradients_measure(name: str) -> None:
    net = create_model(name)
    assert measured_receptive_field(net) == (receptive_field(net), receptive_field(net))


def test_wide_field() -> None:
    net = create_model("cct_2_7x2")
    assert receptive_field(net) == ReceptiveField(size=51, stride=16, start=-25)
    with pytest.raises(InputError, match="take a model of a larger img_size"):
        measured_receptive_field(net)  # cut by the border of 64x64 pixels


def test_known_values() -> None:
    assert receptive_field(create_model("cct_2_3x1")) == ReceptiveField(size=5, stride=2, start=-2)
    assert receptive_field(create_model("vit_2_4")) == ReceptiveField(size=4, stride=4, start=0)
    assert receptive_field(create_model("cct_2_3x1")).span(3) == (4, 9)


class Strip(Tokenizer):
    """Sees 2 rows and 5 columns at a time."""

    def __init__(self, *, in_chans: int, embed_dim: int, kernel_size: int, conv_blocks: int) -> None:
        super().__init__(in_chans=in_chans, embed_dim=embed_dim, kernel_size=kernel_size, conv_blocks=conv_blocks)
        self.conv = nn.Conv2d(in_chans, embed_dim, (2, 5), (2, 4), (0, 2))

    def grid(self, img_size: tuple[int, int]) -> tuple[int, int]:
        return img_size[0] // 2, (img_size[1] - 1) // 4 + 1

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.conv(images).flatten(2).transpose(1, 2)


def test_own_tokenizer() -> None:
    net = create_model("cct_2_3x1", tokenizer=f"{__name__}.Strip")
    with pytest.raises(InputError, match="use measured_receptive_field"):
        receptive_field(net)
    height, width = measured_receptive_field(net)
    assert height == ReceptiveField(size=2, stride=2, start=0)
    assert width == ReceptiveField(size=5, stride=4, start=-2)


def test_features_see_all_pixels(nets, digits) -> None:
    net = nets["cct"]
    tokens = token_gradient(net, digits.images, token=(1, 2))
    assert tokens.shape == (8, 8)
    inside = torch.zeros(8, 8, dtype=torch.bool)
    (top, bottom), (left, right) = receptive_field(net).span(1), receptive_field(net).span(2)
    inside[top:bottom, left:right] = True
    assert (tokens[~inside] == 0).all()
    assert (tokens[inside] > 0).all()
    assert (token_gradient(net, digits.images, token=(1, 2), stage="features") > 0).all()


def test_bad_input(nets, digits) -> None:
    with pytest.raises(InputError, match=r"There is no token \(4, 0\)"):
        token_gradient(nets["cct"], digits.images, token=(4, 0))
    with pytest.raises(InputError, match="Unknown stage 'logits'"):
        token_gradient(nets["cct"], digits.images, token=(0, 0), stage="logits")


def test_plot(nets, digits) -> None:
    gradient = token_gradient(nets["cct"], digits.images, token=(2, 2))
    figure = plot_token_gradient(gradient, box=(receptive_field(nets["cct"]), (2, 2)))
    assert figure.axes[0].patches[0].get_xy() == (1.5, 1.5)
