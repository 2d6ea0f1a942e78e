"""Which classes are taken for which. The counts are torchmetrics'.

Letters: B images, K classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor
from torchmetrics.functional.classification import multiclass_confusion_matrix

from cct_lightning.analysis.style import QUANTITY, Array, figure_of, numbers, one_axes, styled
from cct_lightning.errors import InputError

LEGIBLE = 20  # classes up to which names and numbers can be read

if TYPE_CHECKING:
    import pandas as pd


def confusion_matrix(predicted: Tensor, labels: Tensor, *, num_classes: int) -> Tensor:
    """Count predictions, classes (B,) or logits (B, K), by their labels (B,) int64.

    Returns:
        (K, K) int64; rows are the true classes, columns the predicted ones.
    """
    return multiclass_confusion_matrix(predicted, labels, num_classes=num_classes)


def percent_of_class(matrix: Tensor | Array) -> Array:
    """Return a matrix of counts (K, K) in percent of each true class, its rows; NaN for a class without images."""
    counts = numbers(matrix).astype(float)
    with np.errstate(invalid="ignore"):
        return 100 * counts / counts.sum(1, keepdims=True)


def most_confused(matrix: Tensor | Array, *, classes: Sequence[str], count: int = 10) -> pd.DataFrame:
    """List the pairs of classes that are confused most often, both directions together.

    `matrix` (K, K) is that of `confusion_matrix`. There are `count` pairs at most; those never confused are left out.

    Returns:
        Columns `class`, `other`, `mistakes` (both directions), `class_as_other`, `other_as_class`, and `rate`:
        mistakes over the images of both classes.
    """
    import pandas as pd

    table = numbers(matrix)
    if table.shape != (len(classes), len(classes)):
        raise InputError(f"A matrix of shape {table.shape} does not fit {len(classes)} class names.")
    i, j = np.triu_indices(len(table), k=1)
    mistakes, total = table[i, j] + table[j, i], table.sum(1)
    order = np.argsort(-mistakes, kind="stable")
    order = order[mistakes[order] > 0][:count]
    i, j, mistakes, names = i[order], j[order], mistakes[order], np.array(classes, dtype=object)
    return pd.DataFrame(
        {
            "class": names[i],
            "other": names[j],
            "mistakes": mistakes.astype(int),
            "class_as_other": table[i, j].astype(int),
            "other_as_class": table[j, i].astype(int),
            "rate": mistakes / (total[i] + total[j]),
        }
    )


@styled
def plot_confusion(matrix: Tensor | Array, *, classes: Sequence[str], ax: Axes | None = None) -> Figure:
    """Draw a matrix (K, K) of `confusion_matrix` in percent of each true class.

    Up to 20 of the K `classes` are written at the axes, with the percentages in the cells.
    """
    table, percent = numbers(matrix), np.nan_to_num(percent_of_class(matrix))
    few = len(table) <= LEGIBLE
    side = 2.5 + 0.55 * len(table) if few else 8.0
    ax = one_axes(ax, (side + 1, side))
    image = ax.imshow(percent, cmap=QUANTITY, vmin=0, vmax=100)
    ax.set(xlabel="predicted class", ylabel="true class")
    if few:
        ax.set_xticks(range(len(table)), classes)
        ax.set_yticks(range(len(table)), classes)
        if max(map(len, classes)) > 3:
            ax.set_xticks(range(len(table)), classes, rotation=45, ha="right", rotation_mode="anchor")
        middle: dict[str, Any] = {"ha": "center", "va": "center", "fontsize": 12}
        for (i, j), value in np.ndenumerate(percent):
            if table[i, j]:
                text, color = f"{value:.0f}" if value >= 1 else "<1", "black" if value > 55 else "white"
                ax.text(j, i, text, color=color, **middle)
    figure_of(ax).colorbar(image, ax=ax, shrink=0.85).set_label("% of the true class")
    return figure_of(ax)
