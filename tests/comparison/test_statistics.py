"""Correction and power against SciPy's distributions and the published formulas."""

import math
import warnings

import pytest
from scipy import stats

from cct_lightning.comparison.statistics import Difference, difference, holm, least_difference

OURS = {0: 0.91, 1: 0.93, 2: 0.92, 3: 0.915}
BASE = {0: 0.90, 1: 0.915, 2: 0.90, 3: 0.91}


def power(delta: float, error: float, freedom: float, alpha: float) -> float:
    """The power of a two-sided t-test, as far as it lies on the side of the difference."""
    return float(stats.nct.sf(stats.t.ppf(1 - alpha / 2, freedom), freedom, abs(delta) / error))


def test_holm_multiplies_by_the_rank_and_never_falls() -> None:
    assert holm([0.01, 0.04, 0.03, 0.5]) == pytest.approx([0.04, 0.09, 0.09, 0.5])
    assert holm([0.02, math.nan, 0.5, 0.9])[0] == pytest.approx(0.06)
    assert math.isnan(holm([math.nan])[0])
    assert holm([0.6, 0.7]) == [1.0, 1.0]


@pytest.mark.parametrize("tests", [1, 3, 49])
@pytest.mark.parametrize("base", [BASE, {seed + 10: value for seed, value in BASE.items()}], ids=["paired", "welch"])
def test_the_detectable_difference_has_a_power_of_80_percent(base: dict[int, float], tests: int) -> None:
    delta = difference(OURS, base)
    size = delta.detectable(tests)
    assert power(size, delta.error, delta.freedom, 0.05 / tests) == pytest.approx(0.8, abs=1e-3)


def test_the_seeds_needed_are_the_fewest() -> None:
    delta = difference(OURS, BASE)
    n = int(delta.seeds_needed(3))
    spread = stats.tstd([OURS[seed] - BASE[seed] for seed in OURS]) ** 2
    assert delta.spread == pytest.approx(spread)
    assert power(delta.mean, math.sqrt(spread / n), n - 1, 0.05 / 3) >= 0.8
    assert power(delta.mean, math.sqrt(spread / (n - 1)), n - 2, 0.05 / 3) < 0.8
    assert least_difference(spread, n, 3) <= delta.mean < least_difference(spread, n - 1, 3)


def test_what_cannot_be_tested_says_so_without_a_warning() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        equal = difference({0: 0.5, 1: 0.5, 2: 0.5}, {0: 0.4, 1: 0.4, 2: 0.4})
        single = difference({0: 0.5}, {0: 0.4, 1: 0.41})
        nearly = difference({0: 0.1 + 0.2, 1: 0.3}, {0: 0.3, 1: 0.3})
        none = difference({0: 0.5, 1: 0.6}, {0: 0.5, 1: 0.6})
        for delta in (equal, single, nearly, none):
            values = (delta.low, delta.high, delta.p, delta.detectable(1), delta.seeds_needed(1))
            assert all(math.isnan(value) for value in values)
    assert equal.mean == pytest.approx(0.1)
    assert (single.mean, single.n) == (pytest.approx(0.095), 1)


def test_a_difference_beyond_a_thousand_seeds_is_infinite() -> None:
    tiny = Difference(mean=1e-6, paired=True, n=3, error=0.01, freedom=2, spread=3e-4, freedom_per_seed=1)
    assert math.isinf(tiny.seeds_needed(1))
