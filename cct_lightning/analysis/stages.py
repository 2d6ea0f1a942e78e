"""Where the parameters and the multiply-accumulates of a model are: by stage.

The counts are those of `models.complexity`; one multiply-accumulate is two of its operations.

Letters: (H, W) image.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from matplotlib.figure import Figure
from torch import nn

from cct_lightning.analysis.probe import compact, evaluating
from cct_lightning.analysis.style import OKABE_ITO, styled
from cct_lightning.models.complexity import count_operations

_STAGES = ("tokenizer", "position", "encoder", "pool", "head")

if TYPE_CHECKING:
    import pandas as pd


def stage_budget(net: nn.Module, *, img_size: tuple[int, int] | None = None) -> pd.DataFrame:
    """Count parameters and multiply-accumulates of each stage for one image.

    Args:
        net: A Compact Transformer.
        img_size: (H, W) in pixels; the one that the model was built for when None.

    Returns:
        A row for each stage (`tokenizer`, `position`, `encoder`, `pool`, `head`) with columns `params` (trainable) and
        `macs`, the two products of attention included.
    """
    import pandas as pd

    model = compact(net)
    with evaluating(model):
        counter = count_operations(model, (1, model.arch.in_chans, *(img_size or model.arch.img_size)))
    counts, name = counter.get_flop_counts(), type(model).__name__
    rows = [
        {
            "params": sum(p.numel() for p in getattr(model, stage).parameters() if p.requires_grad),
            "macs": sum(counts.get(f"{name}.{stage}", {}).values()) // 2,
        }
        for stage in _STAGES
    ]
    return pd.DataFrame(rows, index=pd.Index(_STAGES, name="stage"))


@styled
def plot_stage_budget(table: pd.DataFrame) -> Figure:
    """Draw a table of `stage_budget` on logarithmic axes, with the share of each stage."""
    figure = Figure(figsize=(10, 3.4), layout="constrained")
    axes = figure.subplots(1, 2, sharey=True)
    what = (("params", "parameters"), ("macs", "MACs"))
    for ax, color, (column, label) in zip(axes, OKABE_ITO, what, strict=False):
        values = table[column].astype(float)
        ax.barh(range(len(values)), values, color=color)
        for y, value in enumerate(values):
            share = 100 * value / values.sum()
            text = "none" if value == 0 else f"{share:.1f} %" if share >= 0.1 else "< 0.1 %"
            ax.text(max(value, 1), y, f" {text}", va="center")
        ax.set_xscale("log")
        ax.set_xlim(1, values.max() * 30)
        ax.set_xlabel(f"{label} (total {values.sum() / 1e6:,.2f} million)")
    axes[0].set_yticks(range(len(table)), table.index)
    axes[0].invert_yaxis()
    return figure
