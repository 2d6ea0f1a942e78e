"""Mean and deviation over seeds, and differences to a baseline with their uncertainty.

Sources: Welch, Biometrika 34 (1947), for the interval of a difference of means of unequal variances; Student's paired
test for runs of the same seeds. Both are SciPy's. p-values are not corrected for the number of variants.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, stdev

from scipy import stats

_LEVEL = 0.95


@dataclass(frozen=True, kw_only=True)
class Difference:
    """Difference of two means.

    Attributes:
        mean: The difference.
        low: Lower end of Welch's 95 % confidence interval; NaN with fewer than two values on either side.
        high: Upper end.
        p: p-value of Welch's t-test.
        p_paired: p-value of the paired t-test over the seeds that both have; NaN with fewer than two.
        pairs: Number of those seeds.
    """

    mean: float
    low: float
    high: float
    p: float
    p_paired: float
    pairs: int


def mean(values: Sequence[float]) -> float:
    """Return the mean; NaN of nothing."""
    return fmean(values) if values else math.nan


def deviation(values: Sequence[float]) -> float:
    """Return the sample standard deviation (n - 1); NaN with fewer than two values."""
    return stdev(values) if len(values) > 1 else math.nan


def _vary(values: Sequence[float]) -> bool:
    # Rounding alone is no deviation.
    return deviation(values) > 1e-9 * max(abs(value) for value in values)


def difference(
    ours: Sequence[float], base: Sequence[float], ours_by_seed: Mapping[int, float], base_by_seed: Mapping[int, float]
) -> Difference:
    """Compare the values of a variant with those of the baseline; by seed, for the paired test."""
    low = high = p = p_paired = math.nan
    if len(ours) > 1 and len(base) > 1 and (_vary(ours) or _vary(base)):
        test = stats.ttest_ind(ours, base, equal_var=False)
        interval = test.confidence_interval(_LEVEL)
        low, high, p = float(interval.low), float(interval.high), float(test.pvalue)
    seeds = sorted(set(ours_by_seed) & set(base_by_seed))
    pairs = [ours_by_seed[seed] - base_by_seed[seed] for seed in seeds]
    if len(pairs) > 1 and _vary(pairs):
        p_paired = float(stats.ttest_1samp(pairs, 0).pvalue)
    return Difference(mean=mean(ours) - mean(base), low=low, high=high, p=p, p_paired=p_paired, pairs=len(seeds))
