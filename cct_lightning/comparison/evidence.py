"""What runs leave for their report beside the summary: curves, and predictions for the test images.

Without `analysis`, whose torch takes longer to import than a page to write. Letters: K classes, S sample images, (h, w)
grid of tokens.
"""

import base64
import contextlib
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image

from cct_lightning.comparison.runs import Run
from cct_lightning.runs.folder import RunFolder
from cct_lightning.runs.metrics_table import read_metrics

_SHOWN = 12  # samples of each variant
_SIDE = 96  # pixels of a sample image on a page at most


@dataclass(frozen=True, kw_only=True)
class Sample:
    """A test image with what a run said of it.

    Attributes:
        image: The address of a PNG (`data:...`).
        weight: (h, w), how much each place counts in the pooled vector; None for a model without.
        label: The true class.
        predicted: The likeliest class.
        probability: Of that class.
    """

    image: str
    weight: np.ndarray | None
    label: str
    predicted: str
    probability: float


def history(runs: Sequence[Run]) -> pd.DataFrame:
    """Return the last value of each metric in each epoch (from 1) of each run; the learning rate as `lr`."""
    tables = []
    for folder in (run.folder for run in runs if run.folder):
        with contextlib.suppress(OSError, ValueError, KeyError):  # no file, or one without epochs
            table = read_metrics(folder / RunFolder.METRICS)
            # In version 0.1 a row of a step has no epoch: it belongs to the next one that ends.
            table["epoch"] = table["epoch"].bfill()
            tables.append(table.dropna(subset=["epoch"]).groupby("epoch", as_index=False).last())
    return pd.concat(tables, ignore_index=True) if tables else pd.DataFrame({"epoch": []})


def curves(runs: Sequence[Run], key: str, *, of: pd.DataFrame | None = None) -> pd.DataFrame:
    """Return mean and deviation over runs of a metric by epoch.

    Args:
        runs: The runs.
        key: A column of metrics.csv, such as val/acc.
        of: Their `history`, where it is known.

    Returns:
        Columns `epoch`, `mean` and `std` (0 for a single run); empty where no run has the metric.
    """
    table = history(runs) if of is None else of
    if key not in table or table[key].isna().all():
        return pd.DataFrame({"epoch": [], "mean": [], "std": []})
    found = table.dropna(subset=[key]).groupby("epoch")[key].agg(["mean", "std"]).fillna(0.0).reset_index()
    return found.assign(epoch=found["epoch"].astype(int))


def predictions(run: Run) -> dict[str, Any] | None:
    """Return the arrays of a run's test predictions; None where it has none that can be read."""
    with contextlib.suppress(OSError, ValueError, KeyError):
        if run.folder is not None:
            with np.load(run.folder / RunFolder.PREDICTIONS, allow_pickle=False) as file:
                return {key: file[key] for key in file if key not in ("index",)}
    return None


def confusion(found: Sequence[dict[str, Any]]) -> tuple[list[str], np.ndarray] | None:
    """Count the `predictions` of some runs together.

    Returns:
        K class names and counts (K, K), true classes in rows; None where there are none, or their classes differ.
    """
    names = {tuple(part["classes"].tolist()) for part in found}
    if len(names) != 1:
        return None
    classes = list(names.pop())
    k = len(classes)
    pairs = np.concatenate([part["label"].astype(np.int64) * k + part["top"][:, 0] for part in found])
    return classes, np.bincount(pairs, minlength=k * k).reshape(k, k)


def samples(found: Sequence[dict[str, Any]]) -> list[Sample]:
    """Return the sample images of the first `predictions` that have some: the first ones of the test split."""
    part = next((part for part in found if "image" in part), None)
    if part is None:
        return []
    classes, images = part["classes"], part["image"][:_SHOWN]
    weights = part["weight"].astype(np.float32) if "weight" in part else [None] * len(images)
    return [
        Sample(
            image=_png(image),
            weight=weight,
            label=str(classes[part["label"][row]]),
            predicted=str(classes[part["top"][row, 0]]),
            probability=float(part["prob"][row, 0]),
        )
        for image, weight, row in zip(images, weights, part["row"], strict=False)
    ]


def _png(image: np.ndarray) -> str:
    """Return an image (1 or 3, H, W) uint8 as the address of a PNG."""
    picture, file = Image.fromarray(image[0] if len(image) == 1 else image.transpose(1, 2, 0)), io.BytesIO()
    picture.thumbnail((_SIDE, _SIDE))
    picture.save(file, "PNG", optimize=True)
    return f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"
