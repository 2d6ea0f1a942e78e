"""Which operations are drawn, how often, and with what argument, against timm and torchvision."""

import random
from collections import Counter, defaultdict
from dataclasses import replace
from typing import Any
from unittest import mock

import numpy as np
import pytest
import timm.data.auto_augment as timm_ops
import torch
from PIL import Image
from scipy import stats
from torchvision.transforms import v2
from torchvision.transforms.v2 import AutoAugmentPolicy

from cct_lightning.data.augment import counter_rng
from cct_lightning.data.augment.auto import DRAWS, AutoAugmenter, Operations, sub_policies
from cct_lightning.data.augment.operations import Op
from cct_lightning.data.augment.policies import POLICIES, AugmentPolicy

N = 6000
NAMES = {value: name for name, value in vars(Op).items() if name.isupper() and name != "COUNT"}


def draw(policy: AugmentPolicy, count: int = N) -> Operations:
    augmenter = AutoAugmenter(policy, size=(32, 32))
    uniform = counter_rng.uniform(augmenter.slots * DRAWS, seed=0, epoch=0, index=torch.arange(count), stream=2)
    return augmenter.draw(uniform, (32, 32))


def hundredths(arguments: Any) -> np.ndarray:
    """Whole numbers, so that float32 and float64 compare."""
    return np.round(100 * np.asarray(arguments)).astype(int)


TIMM_NAMES = {
    "auto_contrast": Op.AUTOCONTRAST, "equalize": Op.EQUALIZE, "invert": Op.INVERT, "rotate": Op.ROTATE,
    "posterize": Op.POSTERIZE, "solarize": Op.SOLARIZE, "solarize_add": Op.SOLARIZE_ADD, "color": Op.COLOR,
    "contrast": Op.CONTRAST, "brightness": Op.BRIGHTNESS, "sharpness": Op.SHARPNESS, "shear_x": Op.SHEAR_X,
    "shear_y": Op.SHEAR_Y, "translate_x_rel": Op.TRANSLATE_X, "translate_y_rel": Op.TRANSLATE_Y,
}  # fmt: skip


def timms(config: str, count: int) -> dict[int, list[float]]:
    """The arguments with which timm calls each operation, in pixels for translations."""
    random.seed(0)
    np.random.seed(0)
    transform = timm_ops.rand_augment_transform(config, {"img_mean": (125, 123, 114)})
    called: dict[int, list[float]] = defaultdict(list)
    for op in transform.ops:
        number = TIMM_NAMES[op.aug_fn.__name__]
        scale = 32 if number in (Op.TRANSLATE_X, Op.TRANSLATE_Y) else 1

        def record(image: Any, *arguments: float, number: int = number, scale: int = scale, **_: Any) -> Any:
            called[number].append(scale * arguments[0] if arguments else 0.0)
            return image

        op.aug_fn = record
    image = Image.new("RGB", (32, 32))
    for _ in range(count):
        transform(image)
    return called


@pytest.mark.parametrize(
    ("config", "options"),
    [
        ("rand-m9-n2-mstd0.5-inc1", {}),
        ("rand-m6-n3-mstd1.5", {"magnitude": 6, "num_ops": 3, "magnitude_std": 1.5, "increasing": False}),
    ],
)
def test_randaugment_draws_as_timm(config: str, options: dict[str, Any]) -> None:
    policy = replace(POLICIES["timm"], **options)
    drawn, theirs = draw(policy), timms(config, N)
    ours = {op: drawn.argument[drawn.op == op].numpy() for op in theirs}
    assert set(drawn.op.unique().tolist()) == {Op.IDENTITY, *theirs}
    counts = np.array([len(ours[op]) for op in theirs])
    assert stats.chisquare(counts).pvalue > 1e-3  # all operations alike
    total = N * policy.num_ops
    assert abs(counts.sum() - total / 2) < 4 * np.sqrt(total / 4)  # each applied half the time
    for op, arguments in theirs.items():
        assert stats.ks_2samp(hundredths(ours[op]), hundredths(arguments)).pvalue > 1e-3, NAMES[op]
    assert abs(drawn.cubic.float().mean() - 0.5) < 0.03


@pytest.mark.parametrize("increasing", [True, False])
@pytest.mark.parametrize("magnitude", range(11))
def test_arguments_without_noise_are_timms(magnitude: int, increasing: bool) -> None:
    policy = replace(POLICIES["timm"], magnitude=magnitude, magnitude_std=0.0, increasing=increasing, op_prob=1.0)
    drawn = draw(policy, 1500)
    theirs = timms(f"rand-m{magnitude}-n2-p1-inc{int(increasing)}", 400)
    for op, arguments in theirs.items():
        ours = set(np.round(drawn.argument[drawn.op == op].numpy(), 4).tolist())
        if op in (Op.AUTOCONTRAST, Op.EQUALIZE, Op.INVERT):
            continue
        assert ours == set(np.round(np.array(arguments, dtype=np.float32), 4).tolist()), NAMES[op]


def test_two_operations_are_independent() -> None:
    drawn = draw(replace(POLICIES["timm"], op_prob=1.0))
    table = np.zeros((Op.COUNT, Op.COUNT))
    np.add.at(table, (drawn.op[:, 0].numpy(), drawn.op[:, 1].numpy()), 1)
    table = table[1:, 1:]  # no identity
    assert stats.chi2_contingency(table).pvalue > 1e-3


TORCHVISION_NAMES = {
    "Identity": Op.IDENTITY, "ShearX": Op.SHEAR_X, "ShearY": Op.SHEAR_Y, "TranslateX": Op.TRANSLATE_X,
    "TranslateY": Op.TRANSLATE_Y, "Rotate": Op.ROTATE, "Brightness": Op.BRIGHTNESS, "Color": Op.COLOR,
    "Contrast": Op.CONTRAST, "Sharpness": Op.SHARPNESS, "Posterize": Op.POSTERIZE, "Solarize": Op.SOLARIZE,
    "AutoContrast": Op.AUTOCONTRAST, "Equalize": Op.EQUALIZE, "Invert": Op.INVERT,
}  # fmt: skip


def torchvisions(transform: Any, count: int) -> tuple[Counter[tuple[int, ...]], dict[int, list[float]]]:
    """How often torchvision applies each sequence of operations, and their arguments in this package's units."""
    torch.manual_seed(0)
    sequences: Counter[tuple[int, ...]] = Counter()
    arguments: dict[int, list[float]] = defaultdict(list)
    called: list[int] = []

    def record(image: Any, transform_id: str, magnitude: float, **_: Any) -> Any:
        op = TORCHVISION_NAMES[transform_id]
        called.append(op)
        if op in (Op.BRIGHTNESS, Op.COLOR, Op.CONTRAST, Op.SHARPNESS):
            magnitude = 1 + magnitude
        elif op in (Op.POSTERIZE, Op.TRANSLATE_X, Op.TRANSLATE_Y):
            magnitude = int(magnitude)
        elif op == Op.SOLARIZE:
            magnitude = 255 * magnitude
        arguments[op].append(magnitude)
        return image

    image = torch.zeros(3, 32, 32, dtype=torch.uint8)
    with mock.patch.object(transform, "_apply_image_or_video_transform", record):
        for _ in range(count):
            called.clear()
            transform(image)
            sequences[tuple(op for op in called if op != Op.IDENTITY)] += 1
    return sequences, arguments


@pytest.mark.parametrize(
    ("policy", "transform"),
    [
        (AugmentPolicy(auto="autoaugment"), v2.AutoAugment(AutoAugmentPolicy.CIFAR10)),
        (AugmentPolicy(auto="autoaugment", autoaugment_policy="svhn"), v2.AutoAugment(AutoAugmentPolicy.SVHN)),
        (AugmentPolicy(auto="autoaugment", autoaugment_policy="imagenet"), v2.AutoAugment(AutoAugmentPolicy.IMAGENET)),
        (AugmentPolicy(auto="trivialaugment"), v2.TrivialAugmentWide()),
    ],
    ids=["cifar10", "svhn", "imagenet", "trivial"],
)
def test_draws_as_torchvision(policy: AugmentPolicy, transform: Any) -> None:
    drawn = draw(policy)
    sequences, arguments = torchvisions(transform, N)
    ours = Counter(tuple(op for op in row if op != Op.IDENTITY) for row in drawn.op.tolist())
    assert set(ours) == set(sequences) or sum((ours - sequences).values()) < 0.1 * N
    for sequence in set(ours) | set(sequences):
        a, b = ours[sequence], sequences[sequence]
        assert abs(a - b) < 5 * np.sqrt(a + b + 1), [NAMES[op] for op in sequence]
    for op, theirs in arguments.items():
        if op in (Op.IDENTITY, Op.AUTOCONTRAST, Op.EQUALIZE, Op.INVERT):
            continue
        values = drawn.argument[drawn.op == op].numpy()
        grid = set(np.round(np.array(theirs, dtype=np.float32), 3).tolist())
        assert set(np.round(values, 3).tolist()) <= grid or len(theirs) < 500, NAMES[op]
        assert stats.ks_2samp(hundredths(values), hundredths(theirs)).pvalue > 1e-3, NAMES[op]


def test_tables_are_torchvisions() -> None:
    for name, member in (("cifar10", "CIFAR10"), ("svhn", "SVHN"), ("imagenet", "IMAGENET")):
        theirs = v2.AutoAugment(AutoAugmentPolicy[member])._policies
        expected = [[(TORCHVISION_NAMES[op], prob, level or 0) for op, prob, level in pair] for pair in theirs]
        assert sub_policies(name) == expected
