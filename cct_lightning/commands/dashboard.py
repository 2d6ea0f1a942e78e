"""`cct dashboard`: a W&B workspace and a report for the runs of an ablation, by the package wandb-workspaces."""

import json

from cct_lightning.ablation.grid import find_grid, read_grid
from cct_lightning.comparison.wandb_runs import wandb_answers
from cct_lightning.compat import wandb_model
from cct_lightning.errors import InputError
from cct_lightning.system.importing import require_extra


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
    require_extra("dashboard", "wandb_workspaces", purpose="cct dashboard")
    if project.count("/") != 1 or not all(project.split("/")):
        raise InputError(f"{project!r} is no W&B project: give ENTITY/PROJECT.")
    entity, name = project.split("/")
    grid = read_grid(find_grid(ablation))
    from cct_lightning.comparison.dashboard import build_report, build_workspace, report_as_stored

    workspace, report = build_workspace(entity, name, grid), build_report(entity, name, grid)
    if dry_run:
        print(json.dumps({"workspace": wandb_model(workspace), "report": report_as_stored(report)}, indent=2))
        return
    from cct_lightning.tracking.wandb_logger import logged_in

    if not logged_in():
        raise InputError("Nobody is logged in to W&B: run `wandb login`, or give --dry-run.")
    with wandb_answers(f"Cannot write to the W&B project {project}"):
        print(f"Workspace {workspace.save().url}")
        print(f"Report {report.save().url}")
