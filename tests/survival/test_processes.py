"""Several processes: the same training as one, every test image once, one writer, and an end when one of them fails."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from survival.processes import (
    PATH,
    TWENTY_STEPS,
    assert_same_run,
    checkpoint,
    end,
    fit,
    metrics,
    start,
    wait_until,
)
from warm import python, warm_environment

from cct_lightning.commands import failures
from cct_lightning.errors import InputError

pytestmark = pytest.mark.slow

COMMON = [
    *TWENTY_STEPS,
    *("--model.optim.warmup_epochs", "0.5", "--model.ema_decay", "0.9"),
]
TWO = ["--trainer.devices", "2", "--trainer.strategy", "ddp"]


def witness(folder: str, **options: Any) -> list[str]:
    """Options that add the witness."""
    options["folder"] = folder
    words = ["--trainer.callbacks+=survival.witness.Witness"]
    return [*words, *(f"--trainer.callbacks.{key}={value}" for key, value in options.items())]


def read(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(path.read_text()) for path in sorted(folder.glob("*.json"))]


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same run on one process and on two."""
    folder = tmp_path_factory.mktemp("processes")
    fit(folder, *COMMON, *witness("saw1"), "--run_dir", "one", "--tracking.mode", "disabled", log="1.txt")
    fit(folder, *COMMON, *TWO, *witness("saw2"), "--run_dir", "two", log="2.txt")
    return folder


def test_two_processes_train_as_one(both: Path) -> None:
    (one,), (first, second) = read(both / "saw1"), read(both / "saw2")
    assert len(one["losses"]) == len(first["losses"]) == 20
    for step in range(20):
        assert sorted(first["trained"][step] + second["trained"][step]) == sorted(one["trained"][step])
        assert not set(first["trained"][step]) & set(second["trained"][step])
        mean = (first["losses"][step] + second["losses"][step]) / 2
        assert mean == pytest.approx(one["losses"][step], rel=1e-5), f"step {step}"


def test_metrics_are_those_of_all_images(both: Path) -> None:
    one, two = metrics(both / "one"), metrics(both / "two")
    # The order of sums differs, and with it the last digit of the weights: an image on the border may change sides.
    for name, tolerance in {"train/loss": 1e-5, "val/loss": 1e-4, "test/loss": 1e-4, "test/acc": 0.02}.items():
        values = [[float(row[name]) for row in rows if row[name]] for rows in (one, two)]
        assert len(values[0]) == (1 if name.startswith("test") else 2)
        assert values[0] == pytest.approx(values[1], rel=tolerance), name


def test_every_test_image_counts_once(both: Path) -> None:
    (one,), (first, second) = read(both / "saw1"), read(both / "saw2")
    assert len(first["tested"]) == 180
    assert len(second["tested"]) == 179
    assert sorted(first["tested"] + second["tested"]) == sorted(one["tested"])
    assert len(set(one["tested"])) == 359


def test_the_first_process_alone_writes(both: Path) -> None:
    names = [{path.name for path in (both / run).iterdir()} - {"wandb"} for run in ("one", "two")]
    assert names[0] == names[1]
    assert len(list((both / "two" / "wandb").glob("offline-run-*"))) == 1
    steps = [row["step"] for row in metrics(both / "two") if row["train/loss_step"]]
    assert steps == [str(step) for step in range(20)]
    assert (both / "2.txt").read_text().count("test accuracy") == 1


def test_two_processes_stop_and_continue(both: Path, tmp_path: Path) -> None:
    words = [*COMMON, *TWO, "--run_dir", "parts", "--tracking.mode", "disabled"]
    process = start(tmp_path, *words, "--save_every_minutes", "0", log="stopped.txt")
    # They talk about signals, and save here, every five steps.
    assert wait_until(lambda: (tmp_path / "parts" / "last.ckpt").exists(), process)
    assert end(process, signal.SIGTERM) == 143, (tmp_path / "stopped.txt").read_text()[-3000:]
    assert "Stopped by SIGTERM" in (tmp_path / "stopped.txt").read_text()
    assert checkpoint(tmp_path / "parts" / "last.ckpt")["global_step"] in (10, 15)
    fit(tmp_path, *words)
    assert_same_run(both / "two", tmp_path / "parts")


def somebody_of(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.mark.parametrize(("how", "said"), [("raise", "the witness fails as it was told to"), ("kill", "has ended")])
def test_a_failing_process_ends_the_run(how: str, said: str, tmp_path: Path) -> None:
    words = [*COMMON, *TWO, *witness("saw", fail_at=3, how=how), "--tracking.mode", "disabled"]
    # The other rank is a process of Python's own start, in the session of the first, which is looked through below.
    process = start(tmp_path, *words, "--run_dir", "run", PYTHONPATH=PATH, WARM_PYTHON=sys.executable)
    code = end(process, 0)
    text = (tmp_path / "log.txt").read_text()
    assert code != 0, text
    assert said in text
    # Nobody is left behind; it takes the system a moment to bury the dead.
    deadline = time.monotonic() + 600
    while somebody_of(process.pid):
        assert time.monotonic() < deadline
        time.sleep(0.1)


@pytest.mark.parametrize(("rank", "waits"), [(0, False), (1, True)])
def test_what_fails_in_all_processes_is_said_once(rank: int, waits: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """The others wait before they say it, and are ended meanwhile by the launcher of the first."""
    waited: list[float] = []
    monkeypatch.setattr(failures.rank_zero_only, "rank", rank)
    monkeypatch.setattr(failures.time, "sleep", waited.append)
    with pytest.raises(InputError, match="wrong"), failures.exit_on_known_errors("fit"):
        raise InputError("wrong")
    assert bool(waited) == waits
    assert sum(waited) < 30


def torchrun(folder: Path, *options: str, words: list[str]) -> "subprocess.Popen[bytes]":
    with (folder / f"log{len(list(folder.glob('log*')))}.txt").open("wb") as log:
        return subprocess.Popen(
            [python(), "-m", "torch.distributed.run", *options, "-m", "cct_lightning", "fit", *words],
            cwd=folder,
            stdout=log,
            stderr=log,
            env=warm_environment(PYTHONPATH=PATH),
        )


@pytest.fixture
def port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def said(folder: Path) -> str:
    return "".join(path.read_text()[-3000:] for path in sorted(folder.glob("log*")))


LATE = """
import os, time
from pytorch_lightning import Callback

class Late(Callback):
    def __init__(self):
        if (os.environ["RANK"], os.environ["TORCHELASTIC_RESTART_COUNT"]) == ("0", "1"):
            time.sleep(5)
"""


def test_torchrun_starts_again_what_has_failed(both: Path, port: int, tmp_path: Path) -> None:
    """Without `--trainer.devices` the two processes train one model; from last.ckpt, as if nothing had been."""
    words = [*COMMON, *witness("saw", fail_at=13, how="once"), "--tracking.mode", "disabled"]
    # After the restart the first process comes late: the other must wait for its address, not take the old one.
    (tmp_path / "late.py").write_text(LATE)
    words += ["--trainer.callbacks+=late.Late"]
    launcher = torchrun(tmp_path, "--nproc_per_node=2", "--max-restarts=1", f"--master_port={port}", words=words)
    assert launcher.wait(300) == 0, said(tmp_path)
    (run,) = tmp_path.glob("runs/*/*")
    assert "continued from last.ckpt" in said(tmp_path)
    assert_same_run(both / "two", run)


def test_processes_started_by_hand_train_one_model(port: int, tmp_path: Path) -> None:
    words = [*COMMON, *witness("saw"), "--trainer.max_epochs", "1", "--tracking.mode", "disabled", "--run_dir", "run"]
    world = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "PYTHONPATH": PATH}
    processes = [
        start(tmp_path, *words, log=f"log{rank}.txt", RANK=str(rank), LOCAL_RANK=str(rank), **world) for rank in (0, 1)
    ]
    assert [process.wait(600) for process in processes] == [0, 0], said(tmp_path)
    assert sorted(len(seen["tested"]) for seen in read(tmp_path / "saw")) == [179, 180]
    assert said(tmp_path).count("test accuracy") == 1


def test_torchrun(port: int, tmp_path: Path) -> None:
    words = [*COMMON, *witness("saw"), "--trainer.max_epochs", "1", "--tracking.mode", "disabled"]
    launcher = torchrun(tmp_path, "--nproc_per_node=2", f"--master_port={port}", words=words)
    assert launcher.wait(600) == 0, said(tmp_path)
    assert len(list(tmp_path.glob("runs/*/*"))) == 1, "both processes agree on the folder"
    assert sum(len(seen["tested"]) for seen in read(tmp_path / "saw")) == 359


def test_two_nodes(port: int, tmp_path: Path) -> None:
    words = [*COMMON, *witness("saw"), "--trainer.max_epochs", "1", "--tracking.mode", "disabled", "--run_dir", "run"]
    place = ["--nnodes=2", "--nproc_per_node=1", "--master_addr=127.0.0.1", f"--master_port={port}"]
    nodes = [torchrun(tmp_path, *place, f"--node_rank={rank}", words=words) for rank in (0, 1)]
    assert [node.wait(600) for node in nodes] == [0, 0], said(tmp_path)
    assert sorted(len(seen["tested"]) for seen in read(tmp_path / "saw")) == [179, 180]
    assert said(tmp_path).count("test accuracy") == 1
