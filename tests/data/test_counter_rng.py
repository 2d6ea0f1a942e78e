"""Random numbers by key: their bits, their distribution, and what they do not depend on."""

from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats

from cct_lightning.data.augment import counter_rng


def reference(n: int, seed: int, epoch: int, index: np.ndarray, stream: int) -> np.ndarray:
    """The generator once more, in numpy's unsigned integers."""
    with np.errstate(over="ignore"):
        u = np.uint64

        def mix(z: np.ndarray) -> np.ndarray:
            z = (z ^ (z >> u(30))) * u(0xBF58476D1CE4E5B9)
            z = (z ^ (z >> u(27))) * u(0x94D049BB133111EB)
            return z ^ (z >> u(31))

        key = u(seed)
        for part in (stream, 0):
            key = mix(key + u(part + 1) * u(0x9E3779B97F4A7C15))
        z = (index.astype(u) ^ key) * u(0x9E3779B97F4A7C15)
        z = (z ^ u(epoch)) * u(0xD1342543DE82EF95)
        z = (z[:, None] ^ np.arange(n, dtype=u)) * u(0xDA942042E4DD58B5)
        return (mix(z) >> u(40)).astype(np.float32) / np.float32(1 << 24)


@pytest.mark.parametrize(("seed", "epoch", "stream"), [(0, 0, 0), (7, 299, 3), (2**63 - 1, 4999, 16)])
def test_bits_are_those_of_unsigned_arithmetic(seed: int, epoch: int, stream: int) -> None:
    index = torch.tensor([0, 1, 49_999, 1_281_166])
    ours = counter_rng.uniform(9, seed=seed, epoch=epoch, index=index, stream=stream)
    assert ours.dtype == torch.float32
    np.testing.assert_array_equal(ours.numpy(), reference(9, seed, epoch, index.numpy(), stream))


def test_a_sample_has_its_numbers_in_any_batch_and_any_amount() -> None:
    index = torch.arange(1000)
    all_of_them = counter_rng.uniform(8, seed=1, epoch=2, index=index, stream=3)
    order = torch.randperm(1000, generator=torch.Generator().manual_seed(0))
    assert torch.equal(counter_rng.uniform(8, seed=1, epoch=2, index=order, stream=3), all_of_them[order])
    assert torch.equal(counter_rng.uniform(3, seed=1, epoch=2, index=index[17:18], stream=3), all_of_them[17:18, :3])


def test_numbers_are_uniform_and_uncorrelated_along_every_coordinate() -> None:
    def one(seed: int = 0, epoch: int = 0, stream: int = 0) -> torch.Tensor:
        return counter_rng.uniform(1, seed=seed, epoch=epoch, index=torch.tensor([5]), stream=stream)[0]

    series = {
        "index": counter_rng.uniform(1, seed=0, epoch=0, index=torch.arange(20_000), stream=0)[:, 0],
        "draw": counter_rng.uniform(20_000, seed=0, epoch=0, index=torch.tensor([5]), stream=0)[0],
        "epoch": torch.cat([one(epoch=value) for value in range(1500)]),
        "seed": torch.cat([one(seed=value) for value in range(1500)]),
        "stream": torch.cat([one(stream=value) for value in range(1500)]),
    }
    for name, values in series.items():
        x = values.double().numpy()
        assert x.min() >= 0, name
        assert x.max() < 1, name
        assert stats.kstest(x, "uniform").pvalue > 1e-3, name
        for lag in (1, 2, 7):
            assert abs(np.corrcoef(x[lag:], x[:-lag])[0, 1]) < 4 / np.sqrt(len(x)), (name, lag)


def test_neighboring_keys_do_not_correlate() -> None:
    base: dict[str, Any] = {"seed": 4, "epoch": 10, "index": torch.arange(20_000), "stream": 1}
    x = counter_rng.uniform(1, **base)[:, 0].numpy()
    for change in ({"seed": 5}, {"epoch": 11}, {"stream": 2}, {"index": torch.arange(1, 20_001)}):
        y = counter_rng.uniform(1, **{**base, **change})[:, 0].numpy()
        assert abs(np.corrcoef(x, y)[0, 1]) < 4 / np.sqrt(len(x)), change
        assert (x == y).mean() < 1e-3, change


def test_bytes_of_the_numbers_pass_chi_square() -> None:
    draws = counter_rng.uniform(64, seed=0, epoch=0, index=torch.arange(4000), stream=0)
    bits = (draws * 2**24).long()
    for shift in (0, 8, 16):
        counts = torch.bincount(((bits >> shift) & 255).flatten(), minlength=256).numpy()
        assert stats.chisquare(counts).pvalue > 1e-3, shift


def test_normal_and_integers_have_their_distributions() -> None:
    draws = counter_rng.uniform(2, seed=0, epoch=0, index=torch.arange(20_000), stream=0).double()
    assert stats.kstest(counter_rng.normal(draws[:, 0], draws[:, 1]).numpy(), "norm").pvalue > 1e-3
    dice = counter_rng.integers(draws[:, 0], 6)
    assert dice.dtype == torch.int64
    assert stats.chisquare(torch.bincount(dice, minlength=6).numpy()).pvalue > 1e-3
    largest = torch.tensor([1 - 2.0**-24])
    assert counter_rng.integers(largest, 10_000_000).item() == 9_999_999
    assert torch.isfinite(counter_rng.normal(largest, torch.zeros(1))).all()


def test_global_random_state_is_left_alone() -> None:
    before = torch.get_rng_state()
    counter_rng.uniform(4, seed=0, epoch=0, index=torch.arange(8), stream=0)
    assert torch.equal(torch.get_rng_state(), before)
