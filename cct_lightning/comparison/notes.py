"""What a reader must know beside the numbers of a comparison: one sentence for each kind of thing."""

import math
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean, median_low

from cct_lightning.comparison.runs import read_runs
from cct_lightning.comparison.search import is_of_search, search_notes
from cct_lightning.comparison.statistics import ALPHA, MOST_SEEDS, POWER, Difference, least_difference
from cct_lightning.comparison.variants import Comparison, compare_runs
from cct_lightning.errors import InputError
from cct_lightning.runs.metrics import Metric, metric

_SHOWN = 4  # names in a sentence


def notes(comparison: Comparison) -> list[str]:
    """Return the sentences beside those of `method`: what the differences can show, and what stands in their way."""
    tested = _tested(comparison)
    power = [_power(tested, metric(comparison.metric))] if tested else []
    return [*search_notes(comparison), *power, *_doubts(comparison), *_without_result(comparison)]


def method(comparison: Comparison) -> list[str]:
    """Return the sentences without which the numbers of a table mean nothing: how they were made."""
    base, tested = comparison.baseline, _tested(comparison)
    lines = []
    if comparison.pooled:
        lines.append(f"The runs of a variant differ in {_some(comparison.pooled)}, too: --by left that out.")
    if base is not None and tested:
        paired = sorted(each.n for each in tested if each.paired)
        seeds = f"{paired[0]} to {paired[-1]}" if paired and paired[0] < paired[-1] else f"{paired[0] if paired else 0}"
        test = f"the paired t-test over {seeds} shared seeds" if paired else "Welch's t-test"
        if 0 < len(paired) < len(tested):
            test += ", Welch's where none are shared"
        correction = f", p corrected by Holm's method for {len(tested)} differences" if len(tested) > 1 else ""
        lines.append(f"Δ is the difference to {base.name}, with 95 % intervals of {test}{correction}.")
    if any(comparison.cost(v, c.name)[1] for v in comparison.variants if v.results for c in comparison.columns):
        lines.append("* Measured beside other runs on the same machine: no measurement of speed.")
    return lines


def _tested(comparison: Comparison) -> list[Difference]:
    return [each for each in comparison.differences.values() if not math.isnan(each.p)]


def _power(tested: Sequence[Difference], kind: Metric) -> str:
    needed = sorted(each.seeds_needed(len(tested)) for each in tested)
    least, most = (f"{n:g}" if n < math.inf else f"more than {MOST_SEEDS}" for n in (needed[0], needed[-1]))
    seeds = least if least == most else f"{least} to {most}"
    n = median_low([each.n for each in tested])
    return f"{_shown(tested, n, kind)}; to show the observed ones takes {seeds} seeds."


def _shown(tested: Sequence[Difference], n: int, kind: Metric) -> str:
    """Say what `n` seeds can show, by the mean spread of some differences."""
    spread = fmean(each.spread for each in tested)
    size = least_difference(spread, n, len(tested), fmean(each.freedom_per_seed for each in tested))
    unit = {"": "", "%": " percentage points"}.get(kind.unit, f" {kind.unit}")
    level = f"{100 * ALPHA:g} % level{f', corrected for {len(tested)} differences' if len(tested) > 1 else ''}"
    return f"Power: {n} seeds show a difference of {kind.text(size)}{unit} with {100 * POWER:g} % probability ({level})"


def expected_power(folder: Path, variants: Sequence[str]) -> str:
    """Say what an ablation can show, by the spread of its runs that exist; empty where fewer than two seeds do.

    Args:
        folder: Of the ablation.
        variants: The variant of each planned run.
    """
    try:
        comparison = compare_runs(read_runs([str(folder)]))
    except InputError:  # no run has begun
        return ""
    tested = _tested(comparison)
    seeds = min(Counter(variants).values())
    if not tested or seeds < 2:
        return ""
    return f"{_shown(tested, seeds, metric(comparison.metric))}, by the spread of the runs that are finished."


def _doubts(comparison: Comparison) -> list[str]:
    """Say where the numbers are less than they seem."""
    done = [variant for variant in comparison.variants if variant.results]
    base = comparison.baseline
    lines = []
    ablations = sorted({run.ablation for run in comparison.runs if run.ablation})
    if len(ablations) > 1:
        lines.append(f"The runs are of {len(ablations)} ablations: {_some(ablations)}.")
    # A search tries each combination once.
    single = [v.name for v in done if len(v.samples) == 1 and not any(map(is_of_search, v.runs))]
    if single:
        lines.append(f"One seed, so no deviation and no test: {_some(single)}.")
    if repeated := [v.name for v in done if len(v.samples) < len(v.results)]:
        lines.append(f"Runs repeat a seed and count as one in the tests: {_some(repeated)}.")
    if base is not None:
        pairs = [(v, d) for v in done if (d := comparison.to_baseline(v)) is not None and len(v.samples) > 1]
        fewer = [v.name for v, d in pairs if d.paired and d.n < max(len(v.samples), len(base.samples))]
        if fewer:
            lines.append(f"Δ is over the seeds that both have, not all: {_some(fewer)}.")
        if others := [v.name for v, d in pairs if not d.paired and len(base.samples) > 1]:
            lines.append(f"Other seeds than the baseline's, so Welch's test: {_some(others)}.")
    return lines


_STATES = {"running": "Still running", "waiting": "Not started", "interrupted": "Interrupted"}


def _without_result(comparison: Comparison) -> list[str]:
    kinds: dict[str, list[str]] = {}
    for run in comparison.unfinished:
        title = _STATES.get(run.status, run.status.capitalize())
        if run.status == "finished":
            title = f"Finished without {comparison.metric}"
        kinds.setdefault(title, []).append(f"{run.name} ({run.reason})" if run.reason else run.name)
    return [f"{title}: {_some(names)}." for title, names in kinds.items()]


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ("; " if any(", " in name for name in names) else ", ").join(names[:_SHOWN]) + more
