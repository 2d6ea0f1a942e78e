"""`wandb sweep` and `wandb agent`, the real client in its own processes, against a stand-in of W&B's server."""

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml
from wandb_server import ENTITY, WandbServer
from warm import warm_environment

from cct_lightning.comparison.variants import compare_runs
from cct_lightning.comparison.wandb_runs import fetch_runs

pytestmark = pytest.mark.slow

EPOCHS = 2
# An own part, which waits in the second epoch for as long as there is a file `hold`.
MINE = """
import time
from pathlib import Path
from cct_lightning.models.pooling import Pooling

class Patient(Pooling):
    def forward(self, tokens):
        while Path("hold").exists() and list(Path("runs").glob("*/*/last.ckpt")):
            time.sleep(0.05)
        return tokens.mean(1)
"""
SWEEP = {
    "program": "cct",
    "command": ["${env}", "${program}", "fit", "--config=digits", "${args}"],
    "method": "grid",
    "project": "mine",
    "parameters": {
        "model.pool": {"values": ["my_lab.Patient", "class_token"]},
        "seed_everything": {"values": [0, 1]},
        "trainer.max_epochs": {"value": EPOCHS},
        "trainer.limit_train_batches": {"value": 2},
        "trainer.log_every_n_steps": {"value": 1},
        "model.optim.warmup_epochs": {"value": 1},
        "tracking.media_every_n_epochs": {"value": 0},
        "tracking.artifacts": {"value": False},
        "tracking.group": {"value": "small"},
    },
}


def wait_until(condition: Callable[[], Any]) -> None:
    """Wait, however slow the machine is."""
    deadline = time.monotonic() + 600
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.1)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A server with a sweep of four runs, whose first agent was killed and whose first run was preempted."""
    folder = tmp_path_factory.mktemp("sweep")
    (folder / "my_lab.py").write_text(MINE)
    (folder / "hold").touch()
    (folder / "grid.yaml").write_text(yaml.safe_dump(SWEEP, sort_keys=False))
    with WandbServer() as server:
        variables = warm_environment(server.environment(HOME=str(folder)))

        wandb_command = Path(sys.executable).with_name("wandb")

        def wandb(*words: str) -> "subprocess.Popen[bytes]":
            with (folder / "log.txt").open("a") as log:
                return subprocess.Popen([wandb_command, *words], cwd=folder, env=variables, stdout=log, stderr=log)

        assert wandb("sweep", "grid.yaml").wait(300) == 0
        [sweep] = server.sweeps
        agent = wandb("agent", f"{ENTITY}/mine/{sweep}")
        wait_until(lambda: agent.poll() is not None or list(folder.glob("runs/*/*/last.ckpt")))
        [run] = psutil.Process(agent.pid).children()[-1:]
        agent.kill()
        run.send_signal(signal.SIGTERM)
        (folder / "hold").unlink()
        wait_until(lambda: [found for found in server.runs.values() if found["state"] == "preempted"])
        assert wandb("agent", f"{ENTITY}/mine/{sweep}").wait(600) == 0
        server.folder = folder  # type: ignore[attr-defined]
        yield server


def test_four_runs_end_finished(server: Any) -> None:
    runs = list(server.runs.values())
    assert [(run["state"], run["sweepName"], run["group"], run["jobType"]) for run in runs] == 4 * [
        ("finished", "sweep1", "small", "fit")
    ]
    options = [{key: entry["value"] for key, entry in run["config"].items()} for run in runs]
    found = sorted((config["model"]["pool"], config["seed_everything"]) for config in options)
    assert found == [("class_token", 0), ("class_token", 1), ("my_lab.Patient", 0), ("my_lab.Patient", 1)]
    assert server.unknown == []


def test_the_run_of_a_killed_agent_continues(server: Any) -> None:
    first = next(iter(server.runs.values()))
    log = (server.folder / "log.txt").read_text()
    assert log.count(", continued from last.ckpt") == 1
    epochs = [row["epoch"] for row in first["history"] if "val/acc" in row]
    assert epochs == list(range(1, EPOCHS + 1))


def test_runs_are_in_the_users_folder(server: Any) -> None:
    folders = {path.parent.name for path in server.folder.glob("runs/*/*/summary.json")}
    assert len(folders) == 4
    assert all(name.startswith("sweep1-run") for name in folders)
    assert "was locked by 'sweep'" not in (server.folder / "log.txt").read_text()


def test_the_sweep_is_compared(server: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for key, value in server.environment(XDG_CACHE_HOME=str(tmp_path)).items():
        monkeypatch.setenv(key, value)
    monkeypatch.delenv("WANDB_MODE", raising=False)
    server.UpsertBucket({"name": "test", "project": "mine", "jobType": "test", "groupName": "small"})
    server.UpsertBucket({"name": "other", "project": "mine", "jobType": "fit"})
    runs = fetch_runs(f"{ENTITY}/mine/sweep1")
    comparison = compare_runs(runs, by=["model.pool"])
    assert {variant.name for variant in comparison.variants} == {"pool=class_token", "pool=my_lab.Patient"}
    assert [len(variant.results) for variant in comparison.variants] == [2, 2]
    # What has finished is not asked for again.
    before = len(server.operations)
    assert [run.summary for run in fetch_runs(f"{ENTITY}/mine/sweep1")] == [run.summary for run in runs]
    assert server.operations[before:].count("Runs") == 1
    names = {run.name for run in fetch_runs(f"{ENTITY}/mine")}
    assert len(fetch_runs(f"{ENTITY}/mine")) == 5, "all but `cct test`"
    assert "test" not in names
    assert len(fetch_runs(f"{ENTITY}/mine", group="small")) == 4
    [kept] = (tmp_path / "cct_lightning" / "wandb").iterdir()
    assert len(json.loads(kept.read_text())) == 4, "only what has finished"
