"""Losses by name, and the mean loss of an epoch.

Another loss is a class here and an entry of `LOSSES`; a class of yours needs none, its import path is enough.

Letters: B batch, K classes.
"""

import torch
from torch import Tensor, nn
from torchmetrics import MeanMetric

from cct_lightning.errors import InputError
from cct_lightning.models.parts import PartSpec, build_part, split_spec


class BinaryCrossEntropy(nn.Module):
    """K independent decisions in place of one among K, averaged over images and classes.

    Source: Wightman et al., "ResNet strikes back", arXiv 2110.00476, and timm's `BinaryCrossEntropy`.

    Args:
        label_smoothing: Share of the target that is spread over all classes.
    """

    def __init__(self, *, label_smoothing: float = 0.0) -> None:
        super().__init__()
        self.label_smoothing = label_smoothing

    def forward(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Return the loss, (), of logits (B, K) and labels (B,) or soft targets (B, K)."""
        classes = logits.shape[-1]
        soft = nn.functional.one_hot(targets, classes) if targets.ndim == 1 else targets
        soft = soft.to(logits.dtype) * (1 - self.label_smoothing) + self.label_smoothing / classes
        return nn.functional.binary_cross_entropy_with_logits(logits, soft)


LOSSES: dict[str, type[nn.Module]] = {"cross_entropy": nn.CrossEntropyLoss, "bce": BinaryCrossEntropy}


def build_loss(spec: PartSpec, *, label_smoothing: float) -> nn.Module:
    """Build a loss: a module that maps logits (B, K) and labels (B,) or soft targets (B, K) to a scalar.

    Args:
        spec: A name in `LOSSES`; or the import path of such a `torch.nn.Module`, also as a dict of `class_path` and
            `init_args`.
        label_smoothing: Of the built-in losses; a class of yours takes what it needs from `init_args`.

    Raises:
        InputError: No such loss, a constructor that does not take these arguments, or a loss with weights to train.
    """
    name, _ = split_spec("loss", spec)
    given = {"label_smoothing": label_smoothing} if name in LOSSES else {}
    loss = build_part("loss", spec, LOSSES, nn.Module, **given)
    if any(parameter.requires_grad for parameter in loss.parameters()):
        raise InputError(f"The loss {name!r} has weights to train, and the optimizer is given the model's alone.")
    return loss


class MeanLoss(MeanMetric):
    """torchmetrics' weighted mean, which does not look whether each value is NaN.

    The answer would have to come from the device: a GPU would idle between two steps. (Switched off by
    `nan_strategy="disable"`, torchmetrics 1.9 forgets the weights.) `StopOnNonFiniteLoss` finds lost losses, many steps
    at once.
    """

    def update(self, value: Tensor | float, weight: float) -> None:  # type: ignore[override]
        """Add `value`, (), the mean loss of `weight` images."""
        value = value.to(self.mean_value.dtype) if isinstance(value, Tensor) else value
        self.mean_value += value * weight
        self.weight += weight

    def sums(self) -> Tensor:
        """Return the weighted sum and the weight so far, (2,), of this process."""
        return torch.stack([self.mean_value, self.weight])

    def restore(self, total: float, weight: float) -> None:
        """Continue from sums; added in two terms, no digit is lost."""
        self.update(total, weight=1)
        self.update(0.0, weight=weight - 1)
