"""Learning curves, and results with their spread over seeds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from cct_lightning.analysis.style import band, figure_of, look, one_axes, styled

if TYPE_CHECKING:
    import pandas as pd


def curve(metrics: pd.DataFrame | Sequence[pd.DataFrame], key: str) -> pd.DataFrame:
    """Return the mean and deviation over runs of a metric by epoch.

    `metrics` is the table of metrics.csv of a run (`RunResult.metrics`), or those of several; `key` is a column of it,
    such as val/acc.

    Returns:
        Columns `epoch` (from 1), `mean` and `std` (0 for a single run); empty where no run has the metric.
    """
    import pandas as pd

    tables = [metrics] if isinstance(metrics, pd.DataFrame) else metrics
    # Version 0.1 counted epochs from 0.
    counted = [table.assign(epoch=table["epoch"] + (table["epoch"].min() == 0)) for table in tables if key in table]
    parts = [table[["epoch", key]].dropna() for table in counted]
    if not parts:
        return pd.DataFrame({"epoch": [], "mean": [], "std": []})
    # The last value of an epoch counts: a continued run may have begun it twice.
    last = pd.concat([part.groupby("epoch", as_index=False).last() for part in parts])
    found = last.groupby("epoch")[key].agg(["mean", "std"]).fillna(0.0).reset_index()
    return found.assign(epoch=found["epoch"].astype(int))


@styled
def plot_curves(
    curves: Mapping[str, pd.DataFrame],
    *,
    label: str,
    scale: float = 1.0,
    chance: float | None = None,
    ax: Axes | None = None,
) -> Figure:
    """Draw curves by epoch, each in a band of one standard deviation.

    Args:
        curves: Name -> the result of `curve`.
        label: What is drawn, with its unit.
        scale: A value times this is in that unit: 100 for a share in percent.
        chance: What guessing reaches, in that unit; a dashed line.
    """
    ax = one_axes(ax, (8, 4.5))
    for i, (name, table) in enumerate(curves.items()):
        band(ax, i, table["epoch"], scale * table["mean"], scale * table["std"], name=name)
    if chance is not None:
        ax.axhline(chance, color="#777777", linestyle="--", linewidth=1.5, label="guessing")
        ax.set_ylim(bottom=0)
    ax.set(xlabel="epoch", ylabel=label)
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    ax.grid(alpha=0.3)
    if len(curves) > 1 or chance is not None:
        ax.legend(frameon=False)
    return figure_of(ax)


@styled
def plot_results(results: Mapping[str, Sequence[float]], *, label: str, scale: float = 1.0) -> Figure:
    """Draw the result of each run (open marks), and mean and standard deviation of each variant (filled, with bars).

    `results` are those of its runs for each variant; `label` and `scale` are those of `plot_curves`.
    """
    ax = one_axes(None, (10, 1.4 + 0.8 * len(results)))
    for i, values in enumerate(results.values()):
        found = scale * np.asarray(values, dtype=float)
        ax.scatter(found, np.full(len(found), i + 0.2), s=60, **look(i)).set_facecolor("none")
        if len(found):
            spread = found.std(ddof=1) if len(found) > 1 else 0.0
            ax.errorbar(found.mean(), i, xerr=spread, markersize=10, capsize=6, **look(i))
    ax.set_yticks(range(len(results)), [name.replace(", ", "\n") for name in results])
    ax.set(xlabel=label, ylim=(len(results) - 0.5, -0.5))
    ax.grid(axis="x", alpha=0.3)
    return figure_of(ax)
