"""Crops, flips, resizing and erasing against Pillow, timm and torchvision, and the distribution of their boxes."""

import random
from functools import partial

import numpy as np
import pytest
import torch
from photographs import by_pillow, distance, photographs
from scipy import stats
from timm.data.random_erasing import RandomErasing
from timm.data.transforms import RandomResizedCropAndInterpolation
from torch import Tensor

from cct_lightning.data.augment import counter_rng, crop, erasing, resample
from cct_lightning.data.augment.policies import AugmentPolicy


def uniform(count: int, n: int) -> Tensor:
    return counter_rng.uniform(n, seed=0, epoch=0, index=torch.arange(count), stream=9)


@pytest.mark.parametrize("mode", ["constant", "reflect"])
def test_window_is_numpys_padding_cut(mode: str) -> None:
    images = photographs(12, height=20, width=28)
    top, left = torch.arange(12) % 9 - 4, (torch.arange(12) * 5) % 9 - 4
    flip = torch.arange(12) % 2 == 0
    fill = torch.tensor([10, 20, 30], dtype=torch.uint8)
    cut = crop.window(images, top, left, flip, size=(20, 28), mode=mode, fill=fill)
    for i, image in enumerate(images.numpy()):
        if mode == "constant":
            padded = np.stack([np.pad(image[c], 4, constant_values=int(fill[c])) for c in range(3)])
        else:
            padded = np.pad(image, ((0, 0), (4, 4), (4, 4)), mode="reflect")
        y, x = int(top[i]) + 4, int(left[i]) + 4
        expected = padded[:, y : y + 20, x : x + 28]
        np.testing.assert_array_equal(cut[i].numpy(), expected[..., ::-1] if flip[i] else expected)


def test_reflection_reaches_beyond_one_image() -> None:
    image = torch.arange(4, dtype=torch.uint8).view(1, 1, 1, 4)
    zero = torch.zeros(1, dtype=torch.int64)
    cut = crop.window(image, zero, zero - 7, zero.bool(), size=(1, 14), mode="reflect", fill=image[0, :, 0, 0])
    assert cut.flatten().tolist() == np.pad(np.arange(4), (7, 3), mode="reflect").tolist()


@pytest.mark.parametrize("cubic", [False, True])
@pytest.mark.parametrize(("sides", "size"), [((32, 32), (32, 32)), ((40, 60), (32, 24)), ((24, 20), (48, 50))])
def test_resized_crop_is_pillows(sides: tuple[int, int], size: tuple[int, int], cubic: bool) -> None:
    """Enlarged and shrunk, the latter with antialiasing."""
    n, (h, w) = 24, sides
    images = photographs(n, height=h, width=w)
    draws = uniform(n, crop.BOX_DRAWS)
    top, left, height, width = crop.resized_boxes(draws, size=sides, scale=(0.2, 1.0), ratio=(0.7, 1.4))
    flip, kind = torch.arange(n) % 2 == 0, torch.full((n,), cubic)
    rows = resample.matrices(top, height, kind, torch.zeros_like(flip), inputs=h, outputs=size[0])
    columns = resample.matrices(left, width, kind, flip, inputs=w, outputs=size[1])
    ours = resample.resize(images, rows, columns)
    for i in range(n):
        y, x, dy, dx = (int(v[i]) for v in (top, left, height, width))
        expected = by_pillow(
            images[i : i + 1],
            lambda image: image.crop((x, y, x + dx, y + dy)).resize(size[::-1], 3 if cubic else 2),  # noqa: B023
        )
        expected = expected.flip(3) if flip[i] else expected
        # Pillow's weights have 22 bits, these 14: where both passes meet a tie, a cubic pixel is off by two.
        assert distance(ours[i : i + 1], expected) <= (2 if cubic else 1)
        assert (ours[i] != expected[0]).float().mean() < 0.02


def test_whole_box_at_the_same_size_changes_nothing() -> None:
    images = photographs(8)
    zero, no = torch.zeros(8, dtype=torch.int64), torch.zeros(8, dtype=torch.bool)
    for cubic in (no, ~no):
        same = resample.matrices(zero, zero + 32, cubic, no, inputs=32, outputs=32)
        assert torch.equal(resample.resize(images, same, same), images)


def test_resampling_is_exact_whatever_the_order_of_summation() -> None:
    images = photographs(16)
    draws = uniform(16, crop.BOX_DRAWS)
    top, left, height, width = crop.resized_boxes(draws, size=(32, 32), scale=(0.3, 1.0), ratio=(0.75, 1.33))
    cubic = torch.arange(16) % 2 == 0
    rows = resample.matrices(top, height, cubic, cubic, inputs=32, outputs=32)
    columns = resample.matrices(left, width, cubic, cubic, inputs=32, outputs=32)
    exact = (images.double().flatten(1, 2) @ columns.double().mT + 0.5).floor().clamp(0, 255).view(16, 3, 32, 32)
    exact = (rows.double()[:, None] @ exact + 0.5).floor().clamp(0, 255).to(torch.uint8)
    assert torch.equal(resample.resize(images, rows, columns), exact)


@pytest.mark.parametrize("scale", [(0.8, 1.0), (0.08, 1.0)])
@pytest.mark.parametrize("size", [(32, 32), (24, 60), (60, 20)])
def test_boxes_are_distributed_as_timms(size: tuple[int, int], scale: tuple[float, float]) -> None:
    n, ratio = 12_000, (3 / 4, 4 / 3)
    ours = torch.stack(crop.resized_boxes(uniform(n, crop.BOX_DRAWS), size=size, scale=scale, ratio=ratio), 1)
    top, left, height, width = ours.T
    assert (top >= 0).all()
    assert (left >= 0).all()
    assert (top + height <= size[0]).all()
    assert (left + width <= size[1]).all()
    random.seed(0)
    image = torch.zeros(3, *size)
    theirs = torch.tensor([RandomResizedCropAndInterpolation.get_params(image, scale, ratio) for _ in range(n)])
    for column in range(4):
        a, b = ours[:, column].numpy(), theirs[:, column].numpy()
        assert stats.ks_2samp(a, b).pvalue > 1e-4, column  # 24 comparisons in all
    # A box is more than its sides: height and width belong together.
    assert (
        height.unique().numel() == 1
        or abs(np.corrcoef(height, width)[0, 1] - np.corrcoef(theirs[:, 2], theirs[:, 3])[0, 1]) < 0.06
    )


def erased(policy: AugmentPolicy, count: int, side: int = 32, channels: int = 3) -> Tensor:
    images = torch.full((count, channels, side, side), 7.0)

    draw, index = partial(counter_rng.uniform, seed=0, epoch=0, stream=3), torch.arange(count)
    drawn = erasing.boxes(partial(draw, index=index), policy, (side, side))
    return erasing.erase(images, drawn, policy, index, draw)


def boxes(images: Tensor) -> np.ndarray:
    """Area, height and width of what is not 7 any more, for the images where something is."""
    changed = (images != 7).all(1)
    changed = changed[changed.flatten(1).any(1)]
    height, width = changed.any(2).sum(1), changed.any(1).sum(1)
    assert torch.equal(changed.flatten(1).sum(1), height * width)  # a rectangle, without holes
    return torch.stack((height * width, height, width), 1).numpy()


def test_erasing_is_distributed_as_timms() -> None:
    n = 4000
    policy = AugmentPolicy(erasing=0.25)
    ours = boxes(erased(policy, n))
    random.seed(0)
    eraser = RandomErasing(probability=0.25, mode="const", device="cpu")
    theirs = boxes(torch.cat([eraser(torch.full((1, 3, 32, 32), 7.0)) for _ in range(n)]))
    assert abs(len(ours) / n - 0.25) < 0.03
    assert abs(len(ours) - len(theirs)) / n < 0.04
    for column in range(3):
        assert stats.ks_2samp(ours[:, column], theirs[:, column]).pvalue > 1e-3, column


@pytest.mark.parametrize("mode", ["const", "rand", "pixel"])
def test_what_an_erased_rectangle_shows(mode: str) -> None:
    images = erased(AugmentPolicy(erasing=1.0, erasing_mode=mode), 64)
    values = [image[:, (image != 7).all(0)] for image in images]
    if mode == "const":
        assert all((v == 0).all() for v in values)
    elif mode == "rand":
        assert all(torch.equal(v, v[:, :1].expand_as(v)) for v in values)
        assert stats.kstest(torch.cat([v[:, 0] for v in values]).numpy(), "norm").pvalue > 1e-3
    else:
        sample = torch.cat([v.flatten() for v in values])[:20_000].numpy()
        assert stats.kstest(sample, "norm").pvalue > 1e-3
