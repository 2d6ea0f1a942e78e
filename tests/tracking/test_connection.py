"""Whether a run can be online, and what becomes of one whose server refuses it or goes away: nothing is lost."""

import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import wandb
from wandb_server import WandbServer

from cct_lightning.config.resolved import ResolvedConfig
from cct_lightning.config.tracking import Tracking
from cct_lightning.errors import InputError
from cct_lightning.tracking.connection import wandb_mode
from cct_lightning.tracking.shield import ShieldedWandbLogger
from cct_lightning.tracking.wandb_logger import claim_run_id, wandb_logger

CONFIG = ResolvedConfig.resolve({"model": {"arch": "cct_2_3x2"}, "data": {"name": "digits"}})


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[WandbServer]:
    """A server that this process is logged in to."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("WANDB_MODE")
    with WandbServer() as found:
        for key, value in found.environment().items():
            monkeypatch.setenv(key, value)
        yield found
        wandb.teardown()  # what it knows of this server


def begin(run_dir: Path, mode: str = "online") -> ShieldedWandbLogger:
    logger = wandb_logger(run_dir, Tracking(), mode=mode, config=CONFIG, job_type="fit")
    run_dir.mkdir(exist_ok=True)
    claim_run_id(logger, run_dir)
    logger.log_metrics({"val/acc": 0.5, "epoch": 0}, step=1)
    return logger


def upload(command: str, server: WandbServer) -> None:
    """Type a command that was printed."""
    words = shlex.split(command)
    assert words[:2] == ["wandb", "sync"]
    done = subprocess.run([sys.executable, "-m", *words], capture_output=True, text=True, env=server.environment())
    assert done.returncode == 0, done.stderr


def epochs(server: WandbServer) -> list[int]:
    [run] = server.runs.values()
    assert run["state"] == "finished"
    return [row["epoch"] for row in run["history"]]


def test_an_online_run_says_where_it_is(
    server: WandbServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert wandb_mode("auto") == ("online", "")
    logger = begin(tmp_path / "run")
    [run] = server.runs.values()
    address = f"{server.url}/team/cct_lightning/runs/{run['name']}"
    assert capsys.readouterr().out == f"W&B run {address}\n"
    assert logger.finish() == ("W&B run", address)
    assert epochs(server) == [1]
    assert server.unknown == []


@pytest.mark.parametrize(
    ("refuse", "why"),
    [(401, "the key is refused, 401"), (403, "the project is refused, 403"), (None, "its server does not answer")],
)
def test_a_run_that_is_refused_goes_on_offline(
    refuse: int | None,
    why: str,
    server: WandbServer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("WANDB_INIT_TIMEOUT", "15" if refuse is None else "90")
    run_dir = tmp_path / "läuft hier"
    server.refuse = refuse
    if refuse is None:
        server.stop()
        assert wandb_mode("auto") == ("offline", "its server does not answer")
    logger = begin(run_dir)
    said = capsys.readouterr().out
    assert said.startswith(f"W&B is offline ({why}")
    found = logger.finish()
    assert found is not None
    assert found[0] == "W&B run, to upload"
    assert said.endswith(f": upload later with {found[1]}\n")
    assert not logger.is_online
    server.refuse = None
    if refuse is None:
        server.start()
    upload(found[1], server)
    assert epochs(server) == [1]
    assert server.runs.keys() == {(run_dir / "wandb" / "run_id").read_text().strip()}


def test_a_server_that_goes_away_in_the_middle(
    server: WandbServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_FINISH_TIMEOUT", "1")
    logger = begin(tmp_path / "run")
    server.stop()
    logger.log_metrics({"val/acc": 0.7, "epoch": 1}, step=2)
    found = logger.finish()
    assert found is not None
    assert found[0] == "W&B did not take it all"
    server.start()
    upload(found[1].removeprefix("upload the rest with "), server)
    assert epochs(server) == [1, 2]


def test_both_parts_of_a_run_that_was_continued_offline_are_uploaded(server: WandbServer, tmp_path: Path) -> None:
    begin(tmp_path / "run", "offline").finish()
    found = begin(tmp_path / "run", "offline").finish()
    assert found is not None
    assert found[1].count("offline-run-") == 2
    upload(found[1], server)
    assert epochs(server) == [1, 1]


def test_the_server_is_asked_through_the_proxy(server: WandbServer, monkeypatch: pytest.MonkeyPatch) -> None:
    for key in ("HTTP_PROXY", "http_proxy", "NO_PROXY", "no_proxy"):
        monkeypatch.delenv(key, raising=False)
    monkeypatch.setenv("WANDB_BASE_URL", "http://wandb.invalid")
    monkeypatch.setenv("WANDB_HTTP_PROXY", server.url)
    assert wandb_mode("auto") == ("online", "")
    monkeypatch.delenv("WANDB_HTTP_PROXY")
    monkeypatch.setenv("http_proxy", server.url)
    assert wandb_mode("auto") == ("online", "")
    assert server.operations == 2 * ["GET http://wandb.invalid/graphql"]
    server.stop()
    assert wandb_mode("auto") == ("offline", "its server does not answer")
    server.start()


def test_a_variable_that_is_set_to_nothing_is_not_set(
    server: WandbServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_MODE", "")
    assert wandb_mode("auto") == ("online", "")
    assert begin(tmp_path / "run").finish()


def test_a_project_that_cannot_be_is_one_sentence() -> None:
    with pytest.raises(InputError, match=r"tracking.project is 'a/b': W&B takes no '/'"):
        Tracking(project="a/b")
