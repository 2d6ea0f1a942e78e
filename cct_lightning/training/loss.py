"""The mean loss of an epoch, for which no step waits for a GPU."""

from torch import Tensor
from torchmetrics import MeanMetric


class MeanLoss(MeanMetric):
    """torchmetrics' weighted mean without its look at each value.

    torchmetrics asks every value whether it is NaN, and the answer has to come from the device: a GPU then stands idle
    between two steps. (Switched off by `nan_strategy="disable"`, torchmetrics 1.9 forgets the weights.) Lost losses are
    found by `StopOnNonFiniteLoss`, many steps at once.
    """

    def update(self, value: Tensor | float, weight: float) -> None:  # type: ignore[override]
        """Add a mean loss.

        Args:
            value: The mean over some images, ().
            weight: How many images.
        """
        value = value.to(self.mean_value.dtype) if isinstance(value, Tensor) else value
        self.mean_value += value * weight
        self.weight += weight
