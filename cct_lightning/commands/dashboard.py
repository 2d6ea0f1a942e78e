"""`cct dashboard`: a W&B workspace and a report for the runs of an ablation, by the package wandb-workspaces."""

import json
from typing import TYPE_CHECKING, Any

from cct_lightning.ablation.grid import SEED, Grid, find_grid, read_grid, varied
from cct_lightning.compat import wandb_model
from cct_lightning.errors import InputError

if TYPE_CHECKING:
    import wandb_workspaces.reports.v2 as wr
    import wandb_workspaces.workspaces as ws

_FINAL = "test/acc"
_CURVES = ("val/acc", "val/loss", "train/loss")


def dashboard(project: str, *, ablation: str, dry_run: bool = False) -> None:
    """Create a W&B workspace and a report for an ablation: curves, final accuracy by variant, what matters, the runs.

    Args:
        project: ENTITY/PROJECT of the runs.
        ablation: Name of a shipped ablation, or a YAML file in the format of W&B's sweeps; its runs are those of the
            group of that name.
        dry_run: Print what would be created as JSON and stop; needs no login.

    Raises:
        InputError: No such ablation, no login, or the package is not installed.
    """
    if project.count("/") != 1 or not all(project.split("/")):
        raise InputError(f"{project!r} is no W&B project: give ENTITY/PROJECT.")
    entity, name = project.split("/")
    grid = read_grid(find_grid(ablation))
    try:
        import wandb_workspaces  # noqa: F401
    except ImportError:
        raise InputError("wandb-workspaces is not installed: `pip install 'cct_lightning[dashboard]'`.") from None
    workspace, report = build_workspace(entity, name, grid), build_report(entity, name, grid)
    if dry_run:
        print(json.dumps({"workspace": spec(workspace), "report": report_spec(report)}, indent=2))
        return
    from cct_lightning.tracking.wandb_logger import logged_in

    if not logged_in():
        raise InputError("Nobody is logged in to W&B: run `wandb login`, or give --dry-run.")
    print(f"Workspace {workspace.save().url}")
    print(f"Report {report.save().url}")


def _group(grid: Grid) -> str:
    return str(grid.parameters.get("tracking.group", (grid.name,))[0])


def column(key: str) -> str:
    """Return how W&B's tables of runs call an option: `config:model.value.arch` for model.arch."""
    first, dot, rest = key.partition(".")
    return f"config:{first}.value{dot}{rest}"


def build_workspace(entity: str, project: str, grid: Grid) -> "ws.Workspace":
    """Return the workspace; nothing is sent.

    Args:
        entity: W&B user or team.
        project: W&B project.
        grid: The ablation.
    """
    import wandb_workspaces.reports.v2 as wr
    import wandb_workspaces.workspaces as ws

    keys = varied(grid)
    pictures = ["val/confusion", "val/pool_weights", "val/misclassified", "tokenizer/filters"]
    return ws.Workspace(
        entity=entity,
        project=project,
        name=f"Ablation {grid.name}",
        sections=[
            ws.Section(name="Learning curves", panels=[_curve(key) for key in _CURVES], is_open=True, pinned=True),
            ws.Section(name="Results", panels=_results(grid), is_open=True, pinned=True),
            ws.Section(name="Pictures", panels=[wr.MediaBrowser(media_keys=[key]) for key in pictures]),
        ],
        settings=ws.WorkspaceSettings(x_axis="epoch", max_runs=50),
        runset_settings=ws.RunsetSettings(
            filters=ws.And(ws.Metric("Group") == _group(grid), ws.Metric("JobType") == "fit"),
            groupby=[ws.Config(key) for key in keys],
            order=[ws.Ordering(ws.Summary(_FINAL), ascending=False)],
            pinned_columns=[f"summary:{_FINAL}", *(column(key) for key in keys)],
        ),
    )


def build_report(entity: str, project: str, grid: Grid) -> "wr.Report":
    """Return the report; nothing is sent. See `build_workspace` for the arguments."""
    import wandb_workspaces.reports.v2 as wr

    keys = varied(grid)
    mine = f"Group = '{_group(grid)}' and JobType = 'fit'"
    grouped = wr.Runset(
        entity=entity, project=project, name="variants", filters=mine, groupby=[f"config.{key}" for key in keys]
    )
    single = wr.Runset(entity=entity, project=project, name="runs", filters=mine)
    return wr.Report(
        entity=entity,
        project=project,
        title=f"Ablation {grid.name}",
        description=f"{' x '.join(keys) or 'one variant'}, over {len(grid.parameters.get(SEED, (0,)))} seeds",
        blocks=[
            wr.H1(text="Final accuracy"),
            wr.PanelGrid(runsets=[grouped], panels=_results(grid)[:1]),
            wr.H1(text="Learning curves"),
            wr.PanelGrid(runsets=[grouped], panels=[_curve(key) for key in _CURVES]),
            wr.H1(text="What matters"),
            wr.PanelGrid(runsets=[single], panels=_results(grid)[1:]),
            wr.H1(text="Runs"),
            wr.PanelGrid(runsets=[single], panels=[wr.RunComparer(diff_only=True)]),
        ],
    )


def _curve(key: str) -> "wr.LinePlot":
    import wandb_workspaces.reports.v2 as wr

    return wr.LinePlot(
        title=key, x="epoch", y=[key], groupby_aggfunc="mean", groupby_rangefunc="stddev", max_runs_to_show=100
    )


def _results(grid: Grid) -> list[Any]:
    import wandb_workspaces.reports.v2 as wr

    keys = varied(grid)
    columns = [*(wr.ParallelCoordinatesPlotColumn(metric=wr.Config(key), display_name=key) for key in [*keys, SEED])]
    columns.append(wr.ParallelCoordinatesPlotColumn(metric=wr.SummaryMetric(_FINAL), display_name=_FINAL))
    return [
        wr.BarPlot(
            title=f"{_FINAL}, mean and standard deviation",
            metrics=[wr.SummaryMetric(_FINAL)],
            groupby_aggfunc="mean",
            groupby_rangefunc="stddev",
        ),
        wr.ParallelCoordinatesPlot(title="Parallel coordinates", columns=columns),
        wr.ParameterImportancePlot(with_respect_to=_FINAL),
    ]


def spec(workspace: "ws.Workspace") -> dict[str, Any]:
    """Return a workspace as W&B stores it."""
    return wandb_model(workspace)


def report_spec(report: "wr.Report") -> dict[str, Any]:
    """Return a report as far as it can be built without W&B's server, which alone knows the project's id."""
    import wandb_workspaces.reports.v2 as wr

    blocks: list[dict[str, Any]] = []
    for block in report.blocks:
        if isinstance(block, wr.PanelGrid):
            panels = [wandb_model(panel) for panel in block.panels]
            sets = [
                {"name": r.name, "filters": str(r.filters), "groupby": [str(g) for g in r.groupby]}
                for r in block.runsets
            ]
            blocks.append({"runsets": sets, "panels": panels})
        else:
            blocks.append({"heading": getattr(block, "text", "")})
    return {"title": report.title, "description": report.description, "blocks": blocks}
