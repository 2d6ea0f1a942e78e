"""`cct report`: one HTML page about runs, that holds everything it shows and needs no network."""

import datetime
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jinja2

from cct_lightning.errors import InputError
from cct_lightning.experiments import tables
from cct_lightning.experiments.runs import Run, matters, read_runs, values_of
from cct_lightning.experiments.statistics import mean
from cct_lightning.experiments.variants import Comparison, Variant, compare_runs, notes
from cct_lightning.tracking.run_dir import write_atomically

_COSTS = (
    ("params", "parameters"),
    ("macs", "multiply-accumulates of one image"),
    ("seconds", "wall time of a run (s)"),
)
_CURVES = ("val/acc", "val/loss", "train/loss")


def report(
    runs: Sequence[str],
    *,
    out: str = "report.html",
    by: Sequence[str] = (),
    metric: str | None = None,
    baseline: str | None = None,
    title: str | None = None,
) -> None:
    """Write one HTML page about runs: table, curves, costs, classes, samples, options. It is readable offline.

    Args:
        runs: Run folders, or folders with run folders below.
        out: File to write.
        by: Options that make a variant, such as model.pool; all that differ when left out.
        metric: What to compare, such as test/loss; test/acc where there is one.
        baseline: Variant to compare with, such as pool=class_token; the first of the grid, else the worst.
        title: Title of the page; the names of the folders when left out.

    Raises:
        InputError: No runs, an option, metric or baseline that none of them has, or Plotly is not installed.
    """
    try:
        import plotly  # noqa: F401
    except ImportError:
        raise InputError(
            "Plotly is not installed: `pip install 'cct_lightning[report]'`, or use `cct compare`."
        ) from None
    path = Path(out).expanduser()
    if path.is_dir() or not path.absolute().parent.is_dir():
        raise InputError(f"Cannot write {out}: give a file in a folder that exists.")
    comparison = compare_runs(read_runs(runs), by=by, metric=metric, baseline=baseline)
    heading = title or ", ".join(dict.fromkeys(Path(run).absolute().name for run in runs))
    write_atomically(path, page(comparison, title=heading))
    counts = f"{len(comparison.runs)} runs in {len(comparison.variants)} variants"
    print(f"{counts}: {path} ({path.stat().st_size / 1e6:.1f} MB)")


def page(comparison: Comparison, *, title: str) -> str:
    """Return the page.

    Args:
        comparison: The variants.
        title: Title of the page.
    """
    from plotly.offline import get_plotlyjs

    from cct_lightning.experiments import figures
    from cct_lightning.experiments.evidence import has_predictions, samples

    curves = [(key, figures.learning_curves(comparison, key)) for key in _CURVES]
    costs = [(text, figures.against_cost(comparison, key, text)) for key, text in _COSTS]
    shown = [
        (variant, next((run for run in variant.finished if has_predictions(run)), None))
        for variant in comparison.variants
    ]
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    template = environment.from_string(Path(__file__).with_name("report.html").read_text())
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
        costs=[(text, figures.to_html(fig, f"cost-{i}")) for i, (text, fig) in enumerate(costs) if fig],
        classes=_classes(comparison),
        matrices=[
            (name, figures.to_html(fig, f"confusion-{i}"))
            for i, (name, fig) in enumerate(figures.confusion_matrices(comparison))
        ],
        samples=[(variant.name, run.name, samples(run)) for variant, run in shown if run is not None],
        **_options(comparison),
    )


def _row(comparison: Comparison, variant: Variant) -> dict[str, Any]:
    delta = comparison.to_baseline(variant)
    keys: list[Any] = [
        *variant.values.values(),
        len(variant.results),
        mean(variant.results),
        delta.mean if delta else 0.0,
        delta.p if delta else 2.0,
        delta.p_paired if delta else 2.0,
        *(variant.cost(key) for key in ("params", "macs", "images_per_s", "seconds")),
    ]
    # NaN sorts last.
    keys = ["" if key != key else key for key in keys]
    return {
        "cells": list(zip(tables.cells(comparison, variant), keys, strict=True)),
        "baseline": variant is comparison.baseline,
        "empty": not variant.results,
    }


def _classes(comparison: Comparison) -> dict[str, Any]:
    from cct_lightning.experiments.evidence import class_accuracy

    names, columns = class_accuracy([variant.finished for variant in comparison.variants])
    kept = [(v.name, c) for v, c in zip(comparison.variants, columns, strict=True) if c is not None]
    rows = [(name, [f"{c[k]:.1f}" if c[k] == c[k] else "-" for _, c in kept]) for k, name in enumerate(names)]
    return {"variants": [name for name, _ in kept], "rows": rows}


def _options(comparison: Comparison) -> dict[str, Any]:
    runs = comparison.runs
    keys = list(comparison.options.values())
    known = sorted({key for run in runs for key in run.config})
    same = [key for key in known if len({str(run.config.get(key)) for run in runs if run.complete}) == 1]
    varying = [
        key for key in known if key not in same and key not in keys and (matters(key) or key == "seed_everything")
    ]
    whole = next((run for run in runs if run.complete), runs[0])
    base = comparison.baseline.runs[0] if comparison.baseline else None
    return {
        "option_keys": [*keys, *varying],
        "option_rows": [_option_row(run, [*keys, *varying], base, comparison.metric) for run in runs],
        "shared": [(key, whole.config[key]) for key in same if key in whole.config],
    }


def _option_row(run: Run, keys: Sequence[str], base: Run | None, metric: str) -> dict[str, Any]:
    values = values_of(run, keys)
    theirs = values_of(base, keys) if base is not None else values
    value = run.summary.get(metric)
    scale, unit = (100, " %") if tables.is_share(metric) else (1, "")
    return {
        "name": run.name,
        "status": run.status,
        "result": f"{scale * value:.4g}{unit}" if isinstance(value, int | float) else "-",
        # The seed differs by intent.
        "values": [(text, key != "seed_everything" and text != theirs[key]) for key, text in values.items()],
    }
