"""The batch script, run by bash with stand-ins for SLURM's two commands (see test_slurm_cluster.py for a real one)."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from survival.processes import SMALL, checkpoint

from cct_lightning.config.resolved import ResolvedConfig
from cct_lightning.errors import InputError
from cct_lightning.runs.folder import RunFolder
from cct_lightning.slurm import ARRAY, SBATCH

# srun runs the command, and sends it SIGUSR1 once it has saved where SEND is set, as the time limit would.
SRUN = """#!{python}
import glob, os, signal, subprocess, sys, time
child = subprocess.Popen(sys.argv[sys.argv.index("bash") :])
while os.environ.get("SEND") and child.poll() is None:
    if glob.glob("runs/*/*/last.ckpt"):
        child.send_signal(signal.SIGUSR1)
        break
    time.sleep(0.01)
code = child.wait()
sys.exit(code if code >= 0 else 128 - code)
"""


def test_a_job_out_of_time_is_requeued_and_continues(tmp_path: Path) -> None:
    folder = tmp_path / "bin"
    folder.mkdir()
    (folder / "srun").write_text(SRUN.format(python=sys.executable))
    (folder / "scontrol").write_text('#!/bin/bash\necho "$@" >> requeued\n')
    (folder / "cct").write_text(f'#!/bin/bash\nexec {sys.executable} -m cct_lightning "$@"\n')
    for name in ("srun", "scontrol", "cct"):
        (folder / name).chmod(0o755)
    environment = {
        **os.environ,
        "PATH": f"{folder}:{os.environ['PATH']}",
        "SLURM_JOB_ID": "4711",
        "SLURM_CPUS_PER_TASK": "1",
        "OMP_NUM_THREADS": "1",
    }
    words = [*SMALL, "--tracking.mode", "disabled", "--trainer.accelerator", "cpu"]
    codes = []
    for send in ("1", ""):
        done = subprocess.run(
            ["bash", str(SBATCH), *words],
            cwd=tmp_path,
            env={**environment, "SEND": send},
            capture_output=True,
            text=True,
            timeout=600,
        )
        codes.append(done.returncode)
    assert codes == [138, 0], done.stderr[-2000:]
    assert (tmp_path / "requeued").read_text() == "requeue 4711\n"
    (run,) = tmp_path.glob("runs/*/*")
    assert "4711" in run.name
    assert "continued from last.ckpt" in done.stdout
    assert checkpoint(run / "last.ckpt")["global_step"] == 40


def run_of(seed: int) -> ResolvedConfig:
    return ResolvedConfig.resolve({"seed_everything": seed, "data": {"name": "digits"}})


def test_runs_of_one_job_have_their_own_folders(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("LOCAL_RANK", raising=False)
    monkeypatch.setenv("CCT_RUN_DIR", "")
    monkeypatch.setenv("SLURM_JOB_ID", "4711")
    first, again, other = (RunFolder.choose(None, run_of(seed)) for seed in (0, 0, 1))
    assert first == again
    assert first != other
    monkeypatch.delenv("SLURM_JOB_ID")
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "none")
    monkeypatch.setenv("GROUP_WORLD_SIZE", "2")
    with pytest.raises(InputError, match="give --run_dir"):
        RunFolder.choose(None, run_of(0))


@pytest.mark.parametrize("script", [SBATCH, ARRAY], ids=lambda path: path.name)
def test_a_script_is_sound(script: Path) -> None:
    assert subprocess.run(["bash", "-n", str(script)]).returncode == 0
    # srun does not take it from the job; without it, every process has one core.
    assert '--cpus-per-task="$SLURM_CPUS_PER_TASK"' in script.read_text()


@pytest.mark.parametrize("script", [SBATCH, ARRAY], ids=lambda path: path.name)
def test_a_signal_during_imports_is_ignored(script: Path, tmp_path: Path) -> None:
    """srun starts its command with the signals of SLURM's daemon, whatever the script ignores."""
    say = f"#!{sys.executable}\nimport signal\nprint(signal.getsignal(signal.SIGUSR1).name)\n"
    reset = f"#!{sys.executable}\nimport os, signal, sys\nsignal.signal(signal.SIGUSR1, signal.SIG_DFL)\n"
    run = 'words = [word for word in sys.argv[1:] if not word.startswith("--")]\nos.execvp(words[0], words)\n'
    for name, text in {"cct": say, "srun": reset + run}.items():
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o755)
    variables = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "SLURM_CPUS_PER_TASK": "1", "SLURM_ARRAY_TASK_ID": "0"}
    done = subprocess.run(
        ["bash", str(script), str(tmp_path / "cct"), "run"],
        env={**os.environ, **variables},
        capture_output=True,
        text=True,
    )
    assert done.stdout == "SIG_IGN\n", done.stderr


REQUEUE = """
from cct_lightning.runs.interrupts import Stopped
from cct_lightning.slurm.requeue import Requeue

requeue = Requeue()
stopped = Stopped({number}, quiet={quiet})
stopped.steps = {steps}
requeue.after(stopped)
"""


@pytest.mark.parametrize(
    ("stop", "requeued", "said"),
    [
        ((signal.SIGUSR1, 3, False), "requeue 12_4", ""),
        ((signal.SIGUSR1, 0, False), "", "not requeued, since no step was trained"),
        ((signal.SIGUSR1, 3, True), "", ""),  # another rank than the first
        ((signal.SIGTERM, 3, False), "", ""),  # SLURM itself requeues what it preempts
    ],
)
def test_only_a_run_out_of_time_that_got_further_is_requeued(
    stop: tuple[int, int, bool], requeued: str, said: str, tmp_path: Path
) -> None:
    (tmp_path / "scontrol").write_text(f'#!/bin/bash\necho "$@" >> {tmp_path}/requeued\n')
    (tmp_path / "scontrol").chmod(0o755)
    job = {"SLURM_JOB_ID": "13", "SLURM_ARRAY_JOB_ID": "12", "SLURM_ARRAY_TASK_ID": "4"}
    done = subprocess.run(
        [sys.executable, "-c", REQUEUE.format(number=int(stop[0]), steps=stop[1], quiet=stop[2])],
        env={**os.environ, **job, "PATH": f"{tmp_path}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert said in done.stderr
    path = tmp_path / "requeued"
    assert (path.read_text().strip() if path.exists() else "") == requeued
