"""Runs of a W&B project, read through its API; those that have finished are kept, and asked for once."""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from cct_lightning.comparison.runs import Run
from cct_lightning.config.recipes import linked_options, merged, nested
from cct_lightning.config.resolved import ResolvedConfig
from cct_lightning.errors import InputError
from cct_lightning.system.atomic import write_json
from cct_lightning.system.places import cache_root

_STATUS = {"crashed": "interrupted", "killed": "interrupted", "preempted": "interrupted", "pending": "waiting"}
_PAGE = 100  # runs of one answer


def fetch_runs(project: str, *, group: str | None = None) -> list[Run]:
    """Read the training runs of a project, those of `cct test` left out.

    Args:
        project: ENTITY/PROJECT, or ENTITY/PROJECT/SWEEP for the runs of a sweep.
        group: Only the runs of this group.

    Raises:
        InputError: No such project, no login, or no answer.
    """
    entity, _, name = project.partition("/")
    name, _, sweep = name.partition("/")
    if not entity or not name or "/" in sweep or project.endswith("/"):
        raise InputError(f"{project!r} is no W&B project: give ENTITY/PROJECT, or ENTITY/PROJECT/SWEEP.")

    wanted: list[dict[str, Any]] = [{"jobType": {"$ne": "test"}}]
    wanted += [{"group": group}] if group else []
    wanted += [{"sweep": sweep}] if sweep else []
    with wandb_answers(f"Cannot read the W&B project {project}"):
        records = _records(f"{entity}/{name}", wanted)
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


def _records(project: str, wanted: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return what `to_run` takes of each run; options and results are fetched of those that may have changed."""
    import wandb

    api = wandb.Api()
    kept = _Kept(project)
    found = [
        {"id": run.id, "name": run.name, "state": run.state, "at": run.heartbeat_at}
        for run in api.runs(project, filters={"$and": wanted}, per_page=_PAGE)
    ]
    new = [record["id"] for record in found if not kept.has(record)]
    for first in range(0, len(new), _PAGE):
        some = {"name": {"$in": new[first : first + _PAGE]}}
        for run in api.runs(project, filters=some, per_page=_PAGE, lazy=False):
            # Without pictures and tables, which are mappings of a kind of their own.
            values = {key: value for key, value in run.summary.items() if isinstance(value, str | int | float)}
            kept.runs[run.id] = {"at": run.heartbeat_at, "config": run.config, "summary": values}
    if new:
        kept.write(but={record["id"] for record in found if record["state"] != "finished"})
    return [{**record, **kept.runs[record["id"]]} for record in found if record["id"] in kept.runs]


class _Kept:
    # Finished runs of a project on this machine, by their id and when the server last heard of them.
    def __init__(self, project: str) -> None:
        self.path: Path = cache_root() / "wandb" / f"{project.replace('/', '--')}.json"
        try:
            self.runs: dict[str, Any] = json.loads(self.path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            self.runs = {}

    def has(self, record: Mapping[str, Any]) -> bool:
        return self.runs.get(record["id"], {}).get("at", "") == record["at"]

    def write(self, *, but: set[str]) -> None:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            write_json(self.path, {ident: run for ident, run in self.runs.items() if ident not in but})
        except OSError:
            pass  # asked for again the next time


def to_run(record: Mapping[str, Any]) -> Run:
    """Turn a record of the API, with `name`, `state`, `config` and `summary`, into a run."""
    options: dict[str, Any] = {}
    linked: dict[str, dict[str, Any]] = {}
    # What a sweep has set is there by its dotted name, too, and alone where the run did not get to say more.
    for key, value in sorted(record["config"].items(), key=lambda item: "." not in item[0]):
        if set_by_it := _linked(key, value):
            linked[key] = {"name": str(value["name"]), "options": list(set_by_it)}
        elif not key.startswith("_"):
            options = merged(options, nested(key, value))
    try:
        config = ResolvedConfig.resolve(options, stored=True)
    except InputError:  # of another project's own making
        config = ResolvedConfig(options)
    state = record["state"]
    summary = {key: value for key, value in record["summary"].items() if not key.startswith("_")}
    # W&B knows of the exit code alone; our own status also tells whether it was tested, or stopped by a signal.
    said = str(summary.get("status", state))
    status = said if state == "finished" or said == "interrupted" else _STATUS.get(state, state)
    return Run(
        name=record["name"],
        status=status,
        reason=str(summary.get("reason", "")) if status == "failed" else "",
        config=config,
        summary=summary,
        linked=linked,
    )


def _linked(key: str, value: Any) -> dict[str, Any] | None:
    """Return the options of a sweep's linked choice, which the run's config has by themselves, too."""
    try:
        return linked_options(key, value)
    except InputError:  # a mapping of another project's own making
        return None
