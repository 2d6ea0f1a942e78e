"""Hyperband: which runs of an ablation stop early, because they are worse than most were after as many validations.

The rule is that of W&B's sweeps, asynchronous successive halving, so that `early_terminate` means the same there.
Source: https://docs.wandb.ai/models/sweeps/define-sweep-configuration#early_terminate, W&B's package `sweeps` 0.3
(hyperband_stopping.py), https://arxiv.org/abs/1810.05934.
"""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Hyperband:
    """Which runs stop early.

    Attributes:
        metric: A metric of the validation, such as val/acc.
        maximize: Whether more of it is better.
        bands: After how many validations runs are compared.
        eta: The best 1/eta of the runs go on.
        strict: A run is judged by its value at the band; else by its best value so far.
    """

    metric: str
    maximize: bool
    bands: tuple[int, ...]
    eta: float
    strict: bool

    def stops(self, own: Sequence[float], others: Sequence[Sequence[float]]) -> bool:
        """Tell whether a run with these values is to stop, beside the values of the others."""
        reached = [band for band in self.bands if band <= len(own)]
        if not reached:
            return False
        band, sign = reached[-1], -1 if self.maximize else 1
        there = sorted(sign * values[band - 1] for values in (own, *others) if len(values) >= band)
        threshold = there[int(1 / self.eta * len(there))]
        return (sign * own[band - 1] if self.strict else min(sign * value for value in own)) > threshold
