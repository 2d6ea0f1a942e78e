"""The figures of a report, in Plotly: they zoom, and a click in the legend hides a variant."""

from collections.abc import Sequence
from html import escape

import numpy as np
import plotly.graph_objects as go
import plotly.io
from plotly.colors import hex_to_rgb

from cct_lightning.analysis.confusion import LEGIBLE, percent_of_class
from cct_lightning.analysis.style import MARKERS, look
from cct_lightning.comparison.evidence import confusion, curves
from cct_lightning.comparison.statistics import deviation, mean
from cct_lightning.comparison.variants import Comparison
from cct_lightning.runs.metrics import metric

# matplotlib's markers, by Plotly's names
_SYMBOLS = dict(
    zip(MARKERS, ("circle", "square", "triangle-up", "diamond", "triangle-down", "cross", "x", "star"), strict=True)
)
_DASHES = ("solid", "dash", "dot", "dashdot")
_BUTTONS = ["toImage", "zoom2d", "pan2d", "resetScale2d"]


def _text(text: str, *, room: int = 60) -> str:
    # Plotly reads markup in texts, and draws nothing where they leave no room.
    return escape(text if len(text) <= room else text[: room - 1] + "…", quote=False)


def _finish(figure: go.Figure, *, x: str, y: str, height: int = 460) -> go.Figure:
    return figure.update_layout(
        template="plotly_white",
        height=height,
        margin={"l": 64, "r": 16, "t": 40, "b": 56},
        font={"size": 14},
        xaxis_title=_text(x),
        yaxis_title=_text(y),
        # Below the figure, so that a phone has its whole width for the curves.
        legend={"orientation": "h", "yref": "container", "yanchor": "bottom", "y": 0, "x": 0},
        hovermode="closest",
    )


def learning_curves(comparison: Comparison, key: str) -> go.Figure | None:
    """Draw a metric by epoch: the mean over seeds of each variant, in a band of one standard deviation.

    `key` is a column of metrics.csv. Variants that share a color differ in their dash.
    """
    figure, scale = go.Figure(), metric(key).scale
    for i, variant in enumerate(comparison.variants):
        table = curves(variant.runs, key)
        if table.empty:
            continue
        color = look(i)["color"]
        center, spread = scale * table["mean"], scale * table["std"]
        if table["std"].any():
            figure.add_scatter(
                x=[*table["epoch"], *table["epoch"][::-1]],
                y=[*(center + spread), *(center - spread)[::-1]],
                legendgroup=str(i),
                fill="toself",
                fillcolor=f"rgba{(*hex_to_rgb(color), 0.15)}",
                mode="none",
                hoverinfo="skip",
                showlegend=False,
            )
        figure.add_scatter(
            x=table["epoch"].tolist(),
            y=center.tolist(),
            legendgroup=str(i),
            name=_text(variant.name),
            mode="lines" if len(table) > 1 else "markers",
            line={"color": color, "dash": _DASHES[i // 7 % len(_DASHES)]},
            hovertemplate="epoch %{x}: %{y:.4g}",
        )
    if all(max(line.x) <= 10 for line in figure.data):
        figure.update_xaxes(dtick=1)  # no half epochs
    return _finish(figure, x="epoch", y=metric(key).label(key)) if figure.data else None


def against_cost(comparison: Comparison, key: str) -> go.Figure | None:
    """Draw the result of each variant against what it costs, with one standard deviation.

    `key` is that of the cost in the summaries, such as params. Variants that share a color differ in their marker.
    """
    figure, kind, axis = go.Figure(), metric(comparison.metric), metric(key)
    for i, variant in enumerate(comparison.variants):
        cost = variant.cost(key)
        if not variant.results or np.isnan(cost):
            continue
        spread = deviation(variant.results)
        figure.add_scatter(
            x=[axis.scale * cost],
            y=[kind.scale * mean(variant.results)],
            error_y={"type": "data", "array": [0 if np.isnan(spread) else kind.scale * spread]},
            name=_text(variant.name),
            mode="markers",
            marker={"color": look(i)["color"], "size": 11, "symbol": _SYMBOLS[look(i)["marker"]]},
            hovertemplate="%{x:.4g}: %{y:.4g}",
        )
    return _finish(figure, x=axis.label(), y=kind.label(comparison.metric)) if figure.data else None


def confusion_matrices(comparison: Comparison) -> list[tuple[str, go.Figure]]:
    """Draw the confusion matrix of each variant in percent of the true class, all seeds together."""
    found = ((variant.name, confusion(variant.finished)) for variant in comparison.variants)
    return [(name, _confusion_matrix(*matrix)) for name, matrix in found if matrix is not None]


def _confusion_matrix(classes: Sequence[str], counts: np.ndarray) -> go.Figure:
    percent, places = np.nan_to_num(percent_of_class(counts)), list(range(len(classes)))
    figure = go.Figure(
        go.Heatmap(
            z=percent.round(2).tolist(),
            x=places,
            y=places,
            zmin=0,
            zmax=100,
            colorscale="Cividis",
            colorbar={"title": "%", "thickness": 12},
            text=[["" if value == 0 else f"{value:.0f}" for value in row] for row in percent],
            texttemplate="%{text}" if len(classes) <= LEGIBLE else None,
            hovertemplate="%{z:.1f} %<extra></extra>",
        )
    )
    # By number, since two classes may share a name.
    names = {"tickvals": places, "ticktext": [_text(name, room=20) for name in classes]}
    figure.update_xaxes(**names, type="linear")
    figure.update_yaxes(**names, autorange="reversed", automargin=True)
    return _finish(figure, x="predicted class", y="true class", height=560)


def to_html(figure: go.Figure, ident: str) -> str:
    """Return a figure as a part of a page that has Plotly already, where `ident` is its id."""
    return plotly.io.to_html(
        figure,
        include_plotlyjs=False,
        include_mathjax=False,
        full_html=False,
        div_id=ident,
        default_width="100%",
        default_height=f"{figure.layout.height}px",
        config={"responsive": True, "displaylogo": False, "modeBarButtons": [_BUTTONS]},
    )
