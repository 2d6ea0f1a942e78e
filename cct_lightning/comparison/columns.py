"""The columns of `cct compare` and `cct report`, for the terminal, Markdown, LaTeX, CSV and the page alike.

A new one is one entry of `COLUMNS` here, or a `Column` of yours, which `--columns` takes by its import path.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

from cct_lightning.comparison.statistics import MOST_SEEDS, Difference, deviation, mean
from cct_lightning.errors import InputError, nearest
from cct_lightning.runs import metrics
from cct_lightning.runs.metrics import metric
from cct_lightning.system.importing import import_path

if TYPE_CHECKING:
    from cct_lightning.comparison.variants import Comparison, Variant

ABSENT = "-"


@dataclass(frozen=True, kw_only=True)
class Column:
    """A column about variants.

    Attributes:
        name: Its name in CSV and in `Comparison.frame`.
        heading: Its heading elsewhere, with the unit; `{metric}` becomes what is compared.
        value: The number of a variant, by which the page sorts; NaN where there is none.
        text: What a cell says; None for the number with all its digits, `-` for NaN.
        also: More numbers that CSV has, by name.
    """

    name: str
    heading: str
    value: Callable[[Comparison, Variant], float]
    text: Callable[[Comparison, Variant], str] | None = None
    also: Mapping[str, Callable[[Comparison, Variant], float]] = field(default_factory=dict)

    def title(self, comparison: Comparison) -> str:
        """Return the heading in a comparison."""
        return self.heading.replace("{metric}", metric(comparison.metric).label(comparison.metric))

    def cell(self, comparison: Comparison, variant: Variant) -> str:
        """Return the text of a cell."""
        if self.text is not None:
            return self.text(comparison, variant)
        value = self.value(comparison, variant)
        return ABSENT if math.isnan(value) else f"{value:g}"

    def numbers(self, comparison: Comparison, variant: Variant) -> dict[str, float]:
        """Return the numbers of a variant, by name."""
        return {name: get(comparison, variant) for name, get in {self.name: self.value, **self.also}.items()}


def _of_difference(get: Callable[[Comparison, Difference], float]) -> Callable[[Comparison, Variant], float]:
    def value(comparison: Comparison, variant: Variant) -> float:
        delta = comparison.to_baseline(variant)
        return math.nan if delta is None else float(get(comparison, delta))

    return value


def _count(comparison: Comparison, variant: Variant) -> str:
    done, there = len(variant.results), len(variant.runs)
    return str(done) if done == there else f"{done} of {there}"


def _result(comparison: Comparison, variant: Variant) -> str:
    if not variant.results:
        return ABSENT
    text, spread = metric(comparison.metric).text, deviation(variant.results)
    return text(mean(variant.results)) + ("" if math.isnan(spread) else f" ± {text(spread)}")


def _gap(comparison: Comparison, variant: Variant) -> str:
    if variant is comparison.baseline:
        return "baseline"
    if (delta := comparison.to_baseline(variant)) is None:
        return ABSENT
    text = partial(metric(comparison.metric).text, sign=True)
    interval = "" if math.isnan(delta.low) else f" [{text(delta.low)}, {text(delta.high)}]"
    return text(delta.mean) + interval


def _p(name: str, heading: str, value: Callable[[Comparison, Variant], float]) -> Column:
    def text(comparison: Comparison, variant: Variant) -> str:
        p = value(comparison, variant)
        return ABSENT if math.isnan(p) else "<0.001" if p < 0.001 else f"{p:.3f}"

    return Column(name=name, heading=heading, value=value, text=text)


def _needed(comparison: Comparison, variant: Variant) -> str:
    n = _SEEDS(comparison, variant)
    return ABSENT if math.isnan(n) else f">{MOST_SEEDS}" if math.isinf(n) else f"{n:g}"


def _detectable(comparison: Comparison, variant: Variant) -> str:
    value = _DETECTABLE(comparison, variant)
    return ABSENT if math.isnan(value) else metric(comparison.metric).text(value)


def summary_column(key: str, heading: str | None = None) -> Column:
    """Return the column of a number in the summaries, such as memory_gb: its mean over the finished runs.

    The heading is its key with the unit when None. A time has an asterisk where other runs shared the machine.
    """
    kind = metric(key)

    def text(comparison: Comparison, variant: Variant) -> str:
        value, disturbed = comparison.cost(variant, key)
        return ABSENT if math.isnan(value) else kind.text(value) + "*" * disturbed

    def value(comparison: Comparison, variant: Variant) -> float:
        return comparison.cost(variant, key)[0]

    return Column(name=key, heading=heading or kind.label(key), value=value, text=text)


_DETECTABLE = _of_difference(lambda comparison, delta: delta.detectable(comparison.tests))
_SEEDS = _of_difference(lambda comparison, delta: delta.seeds_needed(comparison.tests))
_P = _of_difference(lambda _, delta: delta.p)
_HEADINGS = {"params": "params", "macs": "M MACs", "images_per_s": "images/s", "seconds": "time (s)"}
_ALL = (
    Column(
        name="n",
        heading="n",
        value=lambda _, variant: len(variant.results),
        text=_count,
        also={"unfinished": lambda _, variant: len(variant.runs) - len(variant.results)},
    ),
    Column(
        name="mean",
        heading="{metric}",
        value=lambda _, variant: mean(variant.results),
        text=_result,
        also={"std": lambda _, variant: deviation(variant.results)},
    ),
    Column(
        name="difference",
        heading="Δ [95 % CI]",
        value=_of_difference(lambda _, delta: delta.mean),
        text=_gap,
        also={
            "ci_low": _of_difference(lambda _, delta: delta.low),
            "ci_high": _of_difference(lambda _, delta: delta.high),
            "pairs": _of_difference(lambda _, delta: delta.n if delta.paired else 0),
            "p": _P,
            "detectable": _DETECTABLE,
        },
    ),
    _p("p", "p, one test", _P),
    _p("p_holm", "p", lambda comparison, variant: comparison.corrected(variant)),
    Column(name="detectable", heading="least Δ", value=_DETECTABLE, text=_detectable),
    Column(name="seeds_needed", heading="seeds", value=_SEEDS, text=_needed),
    *(summary_column(key, _HEADINGS[key]) for key in metrics.COSTS),
)
COLUMNS = {column.name: column for column in _ALL}
# Names that stand for several: what is shown where nothing is asked for, and what fits the page of a paper.
_SETS = {
    "default": ("n", "mean", "difference", "p_holm", "seeds_needed", *metrics.COSTS),
    "paper": ("n", "mean", "difference", "p_holm"),
}


def find_columns(names: Sequence[str], known: Sequence[str]) -> tuple[Column, ...]:
    """Return columns by name.

    Args:
        names: Names in `COLUMNS`, keys of the summaries, import paths of a `Column`, `default` for those that are
            shown where nothing is asked for, or `paper` for those that LaTeX shows then.
        known: The keys of the summaries.

    Raises:
        InputError: A name is none of these.
    """
    found = []
    for name in names or ("default",):
        if name in _SETS:
            found += [COLUMNS[key] for key in _SETS[name]]
            continue
        own = COLUMNS.get(name) or (import_path(name, "column") if name not in known and "." in name else None)
        if name not in known and not isinstance(own, Column):
            raise InputError(
                f"Unknown column {name!r}: choose {', '.join(COLUMNS)}, a number in the summaries, or the import path "
                f"of a Column.{nearest(name, [*COLUMNS, *known])}"
            )
        found.append(own if isinstance(own, Column) else summary_column(name))
    return tuple(found)
