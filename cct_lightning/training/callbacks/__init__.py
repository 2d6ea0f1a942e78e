"""What Lightning's callbacks do not bring: averaged weights, freezing, the gradient's norm, a stop at NaN, seeds.

Another callback is another file, added to the Trainer by `cct_lightning/build.py`, or by `Classifier.configure_callbacks`
where an option of the model asks for it; a line in tests/survival/matrix.py shows that it survives an interruption.
"""

from cct_lightning.training.callbacks.ema import EMA
from cct_lightning.training.callbacks.freeze import FreezeBackbone
from cct_lightning.training.callbacks.gradient_norm import GradientNorm
from cct_lightning.training.callbacks.nan_guard import StopOnNonFiniteLoss
from cct_lightning.training.callbacks.seeding import StepSeed

__all__ = ["EMA", "FreezeBackbone", "GradientNorm", "StepSeed", "StopOnNonFiniteLoss"]
