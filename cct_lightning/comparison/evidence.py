"""What runs leave for their report beside the summary: curves, and predictions for the test images.

Letters: N test images, K classes, S sample images, C channels, (H, W) image, (h, w) grid of tokens.
"""

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch

from cct_lightning.analysis.confusion import confusion_matrix, percent_of_class
from cct_lightning.analysis.curves import curve
from cct_lightning.analysis.overlay import enlarged, over_uniform, overlays, pixels, png_address
from cct_lightning.comparison.runs import Run
from cct_lightning.runs.folder import RunFolder

_SHOWN = 12  # samples of each variant


@dataclass(frozen=True, kw_only=True)
class Sample:
    """A test image with what a run said of it.

    The image is the address of a PNG (`data:...`); so is the overlay, the image under the pooling weights, which is
    empty for a model without. `probability` is that of the predicted class.
    """

    image: str
    overlay: str
    label: str
    predicted: str
    probability: float

    @property
    def right(self) -> bool:
        """Whether the prediction is right."""
        return self.label == self.predicted


def curves(runs: Sequence[Run], key: str) -> pd.DataFrame:
    """Return `analysis.curve` of a column of the runs' metrics.csv; empty where no run has it."""
    tables = []
    for folder in (run.folder for run in runs if run.folder):
        with contextlib.suppress(OSError, ValueError):  # no file, or none of this metric
            tables.append(pd.read_csv(folder / RunFolder.METRICS, usecols=["epoch", key]))
    return curve(tables, key)


def predictions(run: Run) -> dict[str, Any] | None:
    """Return the arrays of a run's test predictions; None where it has none that can be read."""
    with contextlib.suppress(OSError, ValueError, KeyError):
        if run.folder is not None:
            with np.load(run.folder / RunFolder.PREDICTIONS, allow_pickle=False) as file:
                return dict(file)
    return None


def confusion(runs: Sequence[Run]) -> tuple[list[str], np.ndarray] | None:
    """Count the test predictions of some runs together.

    Returns:
        K class names and counts (K, K), true classes in rows; None where no run has predictions, or their classes
        differ.
    """
    found = [part for run in runs if (part := predictions(run)) is not None]
    names = {tuple(part["classes"].tolist()) for part in found}
    if len(names) != 1:
        return None
    classes = list(names.pop())
    predicted = torch.from_numpy(np.concatenate([part["top"][:, 0] for part in found])).long()
    label = torch.from_numpy(np.concatenate([part["label"] for part in found])).long()
    return classes, confusion_matrix(predicted, label, num_classes=len(classes)).numpy()


def class_accuracy(groups: Sequence[Sequence[Run]]) -> tuple[list[str], list[np.ndarray | None]]:
    """Return the accuracy of each class in percent for each group of runs.

    Returns:
        K class names, those of the first group with predictions, and (K,) for each group: NaN for a class without test
        images; None for a group without predictions, or with those of other classes.
    """
    found = [confusion(runs) for runs in groups]
    classes = next((part[0] for part in found if part is not None), [])
    return classes, [
        np.diag(percent_of_class(part[1])) if part is not None and part[0] == classes else None for part in found
    ]


def samples(runs: Sequence[Run]) -> tuple[str, list[Sample]] | None:
    """Return the sample images of the first run that has some: the first ones of the test split, which all runs share.

    Returns:
        The name of the run, and its samples; None where no run has any.
    """
    every = ((run.name, part) for run in runs if (part := predictions(run)) is not None and "image" in part)
    if (first := next(every, None)) is None:
        return None
    name, found = first
    images, classes = found["image"][:_SHOWN], found["classes"]
    mapped = [""] * len(images)
    if "weight" in found:
        heat = over_uniform(found["weight"][:_SHOWN].astype(np.float32))
        mapped = [png_address(pair.mapped) for pair in overlays(images, heat, shared=True)]
    return name, [
        Sample(
            image=png_address(enlarged(image)),
            overlay=overlay,
            label=str(classes[found["label"][row]]),
            predicted=str(classes[found["top"][row, 0]]),
            probability=float(found["prob"][row, 0]),
        )
        for image, overlay, row in zip(pixels(images), mapped, found["row"], strict=False)
    ]
