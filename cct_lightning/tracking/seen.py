"""What pictures are made of: what a model predicted for a split, and what `analysis` drew of it.

Letters: N images, M of them mistaken, K classes.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.figure import Figure

from cct_lightning.analysis.pictures import Maps


@dataclass(frozen=True)
class Mistakes:
    """Some images that were mistaken, in the order of the data."""

    images: np.ndarray  # (M, C, H, W) uint8
    label: Sequence[int]
    predicted: Sequence[int]
    prob: Sequence[float]  # of the predicted class
    index: Sequence[int]  # of the image in its data set


@dataclass(frozen=True, kw_only=True)
class Seen:
    """What was seen of a split.

    Attributes:
        stage: `val` or `test`.
        classes: K names.
        label: (N,).
        predicted: (N,).
        prob: Of the predicted class, (N,).
        mistakes: None where there is none.
        images: Some images (B, C, H, W) uint8.
        drawn: Name -> picture of these images, or of the model.
    """

    stage: str
    classes: Sequence[str]
    label: np.ndarray
    predicted: np.ndarray
    prob: np.ndarray
    mistakes: Mistakes | None
    images: np.ndarray
    drawn: Mapping[str, Figure | Maps]
