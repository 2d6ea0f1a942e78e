"""Does the model know how often it is right? Expected calibration error and the reliability diagram.

Source: Guo et al., "On Calibration of Modern Neural Networks", arXiv 1706.04599; the error is torchmetrics'.

Letters: B images, K classes, n bins.
"""

from dataclasses import dataclass

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor
from torchmetrics.functional.classification import binary_calibration_error

from cct_lightning.analysis.style import OKABE_ITO, figure_of, numbers, one_axes, styled
from cct_lightning.errors import InputError


@dataclass(frozen=True)
class Reliability:
    """A reliability diagram in numbers.

    Attributes:
        ece: Expected calibration error, 0 to 1: mean over images of |accuracy - confidence| of their bin.
        accuracy: Share of right predictions in each bin (n,); NaN in empty ones.
        confidence: Mean probability of the predicted class in each bin (n,); NaN in empty ones.
        count: Images in each bin (n,).
    """

    ece: float
    accuracy: Tensor
    confidence: Tensor
    count: Tensor

    def __repr__(self) -> str:
        return f"Reliability(ece={self.ece:.4f}, {int(self.count.sum()):,} images in {len(self.count)} bins)"


def reliability(logits: Tensor, labels: Tensor, *, bins: int = 15) -> Reliability:
    """Compare how sure the model was with how often it was right, by logits (B, K) and labels (B,) int64.

    `bins` are of equal width, between confidence 0 and 1.
    """
    if logits.ndim != 2 or labels.shape != logits.shape[:1] or len(labels) == 0:
        raise InputError(
            f"Expected logits (B, K) and labels (B,), got {tuple(logits.shape)} and {tuple(labels.shape)}."
        )
    confidence, predicted = logits.detach().float().softmax(-1).max(-1)
    return reliability_of(confidence, predicted == labels, bins=bins)


def reliability_of(confidence: Tensor, right: Tensor, *, bins: int = 15) -> Reliability:
    """Do the same where the logits are gone.

    Args:
        confidence: Probability of the predicted class (B,), 0 to 1.
        right: Whether it is the true one (B,), bool.
        bins: As in `reliability`.
    """
    # On the CPU: not every accelerator has float64.
    confidence, right = confidence.cpu().clamp(0, 1), right.cpu()  # torchmetrics takes numbers beyond for logits
    # Of several classes only the predicted one counts, so this is the error of right against wrong.
    ece = binary_calibration_error(confidence, right.long(), n_bins=bins)
    edges = torch.linspace(0, 1, bins + 1, device=confidence.device)
    place = (torch.bucketize(confidence, edges, right=True) - 1).clamp_max(bins - 1)  # exactly 1 is in the last bin
    count = torch.bincount(place, minlength=bins)
    hits = torch.bincount(place, weights=right.double(), minlength=bins)
    sure = torch.bincount(place, weights=confidence.double(), minlength=bins)
    return Reliability(float(ece), (hits / count).float(), (sure / count).float(), count)


@styled
def plot_reliability(result: Reliability, *, ax: Axes | None = None) -> Figure:
    """Draw accuracy over confidence, with the share of images in each bin at the foot."""
    ax = one_axes(ax, (8, 5))
    bins = len(result.count)
    middle = (np.arange(bins) + 0.5) / bins
    accuracy, confidence, count = numbers(result.accuracy), numbers(result.confidence), numbers(result.count)
    share = count / count.sum()
    ax.plot([0, 1], [0, 1], "--", color="#777777", label="perfectly calibrated")
    ax.bar(middle, share, width=0.9 / bins, color=OKABE_ITO[4], label="share of images")
    ax.plot(confidence, accuracy, color=OKABE_ITO[0], linewidth=1)
    ax.scatter(confidence, accuracy, s=20 + 500 * share, color=OKABE_ITO[0], label="accuracy (area: images)", zorder=3)
    ax.set(xlim=(0, 1.02), xlabel="confidence (probability of the predicted class)")
    ax.set(ylim=(0, 1.03), ylabel="accuracy, share")
    ax.set_title(f"ECE {100 * result.ece:.1f} %, {count.sum():,} images, {bins} bins")
    ax.legend(loc="upper left", bbox_to_anchor=(1, 1), frameon=False, markerscale=0.6)
    return figure_of(ax)
