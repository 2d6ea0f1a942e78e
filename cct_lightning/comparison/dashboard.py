"""A W&B workspace and a report for the runs of an ablation or a search, by wandb-workspaces; nothing is sent here."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import wandb_workspaces.reports.v2 as wr
import wandb_workspaces.workspaces as ws

from cct_lightning.ablation.grid import SEED, read_grid, varied
from cct_lightning.compat import wandb_model
from cct_lightning.config.yaml_file import read_yaml
from cct_lightning.errors import InputError
from cct_lightning.runs.metrics import CURVES, TEST_ACC, metric

# As W&B stores them: of its own chart of the confusion, the table is what is logged.
PICTURES = ("val/confusion_table", "val/pool_weights", "val/misclassified", "tokenizer/filters")


@dataclass(frozen=True, kw_only=True)
class Study:
    """The runs that a dashboard is about.

    Attributes:
        name: That of the file.
        group: The group that its runs share in W&B.
        keys: Options that differ, the seed left out.
        seeds: How many seeds each variant has.
        is_search: Values are drawn (`random`, `bayes`): no two runs are of one variant.
    """

    name: str
    group: str
    keys: list[str]
    seeds: int = 1
    is_search: bool = False


def read_study(path: Path) -> Study:
    """Read what a dashboard needs of a grid file, or of a W&B sweep file with another method.

    Raises:
        InputError: It is neither.
    """
    content = read_yaml(path)
    if not isinstance(content, Mapping) or content.get("method") not in ("random", "bayes"):
        grid = read_grid(path)  # which also says what is wrong
        group = str(grid.parameters.get("tracking.group", (grid.name,))[0])
        return Study(name=grid.name, group=group, keys=varied(grid), seeds=len(grid.parameters.get(SEED, (0,))))
    parameters = content.get("parameters")
    if not isinstance(parameters, Mapping) or not all(isinstance(entry, Mapping) for entry in parameters.values()):
        raise InputError(f"{path} has no parameters: give a mapping such as model.optim.lr: {{min: 1e-4, max: 1e-2}}.")
    fixed = {key: entry["value"] for key, entry in parameters.items() if "value" in entry}
    keys = [key for key in parameters if key not in fixed and key != SEED]
    return Study(name=path.stem, group=str(fixed.get("tracking.group", path.stem)), keys=keys, is_search=True)


def _column(key: str) -> str:
    # How W&B's tables of runs call an option: `config:model.value.arch` for model.arch.
    first, dot, rest = key.partition(".")
    return f"config:{first}.value{dot}{rest}"


def build_workspace(entity: str, project: str, study: Study) -> ws.Workspace:
    """Return the workspace in which an ablation of a user or team and its project is watched."""
    keys = study.keys
    return ws.Workspace(
        entity=entity,
        project=project,
        name=f"Ablation {study.name}",
        sections=[
            ws.Section(name="Learning curves", panels=_curves(), is_open=True, pinned=True),
            ws.Section(name="Results", panels=_results(study), is_open=True, pinned=True),
            ws.Section(name="Pictures", panels=[wr.MediaBrowser(media_keys=[key]) for key in PICTURES]),
        ],
        settings=ws.WorkspaceSettings(x_axis="epoch", max_runs=50),
        runset_settings=ws.RunsetSettings(
            filters=ws.And(ws.Metric("Group") == study.group, ws.Metric("JobType") == "fit"),
            groupby=[] if study.is_search else [ws.Config(key) for key in keys],
            order=[ws.Ordering(ws.Summary(TEST_ACC), ascending=metric(TEST_ACC).goal == "min")],
            pinned_columns=[f"summary:{TEST_ACC}", *map(_column, keys)],
        ),
    )


def build_report(entity: str, project: str, study: Study) -> wr.Report:
    """Return the report on an ablation, likewise."""
    keys, results = study.keys, _results(study)
    of_grid = f"Group = '{study.group}' and JobType = 'fit'"
    runs = partial(wr.Runset, entity=entity, project=project, filters=of_grid)
    grouped, single = (
        runs(name="variants", groupby=[] if study.is_search else [f"config.{key}" for key in keys]),
        runs(name="runs"),
    )
    panels = {
        "Final accuracy": (grouped, results[:1]),
        "Learning curves": (grouped, _curves()),
        "What matters": (single, results[1:]),
        "Runs": (single, [wr.RunComparer(diff_only=True)]),
    }
    return wr.Report(
        entity=entity,
        project=project,
        title=f"Ablation {study.name}",
        description=f"{' x '.join(keys) or 'one variant'}, over {study.seeds} seeds",
        blocks=[
            block
            for text, (runset, some) in panels.items()
            for block in (wr.H1(text=text), wr.PanelGrid(runsets=[runset], panels=some))
        ],
    )


_SPREAD: dict[str, Any] = {"groupby_aggfunc": "mean", "groupby_rangefunc": "stddev"}


def _curves() -> list[Any]:
    return [wr.LinePlot(title=key, x="epoch", y=[key], max_runs_to_show=100, **_SPREAD) for key in CURVES]


def _results(study: Study) -> list[Any]:
    final = wr.SummaryMetric(TEST_ACC)
    shown = {key: wr.Config(key) for key in [*study.keys, SEED]} | {TEST_ACC: final}
    columns = [wr.ParallelCoordinatesPlotColumn(metric=what, display_name=name) for name, what in shown.items()]
    return [
        wr.BarPlot(title=f"{TEST_ACC}, mean and standard deviation", metrics=[final], **_SPREAD),
        wr.ParallelCoordinatesPlot(title="Parallel coordinates", columns=columns),
        wr.ParameterImportancePlot(with_respect_to=TEST_ACC),
        *(wr.ScatterPlot(title=key, x=wr.Config(key), y=final) for key in study.keys if study.is_search),
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
