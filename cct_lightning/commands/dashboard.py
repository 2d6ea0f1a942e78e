"""`cct dashboard`: a W&B workspace and a report for the runs of an ablation or a search, by wandb-workspaces."""

import json

from cct_lightning.ablation.grid import find_grid
from cct_lightning.comparison.wandb_runs import wandb_answers
from cct_lightning.compat import wandb_model
from cct_lightning.errors import InputError
from cct_lightning.system.importing import require_extra


def dashboard(project: str, *, ablation: str, dry_run: bool = False) -> None:
    """Create a W&B workspace and a report for an ablation: curves, final accuracy by variant, what matters, the runs.

    Args:
        project: ENTITY/PROJECT of the runs.
        ablation: Name of a shipped ablation, or a YAML file in the format of W&B's sweeps, also of the methods random
            and bayes; its runs are those of its tracking.group, or of the group of its name.
        dry_run: Print what would be created as JSON and stop; needs no login.

    Raises:
        InputError: No such ablation, no login, or the package is not installed.
    """
    require_extra("dashboard", "wandb_workspaces", purpose="cct dashboard")
    if project.count("/") != 1 or not all(project.split("/")):
        raise InputError(f"{project!r} is no W&B project: give ENTITY/PROJECT.")
    entity, name = project.split("/")
    path = find_grid(ablation)
    from cct_lightning.comparison.dashboard import build_report, build_workspace, read_study, report_as_stored

    study = read_study(path)
    workspace, report = build_workspace(entity, name, study), build_report(entity, name, study)
    if dry_run:
        print(json.dumps({"workspace": wandb_model(workspace), "report": report_as_stored(report)}, indent=2))
        return
    from cct_lightning.tracking.connection import logged_in

    if not logged_in():
        raise InputError("Nobody is logged in to W&B: run `wandb login`, or give --dry-run.")
    with wandb_answers(f"Cannot write to the W&B project {project}"):
        print(f"Workspace {workspace.save().url}")
        print(f"Report {report.save().url}")
