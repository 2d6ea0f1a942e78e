"""A grid as a SLURM job array, with stand-ins for SLURM's commands; survival/test_slurm_cluster.py has a real one."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from small_grid import environment, write_grid
from warm import python

from cct_lightning.ablation.grid import expand, read_grid
from cct_lightning.runs.folder import RunFolder
from cct_lightning.runs.state import read_state
from cct_lightning.slurm import ARRAY

Cct = Callable[..., tuple[int, str, str]]
TWO = {"model__arch": {"value": "cct_2_3x1"}, "model__pool": {"value": "mean"}, "tracking__mode": {"value": "disabled"}}


@pytest.fixture
def bin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of stand-ins for SLURM's commands: they note their words, and print what the file beside them holds."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name, output in {"sbatch": "12", "squeue": "", "scontrol": ""}.items():
        (folder / f"{name}.out").write_text(output)
        (folder / name).write_text(
            f'#!/bin/bash\nprintf "%s\\n" "$@" >> {folder}/{name}.words\ncat {folder}/{name}.out\n'
        )
        (folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    monkeypatch.chdir(tmp_path)
    return folder


def test_a_grid_is_submitted_once(bin: Path, cct: Cct, tmp_path: Path) -> None:
    runs = expand(read_grid(write_grid(tmp_path, **TWO)))
    folder = tmp_path / "runs" / "small"
    words = ["ablate", "small.yaml", "--slurm", "--time=4:00:00", "--gpus_per_run=2", "--cpus_per_run=3"]
    code, out, err = cct(*words, "--sbatch", "account=lab", "mem=8G")
    assert code == 0, err
    assert "Submitted 2 runs as job 12" in out
    given = (bin / "sbatch.words").read_text().splitlines()
    options = {"--array=0-1", "--time=4:00:00", "--gpus-per-node=2", "--cpus-per-task=3", "--account=lab", "--mem=8G"}
    assert options <= set(given)
    assert given[-4:] == [str(ARRAY), sys.executable, *(str(folder / run.name) for run in runs)]

    (bin / "squeue.out").write_text("12_0 RUNNING\n12_1 PENDING\n7 RUNNING\n")
    assert "2 runs are in SLURM's queue" in cct(*words)[1]
    out = cct("ablate", "small.yaml", "--status")[1]
    assert [line.split("(")[1].split(")")[0] for line in out.splitlines() if "waiting (" in line] == [
        "SLURM: RUNNING",
        "SLURM: PENDING",
    ]
    # The first has ended without being finished, and the other waits on.
    (bin / "squeue.out").write_text("12_1 PENDING\n")
    (bin / "sbatch.out").write_text("13\n")
    assert "Submitted 1 runs as job 13" in cct(*words)[1]
    assert (bin / "sbatch.words").read_text().splitlines()[-1] == str(folder / runs[0].name)
    (bin / "squeue.out").write_text("12_1 PENDING\n13_0 PENDING\n")
    assert "2 runs are in SLURM's queue" in cct(*words)[1]


def test_ray_is_needed_by_the_engine_alone(
    bin: Path, cct: Cct, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    write_grid(tmp_path, **TWO)
    monkeypatch.setattr("cct_lightning.system.importing.find_spec", lambda name: None)
    for words in (["--status"], ["--dry_run"], ["--slurm"]):
        assert cct("ablate", "small.yaml", *words)[0] == 0, words
    code, _, err = cct("ablate", "small.yaml")
    assert code == 2
    assert "cct ablate needs ray" in err


def test_what_slurm_refuses_is_one_sentence(bin: Path, cct: Cct, tmp_path: Path) -> None:
    write_grid(tmp_path, **TWO)
    (bin / "sbatch").write_text('#!/bin/bash\necho "sbatch: error: invalid partition specified: nix" >&2\nexit 1\n')
    code, _, err = cct("ablate", "small.yaml", "--slurm", "--partition=nix")
    assert code == 2
    assert "invalid partition specified: nix" in err
    assert not (tmp_path / "runs").exists()
    (bin / "sbatch").unlink()
    os.environ["PATH"] = str(bin)
    code, _, err = cct("ablate", "small.yaml", "--slurm")
    assert code == 2
    assert "There is no SLURM here: `sbatch` is not installed" in err


def test_status_needs_no_answer_of_slurm(bin: Path, cct: Cct, tmp_path: Path) -> None:
    (first, second) = expand(read_grid(write_grid(tmp_path, **TWO)))
    assert cct("ablate", "small.yaml", "--slurm")[0] == 0
    (bin / "squeue").write_text(
        f'#!/bin/bash\ntouch {bin}/asked\necho "slurm_load_jobs error: timed out" >&2\nexit 1\n'
    )
    code, out, _ = cct("ablate", "small.yaml", "--status")
    assert code == 0
    assert "2 waiting" in out
    assert "not known: squeue has failed: slurm_load_jobs error: timed out" in out
    (bin / "asked").unlink()
    for run in (first, second):
        (tmp_path / "runs" / "small" / run.name / RunFolder.SUMMARY).write_text('{"status": "finished"}')
    assert "2 finished" in cct("ablate", "small.yaml", "--status")[1]
    assert not (bin / "asked").exists()


def test_runs_at_a_time_are_limited(bin: Path, cct: Cct, tmp_path: Path) -> None:
    write_grid(tmp_path, **TWO)
    assert cct("ablate", "small.yaml", "--slurm", "--sbatch", "array=%1")[0] == 0
    given = (bin / "sbatch.words").read_text().splitlines()
    assert {word for word in given if "array=" in word} == {"--array=0-1%1"}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--time", "1:00:00"], "give --slurm"),
        (["--sbatch", "mem=8G"], "give --slurm"),
        (["--slurm", "--gpus_per_run", "0.5"], "SLURM gives whole GPUs"),
        (["--slurm", "--sbatch", "array=0-3"], "the grid decides the tasks"),
    ],
)
def test_options_that_do_not_go_together(words: list[str], message: str, cct: Cct, tmp_path: Path) -> None:
    code, _, err = cct("ablate", str(write_grid(tmp_path, **TWO)), "--out", str(tmp_path / "runs"), *words)
    assert code == 2
    assert message in err
    assert not (tmp_path / "runs").exists()


def test_a_task_out_of_time_saves_and_is_requeued(bin: Path, cct: Cct, tmp_path: Path) -> None:
    (run, _) = expand(read_grid(write_grid(tmp_path, **TWO, save_every_minutes={"value": 0})))
    assert cct("ablate", "small.yaml", "--slurm")[0] == 0
    files = RunFolder(tmp_path / "runs" / "small" / run.name)
    job = {"SLURM_JOB_ID": "12", "SLURM_ARRAY_JOB_ID": "12", "SLURM_ARRAY_TASK_ID": "0", "SLURM_CPUS_PER_TASK": "1"}
    command = [python(), "-m", "cct_lightning.ablation.trial", str(files.path)]
    task = subprocess.Popen(command, env=environment(**job))
    while not (files / files.LAST).exists():
        assert task.poll() is None
        time.sleep(0.002)
    task.send_signal(signal.SIGUSR1)
    assert task.wait(200) == 1
    assert (bin / "scontrol.words").read_text().splitlines() == ["requeue", "12_0"]
    assert read_state(files.path).status == "interrupted"

    assert subprocess.run(command, env=environment(**job), timeout=300).returncode == 0
    assert read_state(files.path).status == "finished"
    assert "continued from last.ckpt" in (files / files.LOG).read_text()
