"""A W&B workspace and a report for the runs of an ablation, by wandb-workspaces; nothing is sent from here."""

from functools import partial
from typing import Any

import wandb_workspaces.reports.v2 as wr
import wandb_workspaces.workspaces as ws

from cct_lightning.ablation.grid import SEED, Grid, varied
from cct_lightning.compat import wandb_model
from cct_lightning.runs.metrics import CURVES, TEST_ACC, metric

_PICTURES = ("val/confusion", "val/pool_weights", "val/misclassified", "tokenizer/filters")


def _group(grid: Grid) -> str:
    return str(grid.parameters.get("tracking.group", (grid.name,))[0])


def _column(key: str) -> str:
    # How W&B's tables of runs call an option: `config:model.value.arch` for model.arch.
    first, dot, rest = key.partition(".")
    return f"config:{first}.value{dot}{rest}"


def build_workspace(entity: str, project: str, grid: Grid) -> ws.Workspace:
    """Return the workspace in which an ablation of a user or team and its project is watched."""
    keys = varied(grid)
    return ws.Workspace(
        entity=entity,
        project=project,
        name=f"Ablation {grid.name}",
        sections=[
            ws.Section(name="Learning curves", panels=_curves(), is_open=True, pinned=True),
            ws.Section(name="Results", panels=_results(grid), is_open=True, pinned=True),
            ws.Section(name="Pictures", panels=[wr.MediaBrowser(media_keys=[key]) for key in _PICTURES]),
        ],
        settings=ws.WorkspaceSettings(x_axis="epoch", max_runs=50),
        runset_settings=ws.RunsetSettings(
            filters=ws.And(ws.Metric("Group") == _group(grid), ws.Metric("JobType") == "fit"),
            groupby=[ws.Config(key) for key in keys],
            order=[ws.Ordering(ws.Summary(TEST_ACC), ascending=metric(TEST_ACC).goal == "min")],
            pinned_columns=[f"summary:{TEST_ACC}", *map(_column, keys)],
        ),
    )


def build_report(entity: str, project: str, grid: Grid) -> wr.Report:
    """Return the report on an ablation, likewise."""
    keys, results = varied(grid), _results(grid)
    of_grid = f"Group = '{_group(grid)}' and JobType = 'fit'"
    runs = partial(wr.Runset, entity=entity, project=project, filters=of_grid)
    grouped, single = runs(name="variants", groupby=[f"config.{key}" for key in keys]), runs(name="runs")
    panels = {
        "Final accuracy": (grouped, results[:1]),
        "Learning curves": (grouped, _curves()),
        "What matters": (single, results[1:]),
        "Runs": (single, [wr.RunComparer(diff_only=True)]),
    }
    return wr.Report(
        entity=entity,
        project=project,
        title=f"Ablation {grid.name}",
        description=f"{' x '.join(keys) or 'one variant'}, over {len(grid.parameters.get(SEED, (0,)))} seeds",
        blocks=[
            block
            for text, (runset, some) in panels.items()
            for block in (wr.H1(text=text), wr.PanelGrid(runsets=[runset], panels=some))
        ],
    )


_SPREAD: dict[str, Any] = {"groupby_aggfunc": "mean", "groupby_rangefunc": "stddev"}


def _curves() -> list[Any]:
    return [wr.LinePlot(title=key, x="epoch", y=[key], max_runs_to_show=100, **_SPREAD) for key in CURVES]


def _results(grid: Grid) -> list[Any]:
    final = wr.SummaryMetric(TEST_ACC)
    shown = {key: wr.Config(key) for key in [*varied(grid), SEED]} | {TEST_ACC: final}
    columns = [wr.ParallelCoordinatesPlotColumn(metric=what, display_name=name) for name, what in shown.items()]
    return [
        wr.BarPlot(title=f"{TEST_ACC}, mean and standard deviation", metrics=[final], **_SPREAD),
        wr.ParallelCoordinatesPlot(title="Parallel coordinates", columns=columns),
        wr.ParameterImportancePlot(with_respect_to=TEST_ACC),
    ]


def report_as_stored(report: wr.Report) -> dict[str, Any]:
    """Return a report as far as it can be built without W&B's server, which alone knows the project's id."""
    blocks: list[dict[str, Any]] = []
    for block in report.blocks:
        if not isinstance(block, wr.PanelGrid):
            blocks.append({"heading": getattr(block, "text", "")})
            continue
        sets = [
            {"name": runs.name, "filters": str(runs.filters), "groupby": [str(key) for key in runs.groupby]}
            for runs in block.runsets
        ]
        blocks.append({"runsets": sets, "panels": [wandb_model(panel) for panel in block.panels]})
    return {"title": report.title, "description": report.description, "blocks": blocks}
