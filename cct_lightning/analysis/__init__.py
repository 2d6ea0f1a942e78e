# ruff: noqa: F401 (what is imported here is the public interface)
"""See what the model sees, and draw every figure of the package once: for notebooks, W&B and pages alike.

A network goes in with a batch of images, tensors come out; `plot_...` functions take tensors or arrays and return a
matplotlib figure. What is said here holds for all of them: `net` is a Compact Transformer, unless the function says
that it works with every network; `images` are (B, C, H, W), for a network normalized as in training, for a figure uint8
as they are or floats, each stretched to its own range; `titles` are one text for each panel, `columns` panels in a row,
and `ax` axes to draw on, a new figure when None. What does not fit is an InputError.

A new picture for W&B is a function with `@picture` beside what it draws (`pictures.py` says how); colors and fonts are
in `style.py`, maps over images in `overlay.py`, what is drawn of runs in `curves.py`, `confusion.py`, `efficiency.py`.
"""

import types

from cct_lightning.analysis.attention import (
    attention_maps,
    plot_attention,
    plot_rollout,
    residual_share,
    rollout,
    rollout_map,
)
from cct_lightning.analysis.calibration import Reliability, plot_reliability, reliability, reliability_of
from cct_lightning.analysis.confusion import confusion_matrix, most_confused, plot_confusion
from cct_lightning.analysis.curves import curve, plot_curves, plot_results
from cct_lightning.analysis.efficiency import (
    data_efficiency,
    plot_data_efficiency,
    plot_schedule,
    published_schedule,
    schedule_efficiency,
)
from cct_lightning.analysis.equivariance import (
    SHIFTS,
    plot_shift_consistency,
    plot_shift_error,
    shift_consistency,
    shift_error,
    shift_images,
)
from cct_lightning.analysis.features import layer_features, layer_tokens, plot_projection, project
from cct_lightning.analysis.filters import plot_filters, tokenizer_filters
from cct_lightning.analysis.images import plot_images, plot_predictions
from cct_lightning.analysis.overlay import Overlay, blend, over_uniform, overlays, pixels, plot_overlays
from cct_lightning.analysis.pictures import PICTURES, Maps, picture
from cct_lightning.analysis.position import plot_position_similarity, position_embedding, position_similarity
from cct_lightning.analysis.receptive import (
    ReceptiveField,
    measured_receptive_field,
    plot_token_gradient,
    receptive_field,
    token_gradient,
)
from cct_lightning.analysis.saliency import input_gradient, plot_saliency, smooth_grad
from cct_lightning.analysis.seqpool import mean_by_class, plot_class_weights, plot_pool_weights, pool_weights
from cct_lightning.analysis.stages import plot_stage_budget, stage_budget

__all__ = sorted(
    name for name, value in globals().items() if not name.startswith("_") and not isinstance(value, types.ModuleType)
)


def __dir__() -> list[str]:
    # The modules that these come from would be among them, some with nearly the same names.
    return __all__
