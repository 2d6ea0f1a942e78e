"""What `cct compare` says of a search: its best run, what each option explains, and which runs were stopped early."""

import math
from dataclasses import replace

import numpy as np

from cct_lightning.comparison.effects import importance
from cct_lightning.comparison.runs import Run
from cct_lightning.comparison.variants import Comparison, Variant
from cct_lightning.runs.folder import RunFolder
from cct_lightning.runs.metrics import metric
from cct_lightning.runs.state import read_state

_PARTS = 4  # at most, into which the values of a number are divided: each by itself would explain all
_RUNS = 4  # at least, in such a part
_SHOWN = 5  # options in a sentence


def is_of_search(run: Run) -> bool:
    """Tell whether a run is of a search, which drew its values."""
    return run.folder is not None and "method" in RunFolder(run.folder).record()


def search_notes(comparison: Comparison) -> list[str]:
    """Return the sentences about a search, none about other runs."""
    # Beside a grid in the same comparison, what follows is of the search alone.
    found = [replace(v, runs=tuple(run for run in v.runs if is_of_search(run))) for v in comparison.variants]
    comparison = replace(comparison, variants=tuple(variant for variant in found if variant.runs))
    if not comparison.variants:
        return []
    lines = []
    names = {name for run in comparison.runs if (name := _own_metric(run)) is not None}
    own = f"best_{names.pop()}" if len(names) == 1 else comparison.metric
    ranked = [replace(variant, metric=own) for variant in comparison.variants]
    note = ""
    if own != comparison.metric and not any(variant.results for variant in ranked):
        ranked = list(comparison.variants)
        note = f" The search chose by {own.removeprefix('best_')}, whose best the runs did not keep."
    pairs = [(result, run, v) for v in ranked for result, run in zip(v.results, v.finished, strict=True)]
    if pairs:
        kind = metric(ranked[0].metric)
        result, run, best = (max if kind.goal == "max" else min)(pairs, key=lambda pair: pair[0])
        by = f" by {best.metric}" if note or best.metric != comparison.metric else ""
        again = f"; `{run.command}` repeats it, and tests it" if best.metric.startswith("best_val/") else ""
        reached = f"{kind.text(result)} {kind.unit}".rstrip()
        lines.append(f"Best of {len(comparison.runs)} runs{by}: {best.name}, {reached} ({run.name}){again}.{note}")
    shares = importance(_in_parts(comparison))
    shown = [f"{name} {100 * share:.0f} %" for name, share in shares.items() if name not in ("seed", "interactions")]
    if shown:
        lines.append(
            f"Share of the variance that an option explains alone, numbers in {_parts(comparison)} parts of as many "
            f"runs: {', '.join(shown[:_SHOWN])}."
        )
    stopped = [read_state(run.folder).epoch for run in comparison.runs if run.status == "stopped" and run.folder]
    if stopped:
        epochs = f"{min(stopped)} to {max(stopped)}" if min(stopped) < max(stopped) else str(stopped[0])
        lines.append(
            f"Stopped early by early_terminate: {len(stopped)} of {len(comparison.runs)} runs, after epoch {epochs}."
        )
    return lines


def _own_metric(run: Run) -> str | None:
    """Return the metric by which the search of a run chooses; None where an older version has not noted it."""
    record = RunFolder(run.folder).record() if run.folder is not None else {}
    found = record.get("metric", record.get("space", {}).get("search", {}).get("metric"))
    return found if found is not None else record.get("early_terminate", {}).get("metric")


def _in_parts(comparison: Comparison) -> Comparison:
    """Return the comparison with numbers of many values replaced by the part of the runs that they belong to."""
    variants, count = list(comparison.variants), _parts(comparison)
    for name in comparison.options:
        numbers = [_number(variant, name) for variant in variants]
        if any(math.isnan(number) for number in numbers) or len(set(numbers)) <= count:
            continue
        bounds = np.quantile(numbers, np.arange(1, count) / count)
        parts = [str(int(np.searchsorted(bounds, number))) for number in numbers]
        variants = [
            replace(variant, values={**variant.values, name: part})
            for variant, part in zip(variants, parts, strict=True)
        ]
    return replace(comparison, variants=tuple(variants))


def _parts(comparison: Comparison) -> int:
    return max(2, min(_PARTS, sum(bool(variant.results) for variant in comparison.variants) // _RUNS))


def _number(variant: Variant, name: str) -> float:
    try:
        return float(variant.values[name])
    except ValueError:
        return math.nan
