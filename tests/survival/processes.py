"""Real runs of `cct fit` in processes of their own: started, watched, ended in every way, compared."""

import csv
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from warm import WarmProcess, fits, warm_environment

Process = subprocess.Popen[bytes] | WarmProcess
TESTS = str(Path(__file__).resolve().parents[1])
# For PYTHONPATH: classes that a run is given by their path; what is there already stays.
PATH = os.pathsep.join(filter(None, [TESTS, os.environ.get("PYTHONPATH", "")]))
# Small, with everything that a resume could get wrong: dropout, stochastic depth, an average, a schedule, mixing.
SMALL = [
    *("--config", "digits", "--model.embed_dim", "32", "--trainer.max_epochs", "4", "--trainer.log_every_n_steps", "1"),
    *("--trainer.accelerator", "cpu", "--tracking.media_every_n_epochs", "0"),  # runs are compared bit by bit
    *("--data.batch_size", "128", "--data.augment", "light", "--model.optim.warmup_epochs", "0.5"),
    *("--model.attn_drop", "0.1", "--model.drop_path_rate", "0.1", "--model.proj_drop", "0.1"),
    *("--model.ema_decay", "0.9"),
]
# Of several processes: two epochs of ten steps, without dropout, which each process draws for itself.
TWENTY_STEPS = [
    *("--config", "digits", "--model.embed_dim", "32", "--trainer.max_epochs", "2", "--trainer.log_every_n_steps", "1"),
    *("--trainer.accelerator", "cpu", "--tracking.media_every_n_epochs", "0"),
    *("--data.global_batch_size", "128", "--data.augment", "light"),
]
# What differs between two runs of the same thing.
CLOCKS = ("train/images_per_s", "train/memory_gb")


def start(folder: Path, *args: str, log: str = "log.txt", **environment: str) -> Process:
    """Start `cct fit` in a session of its own; its output goes to a file."""
    variables = warm_environment(**environment)
    if fits(variables):
        return WarmProcess(["fit", *args], cwd=folder, output=folder / log, environment=variables)
    with (folder / log).open("ab") as output:
        return subprocess.Popen(
            [sys.executable, "-m", "cct_lightning", "fit", *args],
            cwd=folder,
            stdout=output,
            stderr=output,
            stdin=subprocess.DEVNULL,
            env=variables,
            start_new_session=True,
        )


def fit(folder: Path, *args: str, code: int = 0, log: str = "log.txt", **environment: str) -> str:
    """Run `cct fit` to its end, see that it ends with this code, and return what it printed."""
    found = end(start(folder, *args, log=log, PYTHONPATH=PATH, **environment), 0)
    text = (folder / log).read_text()
    assert found == code, text[-3000:]
    return text


def wait_until(done: Callable[[], bool], process: Process, timeout: float = 600) -> bool:
    """Wait until something is so; False when the process ended first."""
    deadline = time.monotonic() + timeout
    while not done():
        if process.poll() is not None:
            return False
        if time.monotonic() > deadline:
            end(process, signal.SIGKILL)
            raise TimeoutError("waited in vain")
        time.sleep(0.002)
    return True


def end(process: Process, number: int, timeout: float = 600) -> int:
    """Send a signal to a process, wait for its end, and see that nothing of it is left; return its exit code."""
    if number == signal.SIGKILL:
        os.killpg(process.pid, number)
    elif process.poll() is None:
        process.send_signal(number)
    try:
        return process.wait(timeout)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def metrics(run: Path) -> list[dict[str, str]]:
    """Read metrics.csv without clocks."""
    with (run / "metrics.csv").open(newline="") as file:
        return [{k: v for k, v in row.items() if k not in CLOCKS} for row in csv.DictReader(file)]


def checkpoint(path: Path) -> dict[str, Any]:
    """Load a checkpoint."""
    return torch.load(path, weights_only=True)


def without_ends_of_epochs(run: Path) -> list[dict[str, str]]:
    """Read metrics.csv without clocks and without the rows that sum up an epoch."""
    return [row for row in metrics(run) if not row["train/loss"]]


def assert_same_run(a: Path, b: Path, rows: Callable[[Path], list[dict[str, str]]] = metrics) -> None:
    """Compare two run folders: weights, average, optimizer, schedule and progress bit by bit, and every metric."""
    one, two = checkpoint(a / "last.ckpt"), checkpoint(b / "last.ckpt")
    for key in ("state_dict", "current_model_state", "averaging_state", "optimizer_states", "lr_schedulers"):
        _assert_same(one.get(key), two.get(key), key)
    assert one["global_step"] == two["global_step"]
    assert one["epoch"] == two["epoch"]
    best = checkpoint(a / "best.ckpt"), checkpoint(b / "best.ckpt")
    _assert_same(best[0]["state_dict"], best[1]["state_dict"], "best.ckpt")
    assert rows(a) == rows(b)


def _assert_same(one: Any, two: Any, name: str) -> None:
    assert type(one) is type(two), name
    if isinstance(one, torch.Tensor):
        assert torch.equal(one, two), name
    elif isinstance(one, dict):
        assert one.keys() == two.keys(), name
        for key in one:
            _assert_same(one[key], two[key], f"{name}.{key}")
    elif isinstance(one, list | tuple):
        assert len(one) == len(two), name
        for index, pair in enumerate(zip(one, two, strict=True)):
            _assert_same(*pair, f"{name}.{index}")
    else:
        assert one == two, name
