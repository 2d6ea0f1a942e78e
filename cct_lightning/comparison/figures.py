"""The figures of a comparison for notebooks and papers, with matplotlib; the page draws its own, with `charts.js`."""

from collections.abc import Callable
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from cct_lightning.analysis.confusion import plot_confusion
from cct_lightning.analysis.curves import plot_curves, plot_results
from cct_lightning.analysis.style import look, one_axes, styled
from cct_lightning.comparison.effects import importance, main_effects
from cct_lightning.comparison.evidence import confusion, curves, predictions
from cct_lightning.comparison.statistics import deviation, mean
from cct_lightning.comparison.variants import Comparison
from cct_lightning.errors import InputError, nearest
from cct_lightning.runs.metrics import VAL_ACC, metric


def draw(comparison: Comparison, what: str = "results", *, key: str | None = None) -> Figure:
    """Draw a comparison.

    Args:
        comparison: The comparison.
        what: `results`: each run, mean and deviation of each variant; `curves`: `key` (val/acc) by epoch; `cost`: the
            result against `key` (params); `effects`: means by the values of each option; `interaction`: of the two
            options of `key`, joined by ` x `; `importance`: shares of the variance; `parallel`: a line for each
            variant over axes of its options; `confusion`: of the best variant.
        key: See `what`.

    Raises:
        InputError: Another word, or a key that the runs do not have.
    """
    if what not in _FIGURES:
        raise InputError(f"There is no figure {what!r}: choose {', '.join(_FIGURES)}.{nearest(what, _FIGURES)}")
    if not any(variant.results for variant in comparison.variants):
        raise InputError("No run has a result to draw.")
    return _FIGURES[what](comparison, key)


def _label(comparison: Comparison) -> str:
    return metric(comparison.metric).label(comparison.metric)


def _results(comparison: Comparison, key: str | None) -> Figure:
    found = {variant.name: variant.results for variant in comparison.variants}
    return plot_results(found, label=_label(comparison), scale=metric(comparison.metric).scale)


def _curves(comparison: Comparison, key: str | None) -> Figure:
    key = key or VAL_ACC
    found = {variant.name: curves(variant.runs, key) for variant in comparison.variants}
    found = {name: table for name, table in found.items() if len(table)}
    if not found:
        raise InputError(f"No run logged {key!r} in its metrics.csv.")
    return plot_curves(found, label=metric(key).label(key), scale=metric(key).scale)


@styled
def _cost(comparison: Comparison, key: str | None) -> Figure:
    key = key or "params"
    ax, kind, axis = one_axes(None, (8, 5)), metric(comparison.metric), metric(key)
    for i, variant in enumerate(comparison.variants):
        cost = comparison.cost(variant, key)[0]
        if variant.results and not np.isnan(cost):
            spread = np.nan_to_num(deviation(variant.results))
            ax.errorbar(
                axis.scale * cost,
                kind.scale * mean(variant.results),
                kind.scale * spread,
                capsize=4,
                linestyle="",
                label=variant.name,
                **look(i),
            )
    if not ax.containers:
        raise InputError(f"No run has {key!r} in its summary.")
    ax.set(xlabel=axis.label(), ylabel=_label(comparison))
    ax.legend(frameon=False)
    return ax.figure  # type: ignore[return-value]  # of its own, no subfigure


def _effect(comparison: Comparison, ax: Axes, option: str, by: str | None = None) -> None:
    table = metric(comparison.metric).scale * main_effects(comparison, option, by=by)
    for i, column in enumerate(table):
        ax.plot(range(len(table)), table[column], label=f"{by}={column}", **look(i))
    turned: dict[str, Any] = {"rotation": 30, "ha": "right", "rotation_mode": "anchor"} if len(table) > 4 else {}
    ax.set_xticks(range(len(table)), list(table.index), **turned)
    ax.set_xlabel(option)
    ax.grid(axis="y", alpha=0.3)


@styled
def _effects(comparison: Comparison, key: str | None) -> Figure:
    count = max(1, len(comparison.options))
    figure = Figure(figsize=(3.6 * count, 3.8), layout="constrained")
    axes = figure.subplots(1, count, sharey=True, squeeze=False)[0]
    for ax, option in zip(axes, comparison.options, strict=False):
        _effect(comparison, ax, option)
    axes[0].set_ylabel(_label(comparison))
    return figure


@styled
def _interaction(comparison: Comparison, key: str | None) -> Figure:
    pair = key.split(" x ") if key else list(comparison.options)[:2]
    if len(pair) != 2 or not set(pair) <= set(comparison.options):
        raise InputError(f"An interaction is of two of the options {', '.join(comparison.options)}: key='A x B'.")
    ax = one_axes(None, (7, 4.5))
    _effect(comparison, ax, pair[0], by=pair[1])
    ax.set_ylabel(_label(comparison))
    ax.legend(frameon=False)
    return ax.figure  # type: ignore[return-value]


@styled
def _importance(comparison: Comparison, key: str | None) -> Figure:
    shares = importance(comparison)
    ax = one_axes(None, (7, 1 + 0.45 * len(shares)))
    ax.barh(range(len(shares)), [100 * share for share in shares.values()], color=look(0)["color"])
    ax.set_yticks(range(len(shares)), list(shares))
    ax.invert_yaxis()
    ax.set_xlabel("share of the variance over runs (%)")
    return ax.figure  # type: ignore[return-value]


@styled
def _parallel(comparison: Comparison, key: str | None) -> Figure:
    names, done = list(comparison.options), [variant for variant in comparison.variants if variant.results]
    means = metric(comparison.metric).scale * np.array([mean(variant.results) for variant in done])
    shares = (means - means.min()) / (np.ptp(means) or 1)
    ordered = sorted(done, key=lambda variant: variant.index)
    places = [list(dict.fromkeys(variant.values[name] for variant in ordered)) for name in names]
    ax = one_axes(None, (2.2 * (len(names) + 1), 4.5))
    for i, (variant, share) in enumerate(zip(done, shares, strict=True)):
        heights = [k.index(variant.values[name]) / max(1, len(k) - 1) for k, name in zip(places, names, strict=True)]
        ax.plot([*heights, share], alpha=0.15 + 0.85 * share, label=variant.name, **look(i))
    for x, values in enumerate(places):
        for k, value in enumerate(values):
            ax.text(x, k / max(1, len(values) - 1), f" {value}", va="bottom")
    for share, value in {0.0: means.min(), 1.0: means.max()}.items():
        ax.text(len(names), share, f" {value:.4g}", va="center")
    ax.set_xticks(range(len(names) + 1), [*names, _label(comparison)])
    ax.set_yticks([])
    return ax.figure  # type: ignore[return-value]


def _confusion(comparison: Comparison, key: str | None) -> Figure:
    found = confusion([part for run in comparison.variants[0].finished if (part := predictions(run)) is not None])
    if found is None:
        raise InputError("The runs of the best variant kept no test predictions, or of different classes.")
    return plot_confusion(found[1], classes=found[0])


_FIGURES: dict[str, Callable[[Comparison, str | None], Figure]] = {
    "results": _results,
    "curves": _curves,
    "cost": _cost,
    "effects": _effects,
    "interaction": _interaction,
    "importance": _importance,
    "parallel": _parallel,
    "confusion": _confusion,
}
