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
    """Return the workspace.

    Args:
        entity: W&B user or team.
        project: W&B project.
        grid: The ablation.
    """
    keys = varied(grid)
    return ws.Workspace(
        entity=entity,
        project=project,
        name=f"Ablation {grid.name}",
        sections=[
            ws.Section(name="Learning curves", panels=[_curve(key) for key in CURVES], is_open=True, pinned=True),
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
    """Return the report. See `build_workspace` for the arguments."""
    keys = varied(grid)
    of_grid = f"Group = '{_group(grid)}' and JobType = 'fit'"
    runs = partial(wr.Runset, entity=entity, project=project, filters=of_grid)
    grouped, single = runs(name="variants", groupby=[f"config.{key}" for key in keys]), runs(name="runs")
    return wr.Report(
        entity=entity,
        project=project,
        title=f"Ablation {grid.name}",
        description=f"{' x '.join(keys) or 'one variant'}, over {len(grid.parameters.get(SEED, (0,)))} seeds",
        blocks=[
            wr.H1(text="Final accuracy"),
            wr.PanelGrid(runsets=[grouped], panels=_results(grid)[:1]),
            wr.H1(text="Learning curves"),
            wr.PanelGrid(runsets=[grouped], panels=[_curve(key) for key in CURVES]),
            wr.H1(text="What matters"),
            wr.PanelGrid(runsets=[single], panels=_results(grid)[1:]),
            wr.H1(text="Runs"),
            wr.PanelGrid(runsets=[single], panels=[wr.RunComparer(diff_only=True)]),
        ],
    )


def _curve(key: str) -> wr.LinePlot:
    return wr.LinePlot(
        title=key, x="epoch", y=[key], groupby_aggfunc="mean", groupby_rangefunc="stddev", max_runs_to_show=100
    )


def _results(grid: Grid) -> list[Any]:
    options = [
        wr.ParallelCoordinatesPlotColumn(metric=wr.Config(key), display_name=key) for key in [*varied(grid), SEED]
    ]
    final = wr.ParallelCoordinatesPlotColumn(metric=wr.SummaryMetric(TEST_ACC), display_name=TEST_ACC)
    return [
        wr.BarPlot(
            title=f"{TEST_ACC}, mean and standard deviation",
            metrics=[wr.SummaryMetric(TEST_ACC)],
            groupby_aggfunc="mean",
            groupby_rangefunc="stddev",
        ),
        wr.ParallelCoordinatesPlot(title="Parallel coordinates", columns=[*options, final]),
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
