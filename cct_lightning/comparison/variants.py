"""Runs grouped into variants: those that differ in their seed alone."""

import math
from collections.abc import Collection, Hashable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import pandas as pd

from cct_lightning.ablation.combine import short_names
from cct_lightning.comparison.columns import Column, find_columns
from cct_lightning.comparison.runs import Run, beside_others, differing, values_of
from cct_lightning.comparison.statistics import Difference, difference, holm, mean
from cct_lightning.errors import InputError, nearest
from cct_lightning.runs import metrics

if TYPE_CHECKING:
    from matplotlib.figure import Figure

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
        return [run for run in self.runs if run.status == "finished" and number(run, self.metric) is not None]

    @cached_property
    def results(self) -> list[float]:
        """The metric of each finished run."""
        return [float(run.summary[self.metric]) for run in self.finished]

    @cached_property
    def samples(self) -> dict[Hashable, float]:
        """Seed -> metric, the mean where runs repeat a seed: what is independent. A run without a seed counts alone."""
        keys = [run.name if run.seed is None else run.seed for run in self.finished]
        pairs = list(zip(keys, self.results, strict=True))
        return {key: mean([value for other, value in pairs if other == key]) for key in keys}

    @property
    def index(self) -> float:
        """The place of its first run in the grid; infinite outside of a grid."""
        return min((run.index for run in self.runs if run.index is not None), default=math.inf)

    @property
    def name(self) -> str:
        """What makes the variant, such as `arch=cct_7_3x2, pool=seqpool`."""
        return ", ".join(f"{key}={value}" for key, value in self.values.items()) or "all runs"

    def cost(self, key: str, *, without: Collection[str] = ()) -> float:
        """Return the mean of a number in the summaries of the finished runs; NaN where none has it.

        `without` are names of runs that are left out.
        """
        numbers = [number(run, key) for run in self.finished if run.name not in without]
        return mean([each for each in numbers if each is not None])


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Variants side by side. A notebook shows it as its table.

    Attributes:
        metric: What is compared.
        options: Short name -> dotted option, for the options in which variants differ.
        variants: The best one first, those without a result last.
        baseline: The variant that the others are compared with; None when none has a result.
        columns: What is shown of each variant beside its options.
        pooled: Options in which the runs of one variant differ: those that `by` left out.
    """

    metric: str
    options: Mapping[str, str]
    variants: tuple[Variant, ...]
    baseline: Variant | None
    columns: tuple[Column, ...] = field(default_factory=lambda: find_columns((), ()))
    pooled: tuple[str, ...] = ()

    def to_baseline(self, variant: Variant) -> Difference | None:
        """Return the difference of a variant to the baseline; None for the baseline and without results."""
        return self.differences.get(id(variant))

    def corrected(self, variant: Variant) -> float:
        """Return the p-value of a variant's difference, corrected for all differences by Holm's method."""
        return self._corrected.get(id(variant), math.nan)

    @cached_property
    def differences(self) -> dict[int, Difference]:
        """The differences to the baseline, by the `id` of the variant."""
        base = self.baseline
        return {
            id(variant): difference(variant.samples, base.samples)
            for variant in self.variants
            if base is not None and variant is not base and variant.results
        }

    @cached_property
    def tests(self) -> int:
        """The number of differences that have a p-value."""
        return sum(not math.isnan(each.p) for each in self.differences.values())

    @cached_property
    def _corrected(self) -> dict[int, float]:
        return dict(zip(self.differences, holm([each.p for each in self.differences.values()]), strict=True))

    @cached_property
    def beside_others(self) -> set[str]:
        """The names of runs that shared a machine with another run."""
        return beside_others(self.runs)

    def cost(self, variant: Variant, key: str) -> tuple[float, bool]:
        """Return the mean over finished runs of something in their summaries, and whether a time is disturbed.

        A time is that of the runs that had their machine for themselves; where there is none, of all. NaN where no run
        has it.
        """
        every = variant.cost(key)
        if not metrics.metric(key).timed or math.isnan(every):
            return every, False
        alone = variant.cost(key, without=self.beside_others)
        return (every, True) if math.isnan(alone) else (alone, False)

    @property
    def runs(self) -> list[Run]:
        """All runs, in the order of the variants."""
        return [run for variant in self.variants for run in variant.runs]

    @property
    def unfinished(self) -> list[Run]:
        """The runs that have no result."""
        return [run for variant in self.variants for run in variant.runs if run not in variant.finished]

    @property
    def table(self) -> pd.DataFrame:
        """The comparison as numbers: one row per variant, accuracies from 0 to 1."""
        rows: list[dict[str, Any]] = [dict(variant.values) for variant in self.variants]
        for row, variant in zip(rows, self.variants, strict=True):
            for column in self.columns:
                row.update(column.numbers(self, variant))
        return pd.DataFrame(rows)

    def markdown(self, *, pivot: Sequence[str] = (), rename: Mapping[str, str] | None = None) -> str:
        """Return the table in Markdown.

        Args:
            pivot: Two options, for a table with the values of one in rows and of the other in columns.
            rename: Text of a heading or of a value of an option -> what to write instead.
        """
        from cct_lightning.comparison.tables import layout, to_markdown

        return to_markdown(layout(self, pivot=pivot, rename=rename))

    def latex(self, *, pivot: Sequence[str] = (), rename: Mapping[str, str] | None = None) -> str:
        """Return the table in LaTeX, for the packages booktabs and siunitx; arguments as for `markdown`.

        Where no columns were asked for, it has those that fit a page: `paper` of `columns.find_columns`.
        """
        from cct_lightning.comparison.latex import to_latex
        from cct_lightning.comparison.tables import layout

        asked = self.columns != find_columns((), ())
        shown = self if asked else replace(self, columns=find_columns(("paper",), ()))
        return to_latex(layout(shown, pivot=pivot, rename=rename))

    def plot(self, what: str = "results", *, key: str | None = None) -> "Figure":
        """Draw the comparison with matplotlib; see `comparison.figures.draw`."""
        from cct_lightning.comparison.figures import draw

        return draw(self, what, key=key)

    def _repr_markdown_(self) -> str:
        return self.markdown()


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
        columns: What to show; see `columns.find_columns`.

    Raises:
        InputError: An option, metric, baseline or column that no run has.
    """
    varying = differing(runs)
    keys = list(dict.fromkeys(_option(runs, key, varying) for key in by)) or varying
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
        columns=find_columns(columns, _numeric_keys(runs)),
        pooled=tuple(dict.fromkeys(key for group in groups.values() for key in differing(group))) if by else (),
    )


def number(run: Run, key: str) -> float | None:
    """Return a finite number of a run's summary; None where there is none."""
    value = run.summary.get(key)
    if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value):
        return float(value)
    return None


def _option(runs: Sequence[Run], key: str, varying: Sequence[str]) -> str:
    known = dict.fromkeys(name for run in runs for name in (*run.linked, *run.config.flat))
    matches = [key] if key in known else [name for name in known if name.endswith(f".{key}")]
    if not matches:
        last = [name.rpartition(".")[2] for name in known]
        hint = nearest(key, known) or nearest(key.rpartition(".")[2], last)
        raise InputError(f"No run sets the option {key!r}: the runs differ in {', '.join(varying) or 'none'}.{hint}")
    if len(matches) > 1:
        raise InputError(f"--by {key} could be {' or '.join(matches)}: give the full name.")
    return matches[0]


def _numeric_keys(runs: Sequence[Run]) -> list[str]:
    return list(dict.fromkeys(key for run in runs for key in run.summary if number(run, key) is not None))


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
