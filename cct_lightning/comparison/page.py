"""One HTML page about runs, that holds everything it shows and needs no network."""

import datetime
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jinja2

from cct_lightning.comparison import tables
from cct_lightning.comparison.runs import Run, values_of
from cct_lightning.comparison.variants import Comparison, Variant, notes
from cct_lightning.config.options import SEED, changes_results, normal, text
from cct_lightning.runs import metrics

_COSTS = ("params", "macs", "seconds")  # against which the results are drawn


def page(comparison: Comparison, *, title: str) -> str:
    """Return the page; Plotly, which it needs, is imported here."""
    from plotly.offline import get_plotlyjs

    from cct_lightning.comparison import figures
    from cct_lightning.comparison.evidence import class_accuracy, samples

    curves = [(key, figures.learning_curves(comparison, key)) for key in metrics.CURVES]
    costs = [(key, figures.against_cost(comparison, key)) for key in _COSTS]
    options: dict[str, Any] = {"undefined": jinja2.StrictUndefined, "trim_blocks": True, "lstrip_blocks": True}
    template = jinja2.Template(Path(__file__).with_name("page.html").read_text(), autoescape=True, **options)
    return template.render(
        title=title,
        date=datetime.date.today().isoformat(),
        metric=comparison.metric,
        plotly=get_plotlyjs(),
        left=len(comparison.options),
        headings=tables.headings(comparison),
        rows=[_row(comparison, variant) for variant in comparison.variants],
        notes=notes(comparison),
        curves=[(key, figures.to_html(fig, f"curve-{i}")) for i, (key, fig) in enumerate(curves) if fig],
        costs=[(key, figures.to_html(fig, f"cost-{i}")) for i, (key, fig) in enumerate(costs) if fig],
        classes=_classes(comparison, *class_accuracy([variant.finished for variant in comparison.variants])),
        matrices=[
            (name, figures.to_html(fig, f"confusion-{i}"))
            for i, (name, fig) in enumerate(figures.confusion_matrices(comparison))
        ],
        samples=[(v.name, *found) for v in comparison.variants if (found := samples(v.finished)) is not None],
        **_options(comparison),
    )


def _row(comparison: Comparison, variant: Variant) -> dict[str, Any]:
    numbers = [column.value(comparison, variant) for column in comparison.columns]
    # What the browser sorts by; what is not a number comes last.
    keys = [*variant.values.values(), *("" if math.isnan(number) else number for number in numbers)]
    return {
        "cells": list(zip(tables.cells(comparison, variant), keys, strict=True)),
        "baseline": variant is comparison.baseline,
        "empty": not variant.results,
    }


def _classes(comparison: Comparison, names: Sequence[str], columns: Sequence[Any]) -> dict[str, Any]:
    kept = [(v.name, c) for v, c in zip(comparison.variants, columns, strict=True) if c is not None]
    rows = [(name, [f"{c[k]:.1f}" if c[k] == c[k] else "-" for _, c in kept]) for k, name in enumerate(names)]
    return {"variants": [name for name, _ in kept], "rows": rows}


def _options(comparison: Comparison) -> dict[str, Any]:
    runs, baseline = comparison.runs, comparison.baseline
    keys = list(comparison.options.values())
    known = sorted({key for run in runs for key in run.config.flat})
    same = [key for key in known if len({normal(run.config.flat.get(key)) for run in runs}) == 1]
    varying = [key for key in known if key not in same and key not in keys and (changes_results(key) or key == SEED)]
    keys += varying
    theirs = values_of(baseline.runs[0], keys) if baseline else None
    return {
        "option_keys": keys,
        "option_rows": [_option_row(run, values_of(run, keys), theirs, comparison.metric) for run in runs],
        "shared": [(key, text(value)) for key in same if (value := runs[0].config.flat.get(key)) is not None],
    }


def _option_row(run: Run, values: dict[str, str], theirs: dict[str, str] | None, metric: str) -> dict[str, Any]:
    value, kind = run.summary.get(metric), metrics.metric(metric)
    return {
        "name": run.name,
        "status": run.status,
        "result": f"{kind.text(value)} {kind.unit}".strip() if isinstance(value, int | float) else "-",
        # The seed differs by intent.
        "values": [(text, key != SEED and text != (theirs or values)[key]) for key, text in values.items()],
    }
