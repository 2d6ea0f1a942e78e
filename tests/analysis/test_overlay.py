import numpy as np
import pytest
import torch

from cct_lightning.analysis import blend, over_uniform, pixels, plot_overlays
from cct_lightning.errors import InputError


def test_pixels(digits) -> None:
    assert (pixels(digits.raw)[..., 0] == digits.raw[:, 0].numpy()).all()
    stretched = pixels(digits.images)
    assert stretched.dtype == np.uint8
    assert (stretched.min((1, 2, 3)) == 0).all()
    assert (stretched.max((1, 2, 3)) == 255).all()
    with pytest.raises(InputError, match="Only images"):
        pixels(torch.zeros(2, 4, 8, 8))


def test_blend_is_brightest_where_the_heat_is(photos) -> None:
    heat = np.zeros((4, 8), dtype=np.float32)
    heat[1, 6] = 1
    mixed = blend(np.zeros((32, 64, 3), dtype=np.uint8), heat, top=1, size=(64, 128)).sum(-1)
    assert mixed.shape == (64, 128)
    row, column = np.unravel_index(mixed.argmax(), mixed.shape)
    assert (row // 16, column // 16) == (1, 6)


def test_over_uniform() -> None:
    assert over_uniform(torch.full((2, 4, 5), 1 / 20)).max() == pytest.approx(1)


def test_counts_must_agree(digits) -> None:
    with pytest.raises(InputError, match="3 images but 2 maps"):
        plot_overlays(digits.raw[:3], torch.ones(2, 4, 4))


def test_fonts_are_legible(digits) -> None:
    figure = plot_overlays(digits.raw[:2], torch.ones(2, 4, 4), titles=["a", "b"])
    texts = [ax.title for ax in figure.axes[:2]] + [figure.axes[-1].yaxis.label, *figure.axes[-1].get_yticklabels()]
    assert min(text.get_fontsize() for text in texts) >= 12
