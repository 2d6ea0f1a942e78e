"""What `cct compare` says of a search: its best run, what each option explains, and which runs were stopped early."""

import math
from dataclasses import replace

import numpy as np

from cct_lightning.comparison.effects import importance
from cct_lightning.comparison.variants import Comparison, Variant
from cct_lightning.runs.folder import RunFolder
from cct_lightning.runs.metrics import metric
from cct_lightning.runs.state import read_state

_PARTS = 4  # at most, into which the values of a number are divided: each by itself would explain all
_RUNS = 4  # at least, in such a part
_SHOWN = 5  # options in a sentence


def is_search(comparison: Comparison) -> bool:
    """Tell whether the runs are of a search, which drew their values."""
    return any(run.folder is not None and "method" in RunFolder(run.folder).record() for run in comparison.runs)


def search_notes(comparison: Comparison) -> list[str]:
    """Return the sentences about a search, none about other runs."""
    if not is_search(comparison):
        return []
    lines = []
    best = comparison.variants[0]
    if best.results:
        kind = metric(comparison.metric)
        result = max(best.results) if kind.goal == "max" else min(best.results)
        (run, *_) = [run for run in best.finished if run.summary[comparison.metric] == result]
        again = f"; `{run.command}` repeats it, and tests it" if comparison.metric.startswith("best_val/") else ""
        lines.append(
            f"Best of {len(comparison.runs)} runs: {best.name}, {kind.text(result)} {kind.unit} ({run.name}){again}."
        )
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
