"""Runs of a W&B project, read through its API."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from cct_lightning.comparison.runs import Run
from cct_lightning.config.resolved import ResolvedConfig
from cct_lightning.errors import InputError

_STATUS = {"crashed": "interrupted", "killed": "interrupted", "preempted": "interrupted", "pending": "waiting"}


def fetch_runs(project: str, *, group: str | None = None) -> list[Run]:
    """Read the runs of a project, ENTITY/PROJECT, or only those of a group.

    Raises:
        InputError: No such project, no login, or no answer.
    """
    if project.count("/") != 1:
        raise InputError(f"{project!r} is no W&B project: give ENTITY/PROJECT.")
    import wandb

    with wandb_answers(f"Cannot read the W&B project {project}"):
        found = wandb.Api().runs(project, filters={"group": group} if group else None)
        records = [
            {"name": run.name, "state": run.state, "config": run.config, "summary": dict(run.summary)} for run in found
        ]
    return list(map(to_run, records))


@contextmanager
def wandb_answers(failed: str) -> Iterator[None]:
    """Turn what wandb raises when its server refuses, fails or answers with something else into one sentence.

    Args:
        failed: The beginning of the sentence, such as `Cannot read the W&B project lab/cct`.

    Raises:
        InputError: In place of any other error: wandb passes on those of its HTTP client and of its parsing.
    """
    try:
        yield
    except Exception as error:
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise InputError(f"{failed}: {reason}") from error


def to_run(record: Mapping[str, Any]) -> Run:
    """Turn a record of the API, with `name`, `state`, `config` and `summary`, into a run."""
    options = {key: value for key, value in record["config"].items() if not key.startswith("_")}
    try:
        config = ResolvedConfig.resolve(options, stored=True)
    except InputError:  # of another project's own making
        config = ResolvedConfig(options)
    state = record["state"]
    summary = {key: value for key, value in record["summary"].items() if not key.startswith("_")}
    # W&B calls finished what ended without an error; our own status also tells whether it was tested.
    status = str(summary.get("status", state)) if state == "finished" else _STATUS.get(state, state)
    return Run(
        name=record["name"],
        status=status,
        reason=str(summary.get("reason", "")) if status == "failed" else "",
        config=config,
        summary=summary,
    )
