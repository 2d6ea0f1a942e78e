"""Which classes are taken for which. The counts are torchmetrics'.

Letters: B images, K classes.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor
from torchmetrics.functional.classification import multiclass_confusion_matrix

from cct_lightning.analysis.style import QUANTITY, Array, figure_of, numbers, one_axes, styled
from cct_lightning.errors import InputError

LEGIBLE = 20  # classes up to which names and numbers can be read


def confusion_matrix(predicted: Tensor, labels: Tensor, *, num_classes: int) -> Tensor:
    """Count predictions by true class.

    Args:
        predicted: (B,) classes, or logits (B, K).
        labels: (B,) int64.
        num_classes: K.

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

    Args:
        matrix: (K, K), from `confusion_matrix`.
        classes: K names.
        count: Pairs at most; pairs that were never confused are left out.

    Returns:
        Columns `class`, `other`, `mistakes` (both directions), `class_as_other`, `other_as_class`, and `rate`:
        mistakes over the images of both classes.
    """
    table = numbers(matrix)
    if table.shape != (len(classes), len(classes)):
        raise InputError(f"A matrix of shape {table.shape} does not fit {len(classes)} class names.")
    total = table.sum(1)
    pairs = [(i, j) for i in range(len(table)) for j in range(i + 1, len(table)) if table[i, j] + table[j, i] > 0]
    pairs.sort(key=lambda pair: -(table[pair] + table[pair[::-1]]))
    rows = [
        {
            "class": classes[i],
            "other": classes[j],
            "mistakes": int(table[i, j] + table[j, i]),
            "class_as_other": int(table[i, j]),
            "other_as_class": int(table[j, i]),
            "rate": float((table[i, j] + table[j, i]) / (total[i] + total[j])),
        }
        for i, j in pairs[:count]
    ]
    return pd.DataFrame(rows, columns=["class", "other", "mistakes", "class_as_other", "other_as_class", "rate"])


@styled
def plot_confusion(matrix: Tensor | Array, *, classes: Sequence[str], ax: Axes | None = None) -> Figure:
    """Draw the confusion matrix in percent of each true class.

    Args:
        matrix: (K, K), from `confusion_matrix`.
        classes: K names; up to 20 are written at the axes, with the percentages in the cells.
        ax: Axes to draw on; a new figure when None.

    Returns:
        The figure.
    """
    table, percent = numbers(matrix), np.nan_to_num(percent_of_class(matrix))
    few = len(table) <= LEGIBLE
    side = 2.5 + 0.55 * len(table) if few else 8.0
    ax = one_axes(ax, (side + 1, side))
    image = ax.imshow(percent, cmap=QUANTITY, vmin=0, vmax=100)
    ax.set(xlabel="predicted class", ylabel="true class")
    if few:
        turned: dict[str, Any] = (
            {"rotation": 45, "ha": "right", "rotation_mode": "anchor"} if max(map(len, classes)) > 3 else {}
        )
        ax.set_xticks(range(len(table)), classes, **turned)
        ax.set_yticks(range(len(table)), classes)
        for (i, j), value in np.ndenumerate(percent):
            if table[i, j]:
                color = "black" if value > 55 else "white"
                ax.text(
                    j, i, f"{value:.0f}" if value >= 1 else "<1", ha="center", va="center", color=color, fontsize=12
                )
    figure_of(ax).colorbar(image, ax=ax, shrink=0.85).set_label("% of the true class")
    return figure_of(ax)
