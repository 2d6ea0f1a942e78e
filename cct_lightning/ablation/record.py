"""`ablation.json`: what a run folder notes of the ablation that it belongs to."""

from pathlib import Path
from typing import Any

from cct_lightning.ablation.grid import GridRun
from cct_lightning.config.options import without_home
from cct_lightning.runs.folder import RunFolder
from cct_lightning.system.atomic import write_json


def write_record(folder: Path, run: GridRun, ablation: str) -> None:
    """Make the folder of a run and note what it is for; what an earlier attempt noted stays."""
    folder.mkdir(parents=True, exist_ok=True)
    note(
        folder,
        ablation=ablation,
        variant=run.variant,
        index=run.index,
        command=list(run.command),
        parameters=without_home(run.parameters),
    )


def note(folder: Path, **values: Any) -> None:
    """Add values to the record of a run."""
    files = RunFolder(folder)
    write_json(files / files.RECORD, {**files.record(), **values})
