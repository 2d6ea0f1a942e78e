"""A run that is killed again and again, also while it writes a checkpoint, ends as the one that was left alone.

CCT_TEST_KILLS sets how often it is killed (5 by default).
"""

import os
import random
import re
import signal
import subprocess
import time
from pathlib import Path

import psutil
import pytest
from survival.processes import SMALL, assert_same_run, end, metrics, start, wait_until

pytestmark = pytest.mark.slow

KILLS = int(os.environ.get("CCT_TEST_KILLS", "5"))


def _written(run: Path) -> int:
    path = run / "last.ckpt"
    return path.stat().st_mtime_ns if path.exists() else 0


def _stopped_in_writing(run: Path, process: "subprocess.Popen[bytes]") -> bool:
    """Stop a run while it writes a checkpoint, and leave it so; let it go on where it was done before it stopped."""
    if not any(run.glob(".last.*.part.ckpt")):
        return False
    process.send_signal(signal.SIGSTOP)
    while psutil.Process(process.pid).status() not in (psutil.STATUS_STOPPED, psutil.STATUS_ZOMBIE):
        time.sleep(0.001)
    if any(run.glob(".last.*.part.ckpt")):
        return True
    process.send_signal(signal.SIGCONT)
    return False


def test_killed_again_and_again(tmp_path: Path) -> None:
    undisturbed = start(tmp_path, *SMALL, "--run_dir", "whole", "--tracking.mode", "disabled")
    assert end(undisturbed, 0) == 0, (tmp_path / "log.txt").read_text()[-2000:]

    chance, run, codes = random.Random(0), tmp_path / "parts", []
    inside = 0
    for attempt in range(KILLS):
        # Saving after every step, a run spends a good part of its time in the writing of checkpoints.
        process = start(tmp_path, *SMALL, "--run_dir", "parts", "--save_every_minutes", "0", log="killed.txt")
        before = _written(run)
        if not wait_until(lambda before=before: _written(run) != before, process):  # type: ignore[misc]
            break  # done before it could be killed
        if attempt % 2:
            wait_until(lambda process=process: _stopped_in_writing(run, process), process)  # type: ignore[misc]
        elif attempt % 4 == 2:
            time.sleep(chance.uniform(0.0, 0.5))
        number = (signal.SIGKILL, signal.SIGKILL, signal.SIGTERM, signal.SIGKILL, signal.SIGINT)[attempt % 5]
        codes.append((number, end(process, number)))
        inside += any(run.glob(".last.*.part.ckpt"))
    usual = {signal.SIGKILL: -signal.SIGKILL, signal.SIGTERM: 143, signal.SIGINT: 130}
    assert all(code == usual[number] for number, code in codes), codes
    assert len(codes) >= min(KILLS, 4), "the run was too short to be killed"
    assert inside, "no kill came while a checkpoint was written"

    finished = start(tmp_path, *SMALL, "--run_dir", "parts", log="killed.txt")
    assert end(finished, 0) == 0, (tmp_path / "killed.txt").read_text()[-2000:]
    assert "continued from last.ckpt" in (tmp_path / "killed.txt").read_text()
    assert_same_run(tmp_path / "whole", run)
    steps = [row["step"] for row in metrics(run) if row["train/loss_step"]]
    assert steps == [str(step) for step in range(len(steps))], "each step is logged once"
    assert not list(run.glob(".*.part*")), "temporary files are cleared away"
    identity = (run / "wandb" / "run_id").read_text().strip()
    runs = list((run / "wandb").glob("offline-run-*"))
    assert runs
    # W&B numbers the folders of one second.
    assert all(re.search(rf"-{identity}(-\d+)?$", path.name) for path in runs), "one W&B run"
    print(f"{len(codes)} kills, {inside} of them inside the writing of a checkpoint")
