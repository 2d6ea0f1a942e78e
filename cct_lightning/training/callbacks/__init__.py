"""What Lightning's callbacks do not bring: averaged weights, freezing, the gradient's norm, a stop at NaN, seeds.

Another callback is another file, added to the Trainer by `cct_lightning/build.py`, or where an option of the model asks
for it by `Classifier.configure_callbacks`; a line in tests/survival/matrix.py shows that it survives an interruption.
"""

from cct_lightning.training.callbacks.gradient_norm import GradientNorm
from cct_lightning.training.callbacks.nan_guard import StopOnNonFiniteLoss

__all__ = ["GradientNorm", "StopOnNonFiniteLoss"]  # as in version 0.1
