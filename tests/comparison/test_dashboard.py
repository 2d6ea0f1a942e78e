"""The W&B workspace and report of an ablation, built offline and checked as W&B would store them."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import wandb
import yaml

from cct_lightning.analysis import pictures
from cct_lightning.commands.dashboard import dashboard
from cct_lightning.errors import InputError
from cct_lightning.tracking.seen import Seen
from cct_lightning.tracking.wandb_media import wandb_media

pytest.importorskip("wandb_workspaces", reason="not installed: pip install 'cct_lightning[dashboard]'")

from cct_lightning.comparison.dashboard import PICTURES


@pytest.fixture
def spec(capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    dashboard("team/project", ablation="tokenizer_x_pool", dry_run=True)
    return json.loads(capsys.readouterr().out)


def test_the_workspace_groups_the_runs_of_the_ablation(spec: dict[str, Any]) -> None:
    [runs] = spec["workspace"]["spec"]["section"]["runSets"]
    assert {f["key"]["name"]: f["value"] for f in runs["filters"]["filters"]} == {
        "group": "tokenizer_x_pool",
        "jobType": "fit",
    }
    assert [group["name"] for group in runs["grouping"]] == ["model.value.arch", "model.value.pool"]
    assert "config:model.value.pool" in runs["runFeed"]["columnPinned"]
    panels = {
        section["name"]: [panel["viewType"] for panel in section["panels"]]
        for section in spec["workspace"]["spec"]["section"]["panelBankConfig"]["sections"]
    }
    assert panels["Learning curves"] == ["Run History Line Plot"] * 3
    assert panels["Results"] == ["Bar Chart", "Parallel Coordinates Plot", "Parameter Importance"]
    assert panels["Pictures"] == ["Media Browser"] * 4


def test_the_report_has_all_parts(spec: dict[str, Any]) -> None:
    panels = [panel for block in spec["report"]["blocks"] for panel in block.get("panels", [])]
    assert [panel["viewType"] for panel in panels] == [
        "Bar Chart", *["Run History Line Plot"] * 3,
        "Parallel Coordinates Plot", "Parameter Importance", "Run Comparer",
    ]  # fmt: skip
    bars, curve = panels[0]["config"], panels[1]["config"]
    assert (bars["groupAgg"], bars["groupArea"], bars["metrics"]) == ("mean", "stddev", ["summary_metrics.test/acc"])
    assert (curve["groupAgg"], curve["groupArea"], curve["xAxis"]) == ("mean", "stddev", "epoch")
    columns = [column["displayName"] for column in panels[4]["config"]["columns"]]
    assert columns == ["model.arch", "model.pool", "seed_everything", "test/acc"]


def test_pictures_are_asked_for_by_the_keys_that_runs_log() -> None:
    """W&B stores its own chart of the confusion as the table behind it."""
    label = np.array([0, 1, 1])
    seen = Seen(
        stage="val", classes=["a", "b"], label=label, predicted=label, prob=np.ones(3, dtype=np.float32),
        mistakes=None, images=np.zeros((1, 1, 8, 8), dtype=np.uint8), drawn={},
    )  # fmt: skip
    charts = (wandb.plot.CustomChart,)
    logged = {f"{key}_table" if isinstance(value, charts) else key for key, value in wandb_media(seen).items()}
    logged |= {name if "/" in name else f"val/{name}" for name in pictures.PICTURES}
    assert set(PICTURES) <= logged


def test_a_search_has_a_dashboard(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sweep = {
        "program": "cct",
        "command": ["${env}", "${program}", "fit", "--config=digits", "${args}"],
        "method": "bayes",
        "metric": {"name": "val/acc", "goal": "maximize"},
        "parameters": {
            "model.optim.lr": {"distribution": "log_uniform_values", "min": 1e-4, "max": 1e-2},
            "model.pool": {"values": ["mean", "seqpool"]},
            "tracking.group": {"value": "search"},
        },
    }
    (tmp_path / "search.yaml").write_text(yaml.safe_dump(sweep))
    dashboard("team/project", ablation=str(tmp_path / "search.yaml"), dry_run=True)
    found = json.loads(capsys.readouterr().out)
    [runs] = found["workspace"]["spec"]["section"]["runSets"]
    assert runs["grouping"] == [], "no two runs are of one variant"
    assert "search" in [part["value"] for part in runs["filters"]["filters"]]
    panels = [panel for block in found["report"]["blocks"] for panel in block.get("panels", [])]
    assert [panel["viewType"] for panel in panels].count("Scatter Plot") == 2
    (tmp_path / "search.yaml").write_text(yaml.safe_dump({**sweep, "parameters": ["lr"]}))
    with pytest.raises(InputError, match="has no parameters"):
        dashboard("team/project", ablation=str(tmp_path / "search.yaml"), dry_run=True)


def test_bad_input(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    for project in ("project", "a/b/c", "/b"):
        with pytest.raises(InputError, match="ENTITY/PROJECT"):
            dashboard(project, ablation="ladder", dry_run=True)
    with pytest.raises(InputError, match="Did you mean"):
        dashboard("a/b", ablation="lader", dry_run=True)
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "none"))
    with pytest.raises(InputError, match="wandb login"):
        dashboard("a/b", ablation="ladder")
