"""Runs grouped into variants: those that differ in their seed alone."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import pandas as pd

from cct_lightning.ablation.grid import short_names
from cct_lightning.comparison.columns import COSTS, RESULTS, Column, find_columns
from cct_lightning.comparison.runs import Run, differing, values_of
from cct_lightning.comparison.statistics import Difference, difference, mean
from cct_lightning.errors import InputError, nearest
from cct_lightning.runs import metrics

_DEFAULT_METRICS = (metrics.TEST_ACC, metrics.BEST_VAL_ACC, metrics.TEST_LOSS)


@dataclass(frozen=True, kw_only=True)
class Variant:
    """Runs that differ in their seed alone.

    Attributes:
        values: Short name of an option -> value, for the options in which variants differ.
        runs: All runs, finished or not.
        metric: What is compared.
    """

    values: Mapping[str, str]
    runs: tuple[Run, ...]
    metric: str

    @cached_property
    def finished(self) -> list[Run]:
        """The finished runs that have the metric."""
        return [run for run in self.runs if run.status == "finished" and _number(run, self.metric) is not None]

    @cached_property
    def results(self) -> list[float]:
        """The metric of each finished run."""
        return [float(run.summary[self.metric]) for run in self.finished]

    @cached_property
    def by_seed(self) -> dict[int, float]:
        """Seed -> metric; the mean where several runs share a seed."""
        pairs = [(run.seed, value) for run, value in zip(self.finished, self.results, strict=True)]
        return {seed: mean([v for s, v in pairs if s == seed]) for seed, _ in pairs if seed is not None}

    @property
    def index(self) -> float:
        """The place of its first run in the grid; infinite outside of a grid."""
        return min((run.index for run in self.runs if run.index is not None), default=math.inf)

    @property
    def name(self) -> str:
        """What makes the variant, such as `arch=cct_7_3x2, pool=seqpool`."""
        return ", ".join(f"{key}={value}" for key, value in self.values.items()) or "all runs"

    def cost(self, key: str) -> float:
        """Return the mean over finished runs of something in their summaries; NaN where none has it."""
        numbers = [_number(run, key) for run in self.finished]
        return mean([number for number in numbers if number is not None])


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Variants side by side.

    Attributes:
        metric: What is compared.
        options: Short name -> dotted option, for the options in which variants differ.
        variants: The best one first, those without a result last.
        baseline: The variant that the others are compared with; None when none has a result.
        columns: What is shown of each variant beside its options.
    """

    metric: str
    options: Mapping[str, str]
    variants: tuple[Variant, ...]
    baseline: Variant | None
    columns: tuple[Column, ...] = (*RESULTS, *COSTS)

    def to_baseline(self, variant: Variant) -> Difference | None:
        """Return the difference of a variant to the baseline; None for the baseline and without results."""
        return self._differences.get(id(variant))

    @cached_property
    def _differences(self) -> dict[int, Difference]:
        base = self.baseline
        return {
            id(variant): difference(variant.results, base.results, variant.by_seed, base.by_seed)
            for variant in self.variants
            if base is not None and variant is not base and variant.results
        }

    @property
    def runs(self) -> list[Run]:
        """All runs, in the order of the variants."""
        return [run for variant in self.variants for run in variant.runs]

    @property
    def unfinished(self) -> list[Run]:
        """The runs that have no result."""
        return [run for variant in self.variants for run in variant.runs if run not in variant.finished]

    def frame(self) -> pd.DataFrame:
        """Return the comparison as numbers: one row per variant, accuracies from 0 to 1."""
        rows: list[dict[str, Any]] = [dict(variant.values) for variant in self.variants]
        for row, variant in zip(rows, self.variants, strict=True):
            for column in self.columns:
                row.update(column.numbers(self, variant))
        return pd.DataFrame(rows)


def compare_runs(
    runs: Sequence[Run],
    *,
    by: Sequence[str] = (),
    metric: str | None = None,
    baseline: str | None = None,
    columns: Sequence[str] = (),
) -> Comparison:
    """Group runs into variants.

    Args:
        runs: The runs, one at least.
        by: Options that make a variant, dotted or their last part; all that differ when empty.
        metric: A key of the summaries; the test accuracy where there is one.
        baseline: Values such as `pool=class_token`; the first of the grid, else the worst variant.
        columns: More columns: keys of the summaries, or import paths of a `Column`.

    Raises:
        InputError: An option, metric, baseline or column that no run has.
    """
    keys = [_option(runs, key) for key in by] or differing(runs)
    metric = _metric(runs, metric)
    names = short_names(keys)
    groups: dict[tuple[str, ...], list[Run]] = {}
    for run in runs:
        groups.setdefault(tuple(values_of(run, keys).values()), []).append(run)
    variants = [
        Variant(values=dict(zip(names.values(), values, strict=True)), runs=tuple(group), metric=metric)
        for values, group in groups.items()
    ]
    sign = 1 if metrics.metric(metric).goal == "min" else -1
    variants.sort(key=lambda variant: (not variant.results, sign * mean(variant.results) if variant.results else 0))
    return Comparison(
        metric=metric,
        options={name: key for key, name in names.items()},
        variants=tuple(variants),
        baseline=_baseline(variants, baseline),
        columns=(*RESULTS, *COSTS, *find_columns(columns, _numeric_keys(runs))),
    )


def notes(comparison: Comparison) -> list[str]:
    """Return what a reader must know beside the numbers: runs without a result, repeated seeds."""
    lines = []
    for variant in comparison.variants:
        count = len(variant.finished)
        repeated = count - len({run.seed for run in variant.finished})
        if repeated:
            lines.append(f"{variant.name}: {repeated} of {count} runs repeat a seed and are no independent samples.")
    for run in comparison.unfinished:
        status = run.status if run.status != "finished" else f"finished without {comparison.metric}"
        lines.append(f"{run.name}: {status}{f' ({run.reason})' if run.reason else ''}.")
    return lines


def _number(run: Run, key: str) -> float | None:
    value = run.summary.get(key)
    if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value):
        return float(value)
    return None


def _option(runs: Sequence[Run], key: str) -> str:
    known = dict.fromkeys(name for run in runs for name in run.config.flat)
    matches = [key] if key in known else [name for name in known if name.endswith(f".{key}")]
    if not matches:
        raise InputError(f"No run sets the option {key!r}.{nearest(key, known)}")
    if len(matches) > 1:
        raise InputError(f"--by {key} could be {' or '.join(matches)}: give the full name.")
    return matches[0]


def _numeric_keys(runs: Sequence[Run]) -> list[str]:
    return list(dict.fromkeys(key for run in runs for key in run.summary if _number(run, key) is not None))


def _metric(runs: Sequence[Run], metric: str | None) -> str:
    known = _numeric_keys(runs)
    if metric is None:
        return next((key for key in _DEFAULT_METRICS if key in known), _DEFAULT_METRICS[0])
    if metric not in known:
        raise InputError(f"No run has the metric {metric!r}: there are {', '.join(known)}.{nearest(metric, known)}")
    return metric


def _baseline(variants: Sequence[Variant], wanted: str | None) -> Variant | None:
    done = [variant for variant in variants if variant.results]
    if wanted is not None:
        terms = {term.strip() for term in wanted.split(",")}
        found = [v for v in done if terms <= {f"{key}={value}" for key, value in v.values.items()}]
        if len(found) != 1:
            raise InputError(
                f"--baseline {wanted!r} fits {len(found)} variants with results: choose one, such as "
                f"{(done or variants)[-1].name!r}."
            )
        return found[0]
    first = min(done, key=lambda variant: variant.index, default=None)
    # Without a grid none comes first: then the worst one does.
    return first if first is not None and first.index < math.inf else done[-1] if done else None
