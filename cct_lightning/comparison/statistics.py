"""Mean and deviation over seeds, and differences to a baseline: interval, test, correction for several, power.

Sources: Student's paired t-test for runs of the same seeds; Welch, Biometrika 34 (1947), for means of unequal
variances; Holm, Scandinavian Journal of Statistics 6 (1979), for several differences to one baseline; the noncentral t
distribution for the power of these tests. The distributions are SciPy's.
"""

import bisect
import functools
import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, stdev, variance

from scipy import special

ALPHA = 0.05  # of two-sided tests; intervals cover the rest
POWER = 0.8  # probability with which a difference is to be shown
MOST_SEEDS = 1000  # up to which `seeds_needed` looks


@dataclass(frozen=True, kw_only=True)
class Difference:
    """Difference of two means, one of several to the same baseline.

    Attributes:
        mean: The difference; over the pairs where it is paired.
        paired: Whether it is of the seeds that both have, else of all (Welch).
        n: Pairs, else the smaller number of values on either side.
        error: Standard error of the difference; NaN with fewer than two values on either side, or where none varies.
        freedom: Degrees of freedom of the t-test.
        spread: Variance that one more seed on each side would add: `error` is the root of `spread / n` for equal n.
        freedom_per_seed: Degrees of freedom of each seed after the first, for equal n.
    """

    mean: float
    paired: bool
    n: int
    error: float = math.nan
    freedom: float = math.nan
    spread: float = math.nan
    freedom_per_seed: float = math.nan

    @property
    def _half(self) -> float:
        return float(special.stdtrit(self.freedom, 1 - ALPHA / 2)) * self.error

    @property
    def low(self) -> float:
        """Lower end of the 95 % confidence interval."""
        return self.mean - self._half

    @property
    def high(self) -> float:
        """Upper end of the 95 % confidence interval."""
        return self.mean + self._half

    @functools.cached_property
    def p(self) -> float:
        """p-value of the t-test of this difference alone."""
        return 2 * float(special.stdtr(self.freedom, -abs(self.mean) / self.error))

    def detectable(self, tests: int) -> float:
        """Return the smallest difference that would be shown with a probability of 80 %.

        Args:
            tests: Number of differences that are corrected for; the level is that of Holm's strictest step.
        """
        return _noncentrality(self.freedom, tests) * self.error

    def seeds_needed(self, tests: int) -> float:
        """Return how many seeds on each side would show this difference, likewise; infinite above 1000."""
        if math.isnan(self.spread):
            return math.nan
        found = bisect.bisect_left(
            range(2, MOST_SEEDS + 1),
            True,
            key=lambda n: least_difference(self.spread, n, tests, self.freedom_per_seed) <= abs(self.mean),
        )
        return found + 2 if found < MOST_SEEDS - 1 else math.inf


def least_difference(spread: float, n: int, tests: int, freedom_per_seed: float = 1.0) -> float:
    """Return the smallest difference that `n` seeds on each side would show with a probability of 80 %.

    `spread`, `freedom_per_seed` and `tests` are those of `Difference`.
    """
    return _noncentrality(freedom_per_seed * (n - 1), tests) * math.sqrt(spread / n)


@functools.cache
def _noncentrality(freedom: float, tests: int) -> float:
    """Return difference over standard error with which the test of corrected level has the wanted power."""
    critical = special.stdtrit(freedom, 1 - ALPHA / (2 * max(tests, 1)))
    return float(special.nctdtrinc(freedom, 1 - POWER, critical))


def mean(values: Sequence[float]) -> float:
    """Return the mean; NaN of nothing."""
    return fmean(values) if values else math.nan


def deviation(values: Sequence[float]) -> float:
    """Return the sample standard deviation (n - 1); NaN with fewer than two values."""
    return stdev(values) if len(values) > 1 else math.nan


def _vary(values: Sequence[float], size: float) -> bool:
    # Rounding alone is no deviation.
    return deviation(values) > 1e-9 * size


def difference(ours: Mapping[Hashable, float], base: Mapping[Hashable, float]) -> Difference:
    """Compare the values of a variant with those of the baseline, both by seed.

    Paired where the side with fewer seeds, two at least, has none that the other lacks; else by Welch's test of all.
    """
    shared = [seed for seed in ours if seed in base]
    n, size = min(len(ours), len(base)), max(map(abs, (*ours.values(), *base.values())))
    if n > 1 and len(shared) == n:
        pairs = [ours[seed] - base[seed] for seed in shared]
        if not _vary(pairs, size):
            return Difference(mean=mean(pairs), paired=True, n=n)
        spread = variance(pairs)
        return Difference(
            mean=mean(pairs),
            paired=True,
            n=n,
            error=math.sqrt(spread / n),
            freedom=n - 1,
            spread=spread,
            freedom_per_seed=1,
        )
    a, b = list(ours.values()), list(base.values())
    delta = mean(a) - mean(b)
    if n < 2 or not (_vary(a, size) or _vary(b, size)):
        return Difference(mean=delta, paired=False, n=n)
    u, v = variance(a), variance(b)
    x, y = u / len(a), v / len(b)
    return Difference(
        mean=delta,
        paired=False,
        n=n,
        error=math.sqrt(x + y),
        freedom=(x + y) ** 2 / (x**2 / (len(a) - 1) + y**2 / (len(b) - 1)),
        spread=u + v,
        freedom_per_seed=(u + v) ** 2 / (u**2 + v**2),
    )


def holm(values: Sequence[float]) -> list[float]:
    """Return the p-values corrected by Holm's method, in the same order; NaN stays and does not count."""
    known = sorted((p, i) for i, p in enumerate(values) if not math.isnan(p))
    corrected, largest = [math.nan] * len(values), 0.0
    for rank, (p, i) in enumerate(known):
        largest = max(largest, min(1.0, (len(known) - rank) * p))
        corrected[i] = largest
    return corrected
