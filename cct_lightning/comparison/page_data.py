"""What the page of `cct report` draws, as plain data for its scripts, and the rows of its tables."""

import base64
import json
import math
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from cct_lightning.comparison.evidence import Sample, confusion, curves, history, predictions, samples
from cct_lightning.comparison.runs import Run, values_of
from cct_lightning.comparison.statistics import deviation, mean
from cct_lightning.comparison.tables import Layout
from cct_lightning.comparison.variants import Comparison, Variant
from cct_lightning.config.options import SEED, changes_results, normal, text
from cct_lightning.runs.folder import RunFolder
from cct_lightning.runs.metrics import (
    LEARNING_RATE,
    TRAIN_ACC,
    TRAIN_LOSS,
    VAL_ACC,
    VAL_LOSS,
    metric,
)

_CURVES = (VAL_ACC, TRAIN_ACC, VAL_LOSS, TRAIN_LOSS, LEARNING_RATE)  # side by side in pairs
_COSTS = ("params", "macs", "seconds")  # against which the results are drawn
_POINTS = 120  # of a curve: more than its pixels can show
_LARGE = 20  # classes from which on only the first variants have their confusion matrices
_FEW = 8


def figures(comparison: Comparison) -> dict[str, Any]:
    """Return what the figures show, in units: accuracies in percent."""
    kind = metric(comparison.metric)
    images: dict[str, int] = {}
    classes: dict[tuple[str, ...], int] = {}
    return {
        "metric": kind.label(comparison.metric),
        "options": list(comparison.options),
        "curves": {key: metric(key).label(key) for key in _CURVES},
        "costs": {key: metric(key).label() for key in _COSTS},
        "variants": [
            _variant(comparison, variant, images, classes, matrix=i < _FEW or variant is comparison.baseline)
            for i, variant in enumerate(comparison.variants)
        ],
        "images": list(images),
        "classes": [list(names) for names in classes],
    }


def _variant(
    comparison: Comparison,
    variant: Variant,
    images: dict[str, int],
    classes: dict[tuple[str, ...], int],
    *,
    matrix: bool,
) -> dict[str, Any]:
    kind, logged = metric(comparison.metric), history(variant.runs)
    found = [part for run in variant.finished if (part := predictions(run)) is not None]
    counts = confusion(found)
    return {
        "name": variant.name,
        "values": list(variant.values.values()),
        "index": None if math.isinf(variant.index) else variant.index,
        "mean": _short(kind.scale * mean(variant.results)),
        "std": _short(kind.scale * deviation(variant.results)),
        "costs": {key: _short(metric(key).scale * comparison.cost(variant, key)[0]) for key in _COSTS},
        "curves": {key: points for key in _CURVES if (points := _curve(curves((), key, of=logged), key))},
        "classes": None if counts is None else classes.setdefault(tuple(counts[0]), len(classes)),
        "right": None if counts is None else np.diag(counts[1]).tolist(),
        "total": None if counts is None else counts[1].sum(1).tolist(),
        "confusion": counts[1].tolist() if counts and (matrix or len(counts[0]) <= _LARGE) else None,
        "samples": _samples(samples(found), images),
    }


def _curve(table: Any, key: str) -> list[list[float | None]]:
    if table.empty:
        return []
    chosen = np.unique(np.linspace(0, len(table) - 1, _POINTS).round().astype(int))
    part, scale = table.iloc[chosen], metric(key).scale
    return [part["epoch"].tolist(), *([_short(scale * value) for value in part[name]] for name in ("mean", "std"))]


def _samples(found: Sequence[Sample], images: dict[str, int]) -> list[dict[str, Any]]:
    top = max((float(sample.weight.max()) for sample in found if sample.weight is not None), default=1.0) or 1.0
    return [
        {
            # Most variants have the same images.
            "image": images.setdefault(sample.image, len(images)),
            "size": None if sample.weight is None else list(sample.weight.shape),
            "weight": ""
            if sample.weight is None
            else base64.b64encode((255 * sample.weight / top).clip(0, 255).astype(np.uint8).tobytes()).decode(),
            "label": sample.label,
            "predicted": sample.predicted,
            "probability": round(100 * sample.probability),
        }
        for sample in found
    ]


def _short(value: float) -> float | None:
    return float(f"{value:.5g}") if math.isfinite(value) else None


def to_script(data: dict[str, Any]) -> str:
    """Return data as JSON that is safe inside a script element."""
    return json.dumps(data, separators=(",", ":")).replace("<", "\\u003c")


def result_rows(comparison: Comparison, table: Layout) -> list[dict[str, Any]]:
    """Return the rows of a table of results; each cell with the key by which the browser sorts."""
    rows = []
    for texts, variant in zip(table.rows, comparison.variants, strict=True):
        numbers = [column.value(comparison, variant) for column in comparison.columns]
        # What is not a number comes last.
        keys = [*variant.values.values(), *("" if math.isnan(number) else number for number in numbers)]
        rows.append({"cells": list(zip(texts, keys, strict=True)), "baseline": variant is comparison.baseline})
    return rows


def run_tables(comparison: Comparison) -> dict[str, Any]:
    """Return what runs were and on what they ran: a row for each, and what all share."""
    runs, baseline = comparison.runs, comparison.baseline
    places = [RunFolder(run.folder).environment() if run.folder else {} for run in runs]
    keys = list(comparison.options.values())
    known = sorted({key for run in runs for key in run.config.flat})
    same = [key for key in known if len({normal(run.config.flat.get(key)) for run in runs}) == 1]
    varying = [key for key in known if key not in same and key not in keys and (changes_results(key) or key == SEED)]
    keys += varying
    theirs = values_of(baseline.runs[0], keys) if baseline else None
    numbers = {id(run): i for i, variant in enumerate(comparison.variants, 1) for run in variant.runs}
    return {
        "option_keys": keys,
        "runs": [
            {
                "number": numbers[id(run)],
                "run": run,
                "result": _result(run, comparison.metric),
                "seconds": run.summary.get("seconds", ""),
                "hardware": _hardware(where),
                "commit": str(where.get("git_commit") or "")[:8] + "+" * bool(where.get("git_dirty")),
                # The seed differs by intent.
                "values": [
                    (value, key != SEED and value != (theirs or {}).get(key, value))
                    for key, value in values_of(run, keys).items()
                ],
            }
            for run, where in zip(runs, places, strict=True)
        ],
        "shared": [(key, text(value)) for key in same if (value := runs[0].config.flat.get(key)) is not None],
        "environment": _environment([where for where in places if where]),
    }


def _result(run: Run, key: str) -> str:
    value = run.summary.get(key)
    return metric(key).text(value) if isinstance(value, int | float) else "-"


def _hardware(where: dict[str, Any]) -> str:
    gpus = Counter(map(str, where.get("gpus") or ()))
    if gpus:
        return ", ".join(f"{count} x {name}" for name, count in gpus.items())
    return f"{where['cpu']}, {where.get('cpu_threads', '?')} threads" if "cpu" in where else ""


def _environment(places: Sequence[dict[str, Any]]) -> list[tuple[str, str]]:
    rows = []
    for key in dict.fromkeys(key for where in places for key in where):
        counts = Counter(text(where.get(key)) for where in places)
        rows.append((key, "; ".join(f"{v} ({n} runs)" if len(counts) > 1 else v for v, n in counts.items())))
    return rows
