"""wandb's environment variables say what the options leave open; options win."""

from pathlib import Path

import pytest

from cct_lightning.compat import wandb_init_options
from cct_lightning.config.resolved import ResolvedConfig
from cct_lightning.config.tracking import Tracking
from cct_lightning.tracking.wandb_logger import claim_run_id, finish_wandb, wandb_logger

CONFIG = ResolvedConfig.resolve({"model": {"arch": "cct_2_3x2"}, "data": {"name": "digits"}})
VARIABLES = {
    "WANDB_PROJECT": "theirs", "WANDB_ENTITY": "lab", "WANDB_NAME": "long-night", "WANDB_TAGS": "a,b",
    "WANDB_NOTES": "warm", "WANDB_RUN_GROUP": "sweep", "WANDB_JOB_TYPE": "debug", "WANDB_RUN_ID": "abc123",
}  # fmt: skip


def init_options(tmp_path: Path, tracking: Tracking) -> dict[str, object]:
    return wandb_init_options(wandb_logger(tmp_path, tracking, mode="offline", config=CONFIG, job_type="fit"))


def test_variables_are_heeded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for key, value in VARIABLES.items():
        monkeypatch.setenv(key, value)
    logger = wandb_logger(tmp_path, Tracking(), mode="offline", config=CONFIG, job_type="fit")
    claim_run_id(logger, tmp_path)
    run = logger.experiment
    found = (run.project, run.entity, run.name, run.notes, run.group, run.job_type, run.id)
    finish_wandb([logger])
    assert found == ("theirs", "lab", "long-night", "warm", "sweep", "debug", "abc123")
    assert run.tags == (*CONFIG.tags, "a", "b")


def test_options_win_over_variables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for key, value in VARIABLES.items():
        monkeypatch.setenv(key, value)
    ours = Tracking(project="mine", entity="me", name="short", tags=["c"], group="grid")
    found = init_options(tmp_path, ours)
    assert [found[key] for key in ("project", "entity", "name", "group")] == ["mine", "me", "short", "grid"]
    assert found["tags"] == [*CONFIG.tags, "c"]


def test_without_variables_the_configuration_names_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for key in VARIABLES:
        monkeypatch.setenv(key, "")  # set to nothing is not set
    found = init_options(tmp_path, Tracking())
    assert (found["project"], found["name"], found["job_type"]) == ("cct_lightning", CONFIG.name, "fit")
    assert found["tags"] == CONFIG.tags


@pytest.mark.parametrize(("value", "silent"), [("", True), ("false", False)])
def test_settings_of_ours_give_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, value: str, silent: bool) -> None:
    monkeypatch.setenv("WANDB_SILENT", value)
    settings = init_options(tmp_path, Tracking())["settings"]
    assert bool(getattr(settings, "silent", None)) == silent
