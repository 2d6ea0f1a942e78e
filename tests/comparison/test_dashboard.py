"""The W&B workspace and report of an ablation, built offline and checked as W&B would store them."""

import json
from typing import Any

import pytest

from cct_lightning.commands.dashboard import dashboard
from cct_lightning.errors import InputError

pytest.importorskip("wandb_workspaces", reason="not installed: pip install 'cct_lightning[dashboard]'")


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
