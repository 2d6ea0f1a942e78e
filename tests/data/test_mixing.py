"""Mixup and cutmix: targets, distribution, boxes, and the same batch on one device, two or four."""

import numpy as np
import pytest
import torch
from photographs import photographs
from scipy import stats
from timm.data.mixup import rand_bbox
from torch import Tensor

from cct_lightning.data.augment.augment import Augment
from cct_lightning.data.augment.mixup import Mixing, MixingPolicy
from cct_lightning.errors import InputError

CLASSES = 10
MIXUP, CUTMIX = MixingPolicy(cutmix_alpha=0.0), MixingPolicy(mixup_alpha=0.0)


def batch(count: int = 64) -> tuple[Tensor, Tensor]:
    augment = Augment("none", size=(32, 32), mean=[0.5] * 3, std=[0.25] * 3)
    labels = torch.randint(0, CLASSES, (count,), generator=torch.Generator().manual_seed(0))
    return augment.normalize(photographs(count)), labels


def lambdas(policy: MixingPolicy, steps: int, seed: int = 0) -> np.ndarray:
    """The label's share of its own, step by step; class 0 and class 1 are each other's partners."""
    mixing = Mixing(policy, num_classes=2, seed=seed)
    images, labels = torch.zeros(2, 1, 32, 32), torch.tensor([0, 1])
    return np.array([mixing(images, labels, 0, step)[1][0, 0].item() for step in range(steps)])


@pytest.mark.parametrize("policy", [MixingPolicy(), MIXUP, CUTMIX, MixingPolicy(prob=0.5)])
def test_targets_sum_to_one_and_match_the_images(policy: MixingPolicy) -> None:
    images, labels = batch()
    mixing = Mixing(policy, num_classes=CLASSES)
    for step in range(8):
        mixed, targets = mixing(images, labels, 3, step)
        assert mixed.shape == images.shape
        assert mixed.dtype == images.dtype
        assert targets.dtype == torch.float32
        torch.testing.assert_close(targets.sum(1), torch.ones(64), atol=1e-6, rtol=0)
        assert (targets >= 0).all()
        partner = labels.roll(-32)
        share = targets.gather(1, labels[:, None])[:, 0][labels != partner]
        lam = share[0].item()
        assert torch.allclose(share, torch.tensor(lam))
        own = (mixed == images).all(1)  # pixels that are the image's own
        blend = lam * images + (1 - lam) * images.roll(-32, 0)
        if torch.allclose(mixed, blend, atol=1e-5):
            continue
        assert torch.equal(mixed, torch.where(own[:, None], images, images.roll(-32, 0)))
        # Every image has the same box, and the label's share is its area: pixels that agree by chance excepted.
        box = ~own.all(0)
        assert abs(1 - box.float().mean().item() - lam) < 1e-6


def test_lambda_is_beta_distributed() -> None:
    for alpha in (0.2, 0.8, 2.0):
        values = lambdas(MixingPolicy(mixup_alpha=alpha, cutmix_alpha=0.0), 1200)
        assert stats.kstest(values, stats.beta(alpha, alpha).cdf).pvalue > 1e-3, alpha


def test_boxes_are_distributed_as_timms() -> None:
    ours = lambdas(CUTMIX, 1200)
    rng = np.random.RandomState(0)
    np.random.seed(0)
    theirs = []
    for lam in rng.beta(1, 1, 1200):
        top, bottom, left, right = rand_bbox((32, 32), lam)
        theirs.append(1 - (bottom - top) * (right - left) / 1024)
    assert stats.ks_2samp(ours, theirs).pvalue > 1e-3


def test_probabilities_of_mixing_and_of_cutmix() -> None:
    assert abs((lambdas(MixingPolicy(prob=0.3, cutmix_alpha=0.0), 1000) < 1).mean() - 0.3) < 0.05
    mixing = Mixing(MixingPolicy(switch_prob=0.25), num_classes=2)
    images = torch.stack((torch.zeros(1, 16, 16), torch.ones(1, 16, 16)))
    mixed = [mixing(images, torch.tensor([0, 1]), 0, step)[0][0] for step in range(1000)]
    blended = np.mean([bool(((m > 0) & (m < 1)).any()) for m in mixed])
    assert abs(blended - 0.75) < 0.05


def test_seed_epoch_and_step_decide_and_nothing_else() -> None:
    images, labels = batch()
    mixing = Mixing(MixingPolicy(), num_classes=CLASSES, seed=1)
    torch.manual_seed(0)
    before = torch.get_rng_state()
    first = mixing(images, labels, 2, 5)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(1)
    again = Mixing(MixingPolicy(), num_classes=CLASSES, seed=1)(images, labels, 2, 5)
    assert torch.equal(first[0], again[0])
    assert torch.equal(first[1], again[1])
    for other in (
        mixing(images, labels, 3, 5),
        mixing(images, labels, 2, 6),
        Mixing(MixingPolicy(), num_classes=CLASSES, seed=2)(images, labels, 2, 5),
    ):
        assert not torch.equal(first[1], other[1])


@pytest.mark.parametrize("policy", [MixingPolicy(), MIXUP, CUTMIX])
@pytest.mark.parametrize("world", [1, 2, 4])
def test_the_global_batch_is_the_same_on_any_number_of_devices(policy: MixingPolicy, world: int) -> None:
    """Dealt out as by torch's DistributedSampler: global position p goes to rank p % world."""
    images, labels = batch(64)
    mixing = Mixing(policy, num_classes=CLASSES, seed=4)
    for step in range(4):
        expected = mixing(images, labels, 1, step)
        mixed, targets = torch.empty_like(images), torch.empty(64, CLASSES)
        for rank in range(world):
            mixed[rank::world], targets[rank::world] = mixing(images[rank::world], labels[rank::world], 1, step)
        assert torch.equal(mixed, expected[0])
        assert torch.equal(targets, expected[1])


def test_off_from_its_epoch_on() -> None:
    images, labels = batch(8)
    mixing = Mixing(MixingPolicy(off_epoch=175), num_classes=CLASSES)
    assert not torch.equal(mixing(images, labels, 174, 0)[0], images)
    mixed, targets = mixing(images, labels, 175, 0)
    assert torch.equal(mixed, images)
    assert torch.equal(targets.argmax(1), labels)
    assert (targets.max(1).values == 1).all()


def test_inputs_are_left_as_they_were() -> None:
    images, labels = batch(8)
    before = images.clone()
    Mixing(MixingPolicy(), num_classes=CLASSES)(images, labels, 0, 0)
    assert torch.equal(images, before)


@pytest.mark.parametrize("count", [1, 2, 7])
def test_small_and_odd_batches(count: int) -> None:
    images, labels = batch(count)
    for step in range(4):
        mixed, targets = Mixing(MixingPolicy(), num_classes=CLASSES)(images, labels, 0, step)
        assert mixed.shape == images.shape
        torch.testing.assert_close(targets.sum(1), torch.ones(count), atol=1e-6, rtol=0)
        if count == 1:
            torch.testing.assert_close(mixed, images, atol=1e-6, rtol=0)


def test_bfloat16_images_keep_their_type() -> None:
    images, labels = batch(8)
    mixed, targets = Mixing(MixingPolicy(), num_classes=CLASSES)(images.bfloat16(), labels, 0, 0)
    exact, same = Mixing(MixingPolicy(), num_classes=CLASSES)(images, labels, 0, 0)
    assert mixed.dtype == torch.bfloat16
    assert (mixed.float() - exact).abs().max() < 0.05
    assert torch.equal(targets, same)


def test_one_graph_gives_the_same_batch() -> None:
    images, labels = batch(8)
    mixing = Mixing(MixingPolicy(), num_classes=CLASSES)
    compiled = torch.compile(mixing, fullgraph=True, backend="aot_eager")
    for step in range(4):
        for ours, theirs in zip(compiled(images, labels, 1, step), mixing(images, labels, 1, step), strict=True):
            assert torch.equal(ours, theirs)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"prob": 1.1}, "prob is a probability"),
        ({"switch_prob": -1}, "switch_prob is a probability"),
        ({"mixup_alpha": -0.1}, "mixup_alpha is 0"),
        ({"cutmix_alpha": float("inf")}, "cutmix_alpha is 0"),
        ({"mixup_alpha": 0, "cutmix_alpha": 0}, "nothing is mixed"),
        ({"off_epoch": -1}, "off_epoch is an epoch"),
    ],
)
def test_options_out_of_range(options: dict[str, float], message: str) -> None:
    with pytest.raises(InputError, match=message):
        MixingPolicy(**options)  # type: ignore[arg-type]


def test_num_classes_must_be_positive() -> None:
    with pytest.raises(InputError, match="num_classes"):
        Mixing(MixingPolicy(), num_classes=0)
