import math

import pytest
import torch

from cct_lightning.analysis import (
    plot_shift_consistency,
    plot_shift_error,
    receptive_field,
    shift_consistency,
    shift_error,
    shift_images,
)
from cct_lightning.errors import InputError
from cct_lightning.models.factory import create_model

from .test_receptive import Strip


def test_shift_images() -> None:
    images = torch.arange(9, dtype=torch.uint8).view(1, 1, 3, 3)
    assert shift_images(images, down=1)[0, 0].tolist() == [[0, 1, 2], [0, 1, 2], [3, 4, 5]]
    assert shift_images(images, right=-1)[0, 0].tolist() == [[1, 2, 2], [4, 5, 5], [7, 8, 8]]
    assert torch.equal(shift_images(images), images)


@pytest.mark.parametrize("name", ["cct_2_3x1", "cct_2_3x2", "vit_2_4", "cvt_2_2"])
def test_shifts_by_whole_tokens_are_exact(name: str, photos) -> None:
    torch.manual_seed(0)
    net = create_model(name)
    stride = receptive_field(net).stride
    error = shift_error(net, photos)
    assert error.shape == (9, 8)
    for shift in range(9):
        if shift % stride == 0:
            assert float(error[shift].max()) < 1e-5
        else:
            assert float(error[shift].min()) > 1e-3


def test_by_hand(photos) -> None:
    """One pixel to the right over patches of 2: halfway between two tokens."""
    torch.manual_seed(0)
    net = create_model("cvt_2_2")
    with torch.no_grad():

        def tokens(images: torch.Tensor) -> torch.Tensor:
            return net.tokenizer(images).transpose(1, 2).unflatten(-1, (16, 16))

        still = tokens(photos)
        mean = still.mean((0, 2, 3), keepdim=True)
        errors = []
        for axis, sign in ((2, 1), (2, -1), (3, 1), (3, -1)):
            moved = tokens(shift_images(photos, **{{2: "down", 3: "right"}[axis]: sign}))
            expected = (still + still.roll(sign, axis)) / 2
            keep = range(1, 16) if sign > 0 else range(15)
            index = torch.tensor(list(keep))
            difference = (moved - expected).index_select(axis, index).flatten(1).norm(dim=1)
            errors.append(difference / (expected - mean).index_select(axis, index).flatten(1).norm(dim=1))
    by_hand = torch.stack(errors).mean(0)
    assert torch.allclose(shift_error(net, photos, shifts=[0, 1])[1], by_hand, rtol=1e-4)


def test_convolutions_beat_patches(photos) -> None:
    """The paper's argument, measured: the same grid of 8x8 tokens from convolutions and from patches, untrained."""
    torch.manual_seed(0)
    conv = shift_error(create_model("cct_2_3x2"), photos)[1:4].mean()
    patch = shift_error(create_model("cvt_2_4"), photos)[1:4].mean()
    assert conv < 0.8 * patch


def test_noise_is_unrelated() -> None:
    """Patches of white noise have little to do with each other at half a patch's shift."""
    torch.manual_seed(0)
    net = create_model("vit_2_4")
    noise = torch.randn(8, 3, 64, 64)
    # Interpolation between two unrelated tokens halves their variance: at most sqrt((1 + 1/2) / (1/2)).
    error = float(shift_error(net, noise, shifts=[2]).mean())
    assert 0.7 * math.sqrt(2) < error < math.sqrt(3)


def test_centering_matters_after_relu(photos) -> None:
    torch.manual_seed(0)
    net = create_model("cct_2_3x1")
    plain = shift_error(net, photos, shifts=[1], centered=False)
    assert (plain < shift_error(net, photos, shifts=[1])).all()


def test_features_know_positions(nets, digits) -> None:
    error = shift_error(nets["cct"], digits.images, shifts=[0, 2], stage="features")
    assert float(error[0].max()) < 1e-5
    assert float(error[1].mean()) > 0.1


def test_own_tokenizer_and_sides() -> None:
    net = create_model("cct_2_3x1", tokenizer=f"{Strip.__module__}.Strip")
    images = torch.randn(2, 3, 24, 48)
    error = shift_error(net, images, shifts=[0, 4])
    assert float(error[0].max()) < 1e-5
    assert float(error[1].max()) < 1e-5  # four pixels are two tokens down and one across


def test_consistency(nets, digits) -> None:
    same = shift_consistency(nets["cct"], digits.images, shifts=[0, 1, 3])
    assert same.shape == (3, len(digits.images))
    assert (same[0] == 1).all()
    assert same[1].mean() > same[2].mean()
    net = nets["cct"].eval()
    with torch.no_grad():
        still = net(digits.images).argmax(-1)
        moved = [
            net(shift_images(digits.images, **{side: by})).argmax(-1) for side in ("down", "right") for by in (1, -1)
        ]
    net.train()
    assert torch.allclose(same[1], torch.stack([m == still for m in moved]).float().mean(0))


def test_bad_input(nets, digits) -> None:
    with pytest.raises(InputError, match="Shifts of 8 pixels leave no token clear of the border on a side of 8 pixels"):
        shift_error(nets["cct"], digits.images)
    with pytest.raises(InputError, match="none negative"):
        shift_error(nets["cct"], digits.images, shifts=[-1, 0])


def test_plots(photos) -> None:
    error = shift_error(create_model("cct_2_3x2"), photos)
    figure = plot_shift_error({"CCT": error, "ViT": error})
    assert figure.axes[0].get_xlabel() == "shift (pixels)"
    assert {text.get_text() for text in figure.axes[0].get_legend().get_texts()} == {"CCT", "ViT"}
    assert plot_shift_consistency({"CCT": error.clamp(0, 1)}).axes
    with pytest.raises(InputError, match="'CCT' has 9 rows for 3 shifts"):
        plot_shift_error({"CCT": error}, shifts=range(3))
