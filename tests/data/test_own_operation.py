"""An operation of automatic augmentation from outside the package: one registered function with its range."""

import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from photographs import photographs
from torch import Tensor

from cct_lightning.data import ImageDataModule
from cct_lightning.data.augment import POLICIES, Augment, AugmentPolicy, Range, Sampling, operation
from cct_lightning.data.augment.registry import GROUPS, OPERATIONS, Op
from cct_lightning.errors import InputError

MY_LAB = """
import torch
from cct_lightning.data.augment import Range, operation

@operation("roll", randaugment=Range(base=1, span=7, whole=0.0), trivialaugment=Range(base=1, span=7))
def roll(images, distance):
    return torch.stack([image.roll(int(d), 2) for image, d in zip(images, distance)])

def unregistered(images):
    return images
"""


@pytest.fixture(autouse=True)
def _registry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Forget what a test registers."""
    (tmp_path / "my_lab.py").write_text(MY_LAB)
    monkeypatch.syspath_prepend(tmp_path)
    names, groups, numbers = dict(OPERATIONS), list(GROUPS), dict(vars(Op))
    yield
    OPERATIONS.clear()
    OPERATIONS.update(names)
    GROUPS[:] = groups
    vars(Op).clear()
    vars(Op).update(numbers)
    sys.modules.pop("my_lab", None)


def make(policy: AugmentPolicy) -> Augment:
    return Augment(policy, size=(32, 32), mean=[0.5] * 3, std=[0.25] * 3, seed=3)


@pytest.mark.parametrize("auto", ["randaugment", "trivialaugment"])
def test_a_policy_draws_it_by_its_import_path(auto: str) -> None:
    images, index = photographs(48).repeat(8, 1, 1, 1), torch.arange(48 * 8)
    plain = AugmentPolicy(auto=auto, num_ops=1, op_prob=1.0)  # type: ignore[arg-type]
    seen = make(replace(plain, extra_ops=("my_lab.roll",))).preview(images, index, epoch=0)
    rolled = [
        any(torch.equal(after, before.roll(d, 2)) for d in range(1, 9))
        for before, after in zip(images, seen, strict=True)
    ]
    share = 1 / (15 + 1)  # of RandAugment's operations; TrivialAugment has 14 of its own
    assert 0.4 * share < sum(rolled) / len(rolled) < 2.5 * share
    # That it exists changes nothing for policies that do not name it.
    assert torch.equal(make(plain).preview(images, index, epoch=0), before_roll(plain, images, index))


def before_roll(policy: AugmentPolicy, images: Tensor, index: Tensor) -> Tensor:
    """What a policy drew before anybody registered anything: images one by one, without the group of `roll`."""
    groups, GROUPS[:] = list(GROUPS), [group for group in GROUPS if group[2].__module__ != "my_lab"]
    try:
        return make(policy).preview(images, index, epoch=0)
    finally:
        GROUPS[:] = groups


def test_it_is_an_option_of_a_recipe() -> None:
    policy = AugmentPolicy(auto="trivialaugment", extra_ops=("my_lab.roll",))
    data = ImageDataModule(augment=policy)
    assert data.preview(range(20)).shape == (20, 1, 8, 8)
    assert "extra_ops=('my_lab.roll',)" in str(policy)


def test_compiled_it_gives_the_same_images() -> None:
    @operation("darker", trivialaugment=Range(base=1, span=100, whole=0.0))
    def darker(images: Tensor, amount: Tensor) -> Tensor:
        return (images.to(torch.int16) - amount.to(torch.int16).view(-1, 1, 1, 1)).clamp(min=0).to(torch.uint8)

    augment = make(AugmentPolicy(auto="trivialaugment", extra_ops=("darker",)))
    images, index = photographs(48), torch.arange(48)
    assert (augment.auto.draw(torch.rand(500, 6), (32, 32)).op == Op.DARKER).any()
    compiled = torch.compile(augment, fullgraph=True, backend="aot_eager")
    assert torch.equal(compiled(images, index, 1), augment(images, index, 1))


def test_a_function_takes_as_much_as_it_has_parameters_for() -> None:
    told: list[Sampling] = []

    @operation("plain", trivialaugment=Range())
    def plain(images: Tensor) -> Tensor:
        return images.flip(3)

    @operation("filled", trivialaugment=Range(span=1))
    def filled(images: Tensor, argument: Tensor, sampling: Sampling) -> Tensor:
        told.append(sampling)
        return sampling.fill.view(1, -1, 1, 1).expand_as(images)

    policy = AugmentPolicy(auto="trivialaugment", extra_ops=("plain", "filled"), fill=9, interpolation="random")
    images = photographs(48).repeat(4, 1, 1, 1)
    seen = make(policy).preview(images, torch.arange(48 * 4), 0)
    assert (seen == 9).flatten(1).all(1).any()
    assert (seen == images.flip(3)).flatten(1).all(1).any()
    assert told[0].interpolation == "random"
    assert set(told[0].op.tolist()) == {Op.FILLED}


def test_a_cell_that_runs_twice_replaces_it() -> None:
    for shade in (1, 2):

        @operation("shade", trivialaugment=Range())
        def shaded(images: Tensor, shade: int = shade) -> Tensor:
            return torch.full_like(images, shade)

    assert OPERATIONS["shade"].function is shaded
    assert GROUPS[-1][2] is shaded
    assert len(OPERATIONS) == Op.COUNT
    with pytest.raises(ValueError, match="already an augmentation operation 'rotate'"):
        operation("rotate")(shaded)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"auto": "trivialaugment", "extra_ops": ("rotat",)},
            "no .* operation 'rotat'.*Did you mean 'rotate'",
        ),
        ({"auto": "trivialaugment", "extra_ops": ("my_lab.nothing",)}, "Cannot import the augmentation operation"),
        ({"auto": "trivialaugment", "extra_ops": ("my_lab.unregistered",)}, "decorate it with"),
        ({"auto": "trivialaugment", "extra_ops": ("solarize_add",)}, "has no range for trivialaugment"),
        ({"auto": "autoaugment", "extra_ops": ("invert",)}, "drawn by auto: randaugment or trivialaugment"),
    ],
)
def test_what_cannot_be_drawn_is_one_sentence(options: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        AugmentPolicy(**options)


def test_published_operations_may_be_added_where_they_have_a_range() -> None:
    policy = replace(POLICIES["timm"], auto="trivialaugment", extra_ops=("rotate",))  # twice as likely as the others
    draws = make(policy).auto.draw(torch.rand(6000, 6), (32, 32)).op
    assert (draws == Op.ROTATE).sum() > 1.6 * (draws == Op.EQUALIZE).sum()
