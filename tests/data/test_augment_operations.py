"""Every operation of automatic augmentation against timm (Pillow) and torchvision, by parameter, on real images."""

import math
from pathlib import Path

import numpy as np
import pytest
import timm.data.auto_augment as timm_ops
import torch
from photographs import by_pillow, cifar, distance, photographs
from PIL import Image
from torch import Tensor
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import functional as tv

from cct_lightning.data.augment import geometric, operations, point_ops
from cct_lightning.data.augment.operations import Op

FILL = (125, 123, 114)
FACTORS = (0.1, 0.19, 0.55, 1.0, 1.45, 1.81, 1.9)


@pytest.fixture(scope="module", params=["photographs", "cifar10"])
def images(request: pytest.FixtureRequest) -> Tensor:
    if request.param == "photographs":
        return photographs()
    folder: Path = request.getfixturevalue("shared_data")
    return cifar(folder)


def full(images: Tensor, value: float) -> Tensor:
    return torch.full((len(images),), float(value))


def apply(images: Tensor, op: Tensor, argument: Tensor, cubic: Tensor, fill: Tensor, interpolation: str) -> Tensor:
    rotation = geometric.rotation(argument, (images.shape[2], images.shape[3]))
    return operations.apply(images, op, argument, cubic, rotation, fill, interpolation)


@pytest.mark.parametrize("factor", FACTORS)
@pytest.mark.parametrize(
    ("name", "torchvisions"),
    [("brightness", "brightness"), ("contrast", "contrast"), ("color", "saturation"), ("sharpness", "sharpness")],
)
def test_blends(images: Tensor, name: str, torchvisions: str, factor: float) -> None:
    ours = getattr(point_ops, name)(images, full(images, factor))
    pillows = by_pillow(images, lambda image: getattr(timm_ops, name)(image, factor))
    assert torch.equal(ours, pillows)
    assert distance(ours, getattr(tv, f"adjust_{torchvisions}")(images, factor)) <= 2
    assert factor == 1 or distance(ours, images) > 10


@pytest.mark.parametrize("bits", [1, 2, 4, 7, 8])
def test_posterize(images: Tensor, bits: int) -> None:
    ours = point_ops.posterize(images, full(images, bits))
    assert torch.equal(ours, by_pillow(images, lambda image: timm_ops.posterize(image, bits)))
    assert torch.equal(ours, tv.posterize(images, bits))


def test_posterize_to_no_bits_is_black(images: Tensor) -> None:
    assert point_ops.posterize(images, full(images, 0)).max() == 0


@pytest.mark.parametrize("threshold", [0, 26, 128, 140.5, 255, 256])
def test_solarize(images: Tensor, threshold: float) -> None:
    ours = point_ops.solarize(images, full(images, threshold))
    assert torch.equal(ours, by_pillow(images, lambda image: timm_ops.solarize(image, threshold)))
    if threshold <= 255:
        assert torch.equal(ours, tv.solarize(images, threshold))


@pytest.mark.parametrize("amount", [0, 33, 99, 110])
def test_solarize_add(images: Tensor, amount: int) -> None:
    ours = point_ops.solarize_add(images, full(images, amount))
    assert torch.equal(ours, by_pillow(images, lambda image: timm_ops.solarize_add(image, amount)))


def test_operations_without_an_argument(images: Tensor) -> None:
    assert torch.equal(point_ops.invert(images), by_pillow(images, timm_ops.invert))
    assert torch.equal(point_ops.equalize(images), by_pillow(images, timm_ops.equalize))
    assert torch.equal(point_ops.equalize(images), tv.equalize(images))
    assert distance(point_ops.autocontrast(images), by_pillow(images, timm_ops.auto_contrast)) <= 1
    assert distance(point_ops.autocontrast(images), tv.autocontrast(images)) <= 1


def test_flat_images_survive_histogram_operations() -> None:
    flat = torch.full((2, 3, 8, 8), 7, dtype=torch.uint8)
    flat[1] = 255
    assert torch.equal(point_ops.autocontrast(flat), flat)
    assert torch.equal(point_ops.equalize(flat), flat)


PILLOWS = {"nearest": Image.NEAREST, "bilinear": Image.BILINEAR, "bicubic": Image.BICUBIC}
MOVES = {
    Op.SHEAR_X: (timm_ops.shear_x, (0.27, -0.1234, 0.3)),
    Op.SHEAR_Y: (timm_ops.shear_y, (0.27, -0.1234, 0.3)),
    Op.TRANSLATE_X: (timm_ops.translate_x_abs, (3.0, -7.3, 14.4)),
    Op.TRANSLATE_Y: (timm_ops.translate_y_abs, (3.0, -7.3, 14.4)),
    Op.ROTATE: (timm_ops.rotate, (27.0, -13.7, 3.1)),
}


def moved(images: Tensor, op: int, argument: float, interpolation: str) -> Tensor:
    drawn = torch.full((len(images),), op)
    fill = torch.tensor(FILL, dtype=torch.uint8)
    cubic = torch.full((len(images),), interpolation == "bicubic")
    return apply(images, drawn, full(images, argument), cubic, fill, interpolation)


@pytest.mark.parametrize("interpolation", PILLOWS)
@pytest.mark.parametrize("op", MOVES)
def test_geometry_against_timm(images: Tensor, op: int, interpolation: str) -> None:
    theirs, arguments = MOVES[op]
    for argument in arguments:
        pillows = by_pillow(
            images,
            lambda image: theirs(image, argument, resample=PILLOWS[interpolation], fillcolor=FILL),  # noqa: B023
        )
        ours = moved(images, op, argument, interpolation)
        # Pillow truncates interpolated values, here they are rounded; nearest has nothing to round.
        assert distance(ours, pillows) <= (0 if interpolation == "nearest" else 2)
        assert distance(ours, images) > 10


@pytest.mark.parametrize("op", MOVES)
def test_random_interpolation_is_one_or_the_other(op: int) -> None:
    images = photographs(6)
    argument, fill = full(images, MOVES[op][1][1]), torch.tensor(FILL, dtype=torch.uint8)
    cubic = torch.tensor([True, False] * 3)
    mixed = apply(images, torch.full((6,), op), argument, cubic, fill, "random")
    for i in range(6):
        expected = moved(images, op, argument[0].item(), "bicubic" if cubic[i] else "bilinear")[i]
        assert torch.equal(mixed[i], expected)


@pytest.mark.parametrize("interpolation", ["nearest", "bilinear"])
@pytest.mark.parametrize(("degrees", "zoom", "shift"), [(10.0, 1.2, (2, -3)), (-33.0, 0.8, (0, 5)), (0.0, 1.0, (1, 0))])
def test_affine_against_torchvision(
    images: Tensor, degrees: float, zoom: float, shift: tuple[int, int], interpolation: str
) -> None:
    n = len(images)
    matrix = geometric.affine_matrix(full(images, degrees), full(images, zoom), torch.tensor([shift] * n), (32, 32))
    fill = torch.tensor(FILL, dtype=torch.uint8)
    ours = geometric.transform(images, matrix, torch.zeros(n, dtype=torch.bool), fill, interpolation)
    mode = InterpolationMode(interpolation)
    # torchvision turns clockwise here, and blends the border with the fill, which Pillow and this package do not.
    theirs = tv.affine(images, -degrees, list(shift), zoom, [0.0, 0.0], interpolation=mode, fill=list(map(float, FILL)))
    if interpolation == "nearest":
        assert torch.equal(ours, theirs)
        return
    white = torch.full_like(images, 255)
    inner = tv.affine(white, -degrees, list(shift), zoom, [0.0, 0.0], interpolation=mode, fill=[0.0]) == 255
    assert inner.float().mean() > 0.5
    assert distance(ours * inner, theirs * inner) <= 2


@pytest.mark.parametrize("op", [Op.SHEAR_X, Op.SHEAR_Y, Op.TRANSLATE_X, Op.TRANSLATE_Y, Op.ROTATE])
def test_geometry_against_torchvision(images: Tensor, op: int) -> None:
    """AutoAugment's operations as torchvision calls them, sampled at the nearest pixel, filled with black."""
    for argument in (3.0, -9.0) if op in (Op.TRANSLATE_X, Op.TRANSLATE_Y, Op.ROTATE) else (0.3, -0.1667):
        slope = math.degrees(math.atan(argument))
        theirs = {
            Op.SHEAR_X: lambda: tv.affine(images, 0.0, [0, 0], 1.0, [slope, 0.0], center=[0.0, 0.0]),  # noqa: B023
            Op.SHEAR_Y: lambda: tv.affine(images, 0.0, [0, 0], 1.0, [0.0, slope], center=[0.0, 0.0]),  # noqa: B023
            Op.TRANSLATE_X: lambda: tv.affine(images, 0.0, [-int(argument), 0], 1.0, [0.0, 0.0]),  # noqa: B023
            Op.TRANSLATE_Y: lambda: tv.affine(images, 0.0, [0, -int(argument)], 1.0, [0.0, 0.0]),  # noqa: B023
            Op.ROTATE: lambda: tv.rotate(images, argument),  # noqa: B023
        }[op]()
        n, black = len(images), torch.zeros(3, dtype=torch.uint8)
        cubic = torch.zeros(n, dtype=torch.bool)
        ours = apply(images, torch.full((n,), op), full(images, argument), cubic, black, "nearest")
        assert torch.equal(ours, theirs)


def test_images_that_are_not_square() -> None:
    images, fill = photographs(4, height=24, width=40), torch.tensor(FILL, dtype=torch.uint8)
    cubic = torch.ones(4, dtype=torch.bool)
    for op, (theirs, arguments) in MOVES.items():
        ours = apply(images, torch.full((4,), op), full(images, arguments[0]), cubic, fill, "bicubic")
        pillows = by_pillow(
            images,
            lambda image: theirs(image, arguments[0], resample=Image.BICUBIC, fillcolor=FILL),  # noqa: B023
        )
        assert distance(ours, pillows) <= 2, op


@pytest.mark.parametrize("interpolation", ["nearest", "random"])
def test_each_image_gets_its_own_operation(interpolation: str) -> None:
    images = photographs(32)
    op = torch.arange(32) % Op.COUNT
    argument = torch.full((32,), 0.4)
    cubic, fill = torch.arange(32) % 3 == 0, torch.tensor(FILL, dtype=torch.uint8)
    together = apply(images, op, argument, cubic, fill, interpolation)
    for i in range(32):
        one = slice(i, i + 1)
        alone = apply(images[one], op[one], argument[one], cubic[one], fill, interpolation)
        assert torch.equal(together[one], alone)
    assert torch.equal(together[op == Op.IDENTITY], images[op == Op.IDENTITY])


@pytest.mark.parametrize("channels", [1, 2, 4])
def test_other_than_three_channels(channels: int) -> None:
    images = photographs(16)[:, :1].expand(-1, channels, -1, -1).contiguous()
    op, fill = torch.arange(16), torch.full((channels,), 9, dtype=torch.uint8)
    done = apply(images, op, torch.full((16,), 0.4), torch.ones(16, dtype=torch.bool), fill, "random")
    assert done.shape == images.shape
    assert torch.equal(done[Op.COLOR], images[Op.COLOR])
    for channel in range(1, channels):
        assert torch.equal(done[:, channel], done[:, 0])
    gray = by_pillow(images[:, :1].expand(-1, 3, -1, -1), lambda image: timm_ops.contrast(image, 0.4))
    assert distance(done[Op.CONTRAST, :1], gray[Op.CONTRAST, :1]) <= 1


def test_images_are_not_overwritten() -> None:
    images = photographs(16)
    before = images.clone()
    op, fill = torch.arange(16), torch.tensor(FILL, dtype=torch.uint8)
    apply(images, op, torch.full((16,), 0.4), torch.ones(16, dtype=torch.bool), fill, "random")
    assert torch.equal(images, before)
    assert np.asarray(before).sum() > 0


@pytest.mark.parametrize("interpolation", ["nearest", "random"])
@pytest.mark.parametrize("chans", [1, 2, 4, 5])
def test_affine_takes_any_channels(chans: int, interpolation: str) -> None:
    planes = torch.randint(256, (6, chans, 9, 12), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    args = turned(6, (9, 12))
    together = geometric.transform(planes, *args, torch.arange(chans, dtype=torch.uint8), interpolation)
    for i in range(chans):
        alone = geometric.transform(planes[:, i : i + 1], *args, torch.tensor([i], dtype=torch.uint8), interpolation)
        assert torch.equal(together[:, i : i + 1], alone)


def test_affine_of_a_large_batch_is_that_of_its_images() -> None:
    images, fill = photographs(16).repeat(24, 1, 1, 1), torch.tensor(FILL, dtype=torch.uint8)
    assert images.numel() > 1 << 20  # taken row of taps by row
    matrix, cubic = turned(len(images), (32, 32))
    large = geometric.transform(images, matrix, cubic, fill, "random")
    parts = [
        geometric.transform(*part, fill, "random")
        for part in zip(images.split(50), matrix.split(50), cubic.split(50), strict=True)
    ]
    assert torch.equal(large, torch.cat(parts))


def turned(n: int, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    zoom = torch.full((n,), 1.1)
    return geometric.affine_matrix(torch.linspace(-40, 30, n), zoom, torch.ones(n, 2), size), torch.arange(n) % 2 == 0
