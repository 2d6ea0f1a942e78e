"""How much accuracy do more data and a longer schedule buy? From a table of runs.

Published points: Hassani et al., arXiv 2104.05704, CCT-7/3x1 on CIFAR-10 with the timm recipe, one run each.

A table of runs is a pandas DataFrame with one row a run (a seed). Accuracies are shares from 0 to 1, as `test/acc` is.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter

from cct_lightning.analysis.style import figure_of, look, one_axes, styled
from cct_lightning.errors import InputError

# Forward, and in the backward pass one product for the inputs and one for the weights of each layer.
TRAINING_MACS_PER_FORWARD = 3
PUBLISHED = "CCT-7/3x1, CIFAR-10 (published)"

if TYPE_CHECKING:
    import pandas as pd


def _check(runs: pd.DataFrame, *columns: str) -> None:
    missing = [name for name in columns if name not in runs.columns]
    if missing:
        raise InputError(
            f"The table of runs lacks the column {', '.join(missing)}: it has {', '.join(map(str, runs))}."
        )
    if len(runs) == 0:
        raise InputError("The table of runs is empty.")
    if not runs["accuracy"].between(0, 1).all():
        raise InputError("accuracy must be a share between 0 and 1 in every run, as test/acc is.")


def _summary(runs: pd.DataFrame, by: str, costs: Sequence[str] = ()) -> pd.DataFrame:
    wanted = {"mean": ("accuracy", "mean"), "std": ("accuracy", "std"), "runs": ("accuracy", "count")}
    means = {name: (name, "mean") for name in costs}
    return runs.groupby(["variant", by]).agg(**wanted, **means).reset_index()


def data_efficiency(runs: pd.DataFrame) -> pd.DataFrame:
    """Summarize accuracy by model and number of training images per class.

    Args:
        runs: Columns `variant` (the model's name), `samples_per_class` and `accuracy`.

    Returns:
        Columns `variant`, `samples_per_class`, `mean`, `std` (NaN for a single run) and `runs`.

    Raises:
        InputError: A column is missing, or accuracies are not shares.
    """
    _check(runs, "variant", "samples_per_class", "accuracy")
    return _summary(runs, "samples_per_class")


def schedule_efficiency(runs: pd.DataFrame) -> pd.DataFrame:
    """Summarize accuracy by model and length of training, with what the training cost.

    Args:
        runs: Columns `variant`, `epochs`, `accuracy`, `train_images` (images of an epoch), `macs`
            (multiply-accumulates of one image's forward pass, see `stage_budget`), and optionally `seconds` (wall
            time of the training).

    Returns:
        Columns `variant`, `epochs`, `mean`, `std`, `runs`, `images_seen`, `seconds` (NaN where unknown) and
        `training_macs`: three times the forward pass for every image seen, a proxy of energy.

    Raises:
        InputError: A column is missing, or accuracies are not shares.
    """
    _check(runs, "variant", "epochs", "accuracy", "train_images", "macs")
    seen = runs["epochs"] * runs["train_images"]
    costs = {
        "images_seen": seen,
        "seconds": runs.get("seconds", float("nan")),
        "training_macs": TRAINING_MACS_PER_FORWARD * runs["macs"] * seen,
    }
    return _summary(runs.assign(**costs), "epochs", list(costs))


def published_schedule() -> pd.DataFrame:
    """Return the published accuracies after 300, 1500 and 5000 epochs in the form of `schedule_efficiency`.

    50,000 images an epoch, 0.947 GMACs an image; wall times were not published.
    """
    import pandas as pd

    runs = pd.DataFrame({"epochs": [300, 1500, 5000], "accuracy": [0.9653, 0.9748, 0.9800]})
    return schedule_efficiency(runs.assign(variant=PUBLISHED, train_images=50_000, macs=0.947e9))


def _curves(table: pd.DataFrame, cost: str, ax: Axes) -> None:
    for k, (name, rows) in enumerate(table.groupby("variant", sort=False)):
        rows = rows.dropna(subset=[cost]).sort_values(cost)
        style = {"linestyle": "-"} | look(k) | ({"color": "#777777", "linestyle": "--"} if name == PUBLISHED else {})
        spread = 100 * rows["std"].fillna(0)
        ax.errorbar(rows[cost], 100 * rows["mean"], yerr=spread, capsize=4, label=str(name), **style)
    ax.set_xscale("log")
    low, high = (float(table[cost].min()), float(table[cost].max()))
    if high < 100 * low:  # less than two decades have too few powers of ten
        ax.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        ax.xaxis.set_major_formatter("{x:g}")
    ax.xaxis.set_minor_formatter(NullFormatter())
    ax.grid(alpha=0.3)


@styled
def plot_data_efficiency(table: pd.DataFrame, *, ax: Axes | None = None) -> Figure:
    """Draw a table of `data_efficiency`: accuracy over training images per class, with its deviation over runs."""
    ax = one_axes(ax, (7.5, 5))
    _curves(table, "samples_per_class", ax)
    ticks = sorted(table["samples_per_class"].unique())
    ax.set_xticks(ticks, [f"{n:,}" for n in ticks])
    ax.minorticks_off()
    ax.set(xlabel="training images per class", ylabel="test accuracy (%)")
    ax.legend(frameon=False)
    return figure_of(ax)


@styled
def plot_schedule(table: pd.DataFrame, *, published: bool = True) -> Figure:
    """Draw accuracy over what the training cost: epochs, images seen, multiply-accumulates, and hours where known.

    Args:
        table: From `schedule_efficiency`.
        published: Draw the published points beside it. They are CIFAR-10; leave them out for other data.
    """
    if published:
        import pandas as pd

        table = pd.concat([table, published_schedule()], ignore_index=True)
    table = table.assign(hours=table["seconds"] / 3600)
    costs = {"epochs": "epochs", "images_seen": "images seen", "training_macs": "training MACs", "hours": "hours"}
    known = {cost: label for cost, label in costs.items() if table[cost].notna().any()}
    figure = Figure(figsize=(4.2 * len(known), 4.8), layout="constrained")
    axes = figure.subplots(1, len(known), sharey=True, squeeze=False)[0]
    for ax, (cost, label) in zip(axes, known.items(), strict=True):
        _curves(table, cost, ax)
        ax.set_xlabel(label)
    axes[0].set_ylabel("test accuracy (%)")
    handles, names = axes[0].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside upper center", ncols=3, frameon=False)
    return figure
