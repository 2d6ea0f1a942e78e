"""Faults of the machine while a run goes on: memory, workers, W&B's service. One sentence, or no harm at all."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from survival.processes import SMALL, end, metrics, start, wait_until
from warm import python

pytestmark = pytest.mark.slow

TESTS = str(Path(__file__).resolve().parents[1])


def _said(folder: Path) -> list[str]:
    text = (folder / "log.txt").read_text()
    assert "Traceback" not in text, text
    return [line for line in text.splitlines() if line.startswith("cct fit:")]


def test_out_of_memory(tmp_path: Path) -> None:
    words = ["--trainer.callbacks+=survival.witness.Witness", "--trainer.callbacks.folder=saw"]
    words += ["--trainer.callbacks.fail_at=3", "--trainer.callbacks.how=memory", "--tracking.mode", "disabled"]
    process = start(tmp_path, *SMALL, *words, "--run_dir", "run", PYTHONPATH=TESTS)
    assert end(process, 0) == 1
    (line,) = _said(tmp_path)
    assert "Out of memory: halve --data.batch_size and double --trainer.accumulate_grad_batches" in line


def test_a_killed_data_worker(tmp_path: Path) -> None:
    words = ["--data.num_workers", "1", "--trainer.max_epochs", "200", "--tracking.mode", "disabled"]
    process = start(tmp_path, *SMALL, *words, "--run_dir", "run")
    assert wait_until(lambda: (tmp_path / "run" / "last.ckpt").exists(), process)
    workers = [child for child in psutil.Process(process.pid).children(recursive=True) if child.num_threads() < 50]
    assert workers
    for worker in workers:
        worker.send_signal(signal.SIGKILL)
    assert end(process, 0) == 1
    (line,) = _said(tmp_path)
    assert "A process that loads data has died" in line


def _with_wandb(folder: Path, *words: str, logs: bool = True) -> "tuple[subprocess.Popen[bytes], list[psutil.Process]]":
    """Start a run with W&B; return it once W&B logs or is just there, and W&B's service, in a session of its own."""
    process = start(folder, *SMALL, *words, "--tracking.mode", "offline", "--run_dir", "run")
    services: list[psutil.Process] = []

    def found() -> bool:
        if logs and not list(folder.glob("run/wandb/offline-run-*/*.wandb")):
            return False
        try:
            children = psutil.Process(process.pid).children(recursive=True)
            services[:] = [child for child in children if "wandb" in child.name()]
        except psutil.NoSuchProcess:  # a short-lived child, gone between two looks
            return False
        return bool(services)

    assert wait_until(found, process), "wandb runs no service of its own any more"
    return process, services


@pytest.mark.parametrize("logs", [False, True])
def test_a_killed_wandb_service(logs: bool, tmp_path: Path) -> None:
    process, services = _with_wandb(tmp_path, "--trainer.max_epochs", "12", logs=logs)
    for service in services:
        service.send_signal(signal.SIGKILL)
    assert end(process, 0) == 0, (tmp_path / "log.txt").read_text()[-3000:]
    steps = [row["step"] for row in metrics(tmp_path / "run") if row["train/loss_step"]]
    assert steps == [str(step) for step in range(120)], "metrics.csv is complete"
    assert [row for row in metrics(tmp_path / "run") if row["test/acc"]]


def test_all_killed_at_once_keep_what_wandb_was_told(tmp_path: Path) -> None:
    # By itself, W&B writes to the disk every fifteen seconds, or 32 KiB.
    process, services = _with_wandb(tmp_path, "--trainer.max_epochs", "200", "--trainer.log_every_n_steps", "10")
    assert wait_until(lambda: (tmp_path / "run" / "last.ckpt").exists(), process)
    told = max(int(row["step"]) for row in metrics(tmp_path / "run"))
    deadline = time.monotonic() + 12  # W&B's own fifteen seconds are what this is about
    while _kept(tmp_path) < told and time.monotonic() < deadline:
        time.sleep(0.1)
    for service in services:
        service.send_signal(signal.SIGKILL)
    end(process, signal.SIGKILL)
    assert _kept(tmp_path) >= told


def _kept(folder: Path) -> int:
    """The last step in W&B's file."""
    (file,) = folder.glob("run/wandb/offline-run-*/*.wandb")
    command = [python(), "-m", "wandb", "leet", "inspect", "--json", str(file)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600)
    steps = re.findall(r'"trainer/global_step"[^0-9]*([0-9]+)', done.stdout.replace("\\", ""))
    return max(map(int, steps), default=-1)


# In a mount namespace of its own, which ends with the command.
ALONE = ["unshare", "--user", "--map-root-user", "--mount"]
SMALL_DISK = 'mount -t tmpfs -o size="$1" tmpfs "$2" && shift 2 && exec "$@"'
# No git there, either.
READ_ONLY = """
mount --bind "$1" "$1" && mount -o remount,ro,bind "$1" || exit 98
touch "$1/written" 2>/dev/null && exit 99
shift && PATH=/nonexistent && exec "$@"
"""


def _mounted(script: str, *words: str | Path, cwd: Path, **environment: str) -> "subprocess.CompletedProcess[str]":
    """Run `cct fit` after a script that mounts something; the script's own arguments come first, then `fit`."""
    at = words.index("fit")
    if shutil.which("unshare") is None or subprocess.run([*ALONE, "mount", "-t", "tmpfs", "x", cwd]).returncode:
        pytest.skip("this machine lets nobody mount anything")
    return subprocess.run(
        [*ALONE, "sh", "-c", script, "sh", *words[:at], sys.executable, "-m", "cct_lightning", *words[at:]],
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=600,
        env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
    )


@pytest.mark.parametrize("media", ["1", "0"])
def test_a_full_disk_under_wandb(media: str, tmp_path: Path) -> None:
    # Pictures fail where they are written; of the numbers, W&B's service does not tell that it lost them.
    words = ["--tracking.mode", "offline", "--tracking.media_every_n_epochs", media, "--run_dir", "run"]
    (tmp_path / "run" / "wandb").mkdir(parents=True)
    done = _mounted(SMALL_DISK, "80k", "run/wandb", "fit", *SMALL, *words, cwd=tmp_path)
    assert done.returncode == 0, done.stderr[-3000:]
    assert "Traceback" not in done.stdout + done.stderr
    assert (done.stdout + done.stderr).count("W&B is lost (No space left on device): training goes on") == 1
    steps = [row["step"] for row in metrics(tmp_path / "run") if row["train/loss_step"]]
    assert steps == [str(step) for step in range(40)], "metrics.csv is complete"
    assert [row for row in metrics(tmp_path / "run") if row["test/acc"]]


@pytest.mark.parametrize(("size", "said"), [("4k", "Cannot write"), ("64k", "Cannot save")])
def test_a_full_disk_under_the_run_folder(size: str, said: str, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    words = ["--run_dir", "run", "--tracking.mode", "disabled"]
    done = _mounted(SMALL_DISK, size, "run", "fit", *SMALL, *words, cwd=tmp_path)
    assert done.returncode == 1, done.stdout
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("cct fit:")]
    assert f"{said} {tmp_path}/run/" in line
    assert "No space left on device" in line
    assert "Traceback" not in done.stderr


def test_no_home_read_only_source_no_git_and_a_strange_path(tmp_path: Path) -> None:
    folder = tmp_path / "Übung mit Leerzeichen ✓"
    folder.mkdir()
    words = ["--config", "digits", "--trainer.max_epochs", "1", "--model.optim.warmup_epochs", "0"]
    unset = dict.fromkeys(("CCT_DATA", "XDG_CACHE_HOME", "WANDB_DATA_DIR", "NETRC"), "") | {"HOME": "/proc/nowhere"}
    source = Path(TESTS).parent
    done = _mounted(READ_ONLY, source, "fit", *words, "--run_dir", "läuft hier", cwd=folder, **unset)
    assert done.returncode == 0, done.stderr[-3000:]
    assert (folder / "läuft hier" / "best.ckpt").is_file()
    assert list(folder.glob("läuft hier/wandb/offline-run-*/*.wandb"))
    assert json.loads((folder / "läuft hier" / "environment.json").read_text())["git_commit"] is None
