"""The columns of `cct compare` and `cct report`, for the terminal, Markdown, LaTeX, CSV and the page alike.

A new one is one entry of `RESULTS` or `COSTS` here, or a `Column` of yours, which `--columns` takes by its import path.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

from cct_lightning.comparison.statistics import deviation, mean
from cct_lightning.errors import InputError, nearest
from cct_lightning.runs import metrics
from cct_lightning.runs.metrics import metric
from cct_lightning.system.importing import import_path

if TYPE_CHECKING:
    from cct_lightning.comparison.variants import Comparison, Variant

_ABSENT = "-"


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
        return _ABSENT if math.isnan(value) else f"{value:g}"

    def numbers(self, comparison: Comparison, variant: Variant) -> dict[str, float]:
        """Return the numbers of a variant, by name."""
        return {name: get(comparison, variant) for name, get in {self.name: self.value, **self.also}.items()}


def _of_difference(part: str) -> Callable[[Comparison, Variant], float]:
    return lambda comparison, variant: float(getattr(comparison.to_baseline(variant), part, math.nan))


def _count(comparison: Comparison, variant: Variant) -> str:
    done, there = len(variant.results), len(variant.runs)
    return str(done) if done == there else f"{done} of {there}"


def _result(comparison: Comparison, variant: Variant) -> str:
    if not variant.results:
        return _ABSENT
    text, spread = metric(comparison.metric).text, deviation(variant.results)
    return text(mean(variant.results)) + ("" if math.isnan(spread) else f" ± {text(spread)}")


def _gap(comparison: Comparison, variant: Variant) -> str:
    if variant is comparison.baseline:
        return "baseline"
    if (delta := comparison.to_baseline(variant)) is None:
        return _ABSENT
    text = partial(metric(comparison.metric).text, sign=True)
    interval = "" if math.isnan(delta.low) else f" [{text(delta.low)}, {text(delta.high)}]"
    return text(delta.mean) + interval


def _p(name: str, heading: str, part: str) -> Column:
    def text(comparison: Comparison, variant: Variant) -> str:
        p = _of_difference(part)(comparison, variant)
        return _ABSENT if math.isnan(p) else "<0.001" if p < 0.001 else f"{p:.3f}"

    return Column(name=name, heading=heading, value=_of_difference(part), text=text)


def summary_column(key: str, heading: str | None = None) -> Column:
    """Return the column of a number in the summaries, such as memory_gb: its mean over the finished runs.

    The heading is its key with the unit when None.
    """
    kind = metric(key)

    def text(comparison: Comparison, variant: Variant) -> str:
        return _ABSENT if math.isnan(value := variant.cost(key)) else kind.text(value)

    return Column(name=key, heading=heading or kind.label(key), value=lambda _, variant: variant.cost(key), text=text)


RESULTS = (
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
        value=_of_difference("mean"),
        text=_gap,
        also={"ci_low": _of_difference("low"), "ci_high": _of_difference("high")},
    ),
    _p("p_welch", "p", "p"),
    _p("p_paired", "p paired", "p_paired"),
)
_HEADINGS = {"params": "params", "macs": "M MACs", "images_per_s": "images/s", "seconds": "time (s)"}
COSTS = tuple(summary_column(key, _HEADINGS[key]) for key in metrics.COSTS)


def find_columns(names: Sequence[str], known: Sequence[str]) -> tuple[Column, ...]:
    """Return more columns by name: a key of the summaries, which are `known`, or the import path of a `Column`.

    Raises:
        InputError: A name is neither.
    """
    found = []
    for name in names:
        own = None if name in known or "." not in name else import_path(name, "column")
        if name not in known and not isinstance(own, Column):
            raise InputError(
                f"The column {name!r} is neither a number in the summaries nor the import path of a Column."
                f"{nearest(name, known)}"
            )
        found.append(own if isinstance(own, Column) else summary_column(name))
    return tuple(found)
