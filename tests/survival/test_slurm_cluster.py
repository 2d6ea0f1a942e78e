"""A real SLURM of two nodes on this machine: runs on several nodes, requeued, preempted, and grids as job arrays."""

import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from small_grid import write_grid
from survival.processes import PATH, assert_same_run, fit, metrics
from warm import python, warm_environment

from cct_lightning.ablation.grid import expand, read_grid
from cct_lightning.runs.folder import RunFolder
from cct_lightning.runs.state import read_state
from cct_lightning.slurm import SBATCH

Cct = Callable[..., tuple[int, str, str]]
SCRIPT = Path(__file__).with_name("slurm.sh")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not all(map(shutil.which, ("slurmctld", "slurmd", "sbatch"))),
        reason="SLURM is not installed (Debian: apt-get install slurm-wlm)",
    ),
]
RUN = [
    *(
        "--config",
        "digits",
        "--model.embed_dim",
        "32",
        "--trainer.max_epochs",
        "2",
        "--model.optim.warmup_epochs",
        "0.5",
        "--trainer.accelerator",
    ),
    *("cpu", "--data.global_batch_size", "128", "--data.augment", "light", "--tracking.mode", "disabled"),
    *("--trainer.log_every_n_steps", "1"),
]


@pytest.fixture(scope="module", autouse=True)
def _cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    folder = tmp_path_factory.mktemp("slurm")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = min(int(free.getsockname()[1]), 65000)
    with (folder / "start.txt").open("w") as log:  # no pipe: the daemons would keep it open
        started = subprocess.run(["bash", str(SCRIPT), "start", str(folder), str(port)], stdout=log, stderr=log)
    if started.returncode:
        pytest.skip(f"SLURM does not start here: {(folder / 'start.txt').read_text()[-300:]}")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SLURM_CONF", str(folder / "slurm.conf"))
        for key, value in warm_environment(PYTHONPATH=PATH).items():
            patch.setenv(key, value)
        patch.setattr(sys, "executable", python())  # which a job array gets
        patch.setenv("MASTER_ADDR", "127.0.0.1")  # the nodes' names are known to SLURM alone
        yield
    subprocess.run(["bash", str(SCRIPT), "stop", str(folder)], capture_output=True)


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run on one process, undisturbed, without SLURM."""
    folder = tmp_path_factory.mktemp("alone")
    fit(folder, *RUN, "--run_dir", "run")
    return folder / "run"


def slurm(*command: str, cwd: Path | None = None) -> str:
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=500)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout.strip()


def submit(folder: Path, *words: str, nodes: int = 1, tasks: int = 1) -> str:
    size = [f"--nodes={nodes}", f"--ntasks-per-node={tasks}", f"--gpus-per-node={tasks}", "--cpus-per-task=1"]
    options = [*size, "--time=20", "--output=log.txt", "--parsable"]
    return slurm("sbatch", *options, str(SBATCH), *RUN, "--run_dir", "run", *words, cwd=folder)


def state(job: str) -> str:
    found = slurm("scontrol", "--oneliner", "show", "job", job)
    return next(word.removeprefix("JobState=") for word in found.split() if word.startswith("JobState="))


def wait_for(condition: Callable[[], object], seconds: float = 300) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, slurm("squeue")
        time.sleep(0.2)


def wait_for_end(job: str, folder: Path, *expected: str) -> str:
    """Wait until a job has ended in one of the states, and return what it printed."""
    wait_for(lambda: state(job) not in ("PENDING", "CONFIGURING", "RUNNING", "COMPLETING"))
    log = (folder / "log.txt").read_text()
    assert state(job) in expected, log
    return log


def test_two_nodes_train_as_one_process(alone: Path, tmp_path: Path) -> None:
    log = wait_for_end(submit(tmp_path, nodes=2, tasks=2), tmp_path, "COMPLETED")
    assert "4 devices" in log
    assert log.count("test accuracy") == 1
    # The order of sums differs, and with it the last digit of the weights.
    for name, tolerance in {"train/loss": 1e-4, "val/loss": 1e-3, "test/loss": 1e-3}.items():
        one, two = ([float(row[name]) for row in metrics(run) if row[name]] for run in (alone, tmp_path / "run"))
        assert one == pytest.approx(two, rel=tolerance), name


def test_other_devices_than_srun_has_started_are_refused(tmp_path: Path) -> None:
    log = wait_for_end(submit(tmp_path, "--trainer.devices=4", tasks=2), tmp_path, "FAILED")
    assert "srun has started 2 processes on each of 1 machines, and --trainer.devices 4 asks for others" in log
    assert "Traceback" not in log
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("name", ["USR1", "TERM"])
def test_a_job_that_is_stopped_continues(name: str, alone: Path, tmp_path: Path) -> None:
    """Out of time it is requeued by itself; preempted with SIGTERM alone, it continues when submitted again."""
    witness = ["--trainer.callbacks+=survival.witness.Witness", "--trainer.callbacks.folder=saw"]
    words = [*witness, "--trainer.callbacks.fail_at=7", f"--trainer.callbacks.how={name}"]
    job = submit(tmp_path, *words)
    if name == "USR1":
        wait_for(lambda: state(job) == "PENDING" and "Restarts=1" in slurm("scontrol", "show", "job", job))
        # SLURM would wait two minutes. In the second of the requeue, a node takes the new start for the old, dead one.
        slurm("scontrol", "update", f"JobId={job}", "StartTime=now+5")
    else:
        wait_for_end(job, tmp_path, "FAILED")
        job = submit(tmp_path, *words)
    log = wait_for_end(job, tmp_path, "COMPLETED")
    assert f"Stopped by SIG{name} at step 7" in log or name == "TERM"
    assert "continued from last.ckpt" in log
    assert_same_run(alone, tmp_path / "run")


def test_a_grid_with_a_killed_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cct: Cct) -> None:
    monkeypatch.chdir(tmp_path)
    short = {"trainer__max_epochs": {"value": 1}, "trainer__limit_train_batches": {"value": 3}}
    short |= {"model__optim__warmup_epochs": {"value": 0}, "tracking__mode": {"value": "disabled"}}
    write_grid(tmp_path, **short, model__arch={"value": "cct_2_3x1"})
    # Two at a time on each node, of which each has eight cores.
    array = ["ablate", "small.yaml", "--slurm", "--time=20", "--cpus_per_run=4", "--gpus_per_run=0", "--partition=all"]
    folder = tmp_path / "runs" / "small"

    # Nothing starts before the partition is up: the short runs could end while the second command looks at them.
    slurm("scontrol", "update", "PartitionName=all", "State=DOWN")
    code, out, err = cct(*array)
    assert code == 0, err
    assert "Submitted 4 runs as job" in out
    job = out.partition("as job ")[2].split()[0]
    assert "4 runs are in SLURM's queue or run already" in cct(*array)[1], "nothing is submitted twice"
    slurm("scontrol", "update", "PartitionName=all", "State=UP")
    first, *_ = expand(read_grid(tmp_path / "small.yaml"))
    wait_for(lambda: (folder / first.name / RunFolder.LOG).exists())
    slurm("scancel", "--signal=KILL", f"{job}_0")
    wait_for(lambda: not slurm("squeue", "--noheader"))
    states = [read_state(path).status for path in folder.iterdir() if path.is_dir()]
    assert states.count("finished") == 3, states

    assert "Submitted 1 runs" in cct(*array)[1]
    wait_for(lambda: not slurm("squeue", "--noheader"))
    assert "4 runs: 4 finished" in cct("ablate", "small.yaml", "--status")[1]
    logs = sorted(path.read_text().count("$ cct fit") for path in folder.glob(f"*/{RunFolder.LOG}"))
    assert logs[:3] == [1] * 3, "what is finished runs once"
    assert logs[3] > 1
