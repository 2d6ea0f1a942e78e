import base64
import io

import numpy as np
import torch
from PIL import Image

from cct_lightning.analysis import overlays, plot_images, plot_predictions
from cct_lightning.analysis.overlay import enlarged, png_address


def test_rows_of_images(digits) -> None:
    figure = plot_images({"image": digits.raw[:3], "again": digits.raw[:2]}, ["a", "b", "c"])
    assert [ax.get_title() for ax in figure.axes[:3]] == ["a", "b", "c"]
    assert [ax.get_ylabel() for ax in figure.axes[::3]] == ["image", "again"]
    assert (figure.axes[1].images[0].get_array()[..., 0] == digits.raw[1, 0].numpy()).all()
    assert not figure.axes[5].images
    assert len(plot_images(digits.raw[:4]).axes) == 4


def test_mistakes_have_a_frame(digits) -> None:
    figure = plot_predictions(
        digits.raw[:2],
        label=torch.tensor([3, 4]),
        predicted=torch.tensor([3, 5]),
        probability=torch.tensor([0.9, 0.5]),
        classes=list("0123456789"),
    )
    right, wrong = figure.axes
    assert right.get_title() == "3\n→ 3 (90%)"
    assert wrong.get_title() == "4\n→ 5 (50%)"
    assert not right.axison
    assert wrong.spines["top"].get_linewidth() == 4


def test_overlays_are_enlarged_by_a_whole_factor(digits) -> None:
    maps = torch.arange(2 * 16.0).view(2, 4, 4)
    own, shared = overlays(digits.raw[:2], maps), overlays(digits.raw[:2], maps, shared=True)
    assert own[0].image.shape == own[0].mapped.shape == (96, 96, 3)
    assert (own[0].image[::12, ::12, 0] == digits.raw[0, 0].numpy()).all()
    assert [pair.top for pair in own] == [15, 31]
    assert [pair.top for pair in shared] == [31, 31]
    assert (own[1].mapped == shared[1].mapped).all()
    assert (own[0].mapped != shared[0].mapped).any()
    assert enlarged(np.zeros((100, 50, 3), dtype=np.uint8)).shape == (100, 50, 3)


def test_a_png_is_its_pixels(digits) -> None:
    image = overlays(digits.raw[:1], torch.ones(1, 4, 4))[0].mapped
    kind, _, data = png_address(image).partition(",")
    assert kind == "data:image/png;base64"
    assert (np.asarray(Image.open(io.BytesIO(base64.b64decode(data)))) == image).all()
