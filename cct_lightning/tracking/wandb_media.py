"""Pictures as W&B shows them: a table of mistakes, its own chart of the confusion, images with captions.

Letters: N images, K classes.
"""

import io
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import wandb
from matplotlib.figure import Figure
from PIL import Image

from cct_lightning.analysis.calibration import plot_reliability, reliability_of
from cct_lightning.analysis.confusion import confusion_matrix, plot_confusion
from cct_lightning.analysis.overlay import enlarged, overlays, pixels
from cct_lightning.analysis.pictures import Maps
from cct_lightning.tracking.seen import Seen

_CHART = 100  # classes up to which W&B draws the confusion matrix itself


def wandb_media(seen: Seen) -> dict[str, Any]:
    """Return what `wandb.log` takes: each picture by its key."""
    table = wandb.Table(columns=["image", "label", "predicted", "probability", "index"])
    if (few := seen.mistakes) is not None:
        rows = zip(pixels(few.images), few.label, few.predicted, few.prob, few.index, strict=True)
        for image, true, wrong, sure, index in rows:
            table.add_data(wandb.Image(enlarged(image)), seen.classes[true], seen.classes[wrong], sure, index)
    calibration = reliability_of(torch.from_numpy(seen.prob), torch.from_numpy(seen.predicted == seen.label))
    found = {
        f"{seen.stage}/misclassified": table,
        f"{seen.stage}/confusion": confusion(seen.label, seen.predicted, seen.classes),
        f"{seen.stage}/reliability": as_image(plot_reliability(calibration)),
    }
    for name, drawn in seen.drawn.items():
        found[name] = over_images(seen.images, drawn) if isinstance(drawn, Maps) else as_image(drawn)
    return found


def confusion(label: np.ndarray, predicted: np.ndarray, classes: Sequence[str]) -> Any:
    """Return W&B's chart of the confusion of true and predicted classes (N,); a picture where K is too many for it."""
    if len(classes) <= _CHART:
        return wandb.plot.confusion_matrix(
            y_true=label.tolist(), preds=predicted.tolist(), class_names=list(classes), title=""
        )
    counts = confusion_matrix(torch.from_numpy(predicted), torch.from_numpy(label), num_classes=len(classes))
    return as_image(plot_confusion(counts, classes=classes))


def over_images(images: np.ndarray, maps: Maps) -> list[wandb.Image]:
    """Return each image (N, C, H, W) uint8 beside the same image under its map, whose largest value is the caption."""
    return [
        wandb.Image(np.concatenate([pair.image, pair.mapped], 1), caption=f"at most {pair.top:.3g} {maps.unit}")
        for pair in overlays(images, maps.values)
    ]


def as_image(figure: Figure) -> wandb.Image:
    """Return a figure as an image for W&B."""
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=80)
    return wandb.Image(Image.open(file))
