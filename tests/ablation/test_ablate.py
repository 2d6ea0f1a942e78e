"""`cct ablate` on real runs: killed with -9 at random moments it ends as if it had never been disturbed."""

import csv
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from comparison.test_compare import SCORES, done, write_run
from small_grid import EPOCHS, environment, write_grid
from small_grid import cct as command_of

from cct_lightning.ablation.engine import Node, Share, cluster, divide
from cct_lightning.ablation.grid import Grid, expand, override, read_grid
from cct_lightning.ablation.plan import Checked, Planned, make_plan, run_seconds, seconds_left, without_repeats
from cct_lightning.commands.ablate import ablate as ablate_here
from cct_lightning.config.recipes import options_of
from cct_lightning.config.resolved import ResolvedConfig
from cct_lightning.errors import InputError
from cct_lightning.models.arch import resolve_arch
from cct_lightning.models.complexity import budget
from cct_lightning.runs.folder import RunFolder
from cct_lightning.runs.lock import is_locked, take_lock
from cct_lightning.runs.state import RunState, read_state

pytestmark = pytest.mark.slow

pytest.importorskip("ray", reason="Ray is not installed: pip install 'cct_lightning[ablate]'")


def ablate(grid: Path, out: Path, *options: str) -> subprocess.CompletedProcess[str]:
    command = command_of("ablate", str(grid), "--out", str(out), *options)
    return subprocess.run(command, env=environment(), capture_output=True, text=True, timeout=600)


def start(grid: Path, out: Path, *, cold: bool = False) -> "subprocess.Popen[str]":
    """Start the engine; `cold`, everything is an interpreter of its own, as a user has it."""
    command = [sys.executable, "-m", "cct_lightning"] if cold else command_of()
    return subprocess.Popen(
        [*command, "ablate", str(grid), "--out", str(out)],
        env=dict(os.environ) if cold else environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def wait_until(condition: Callable[[], object], engine: "subprocess.Popen[str]", seconds: float = 600) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert engine.poll() is None, engine.stdout.read()
        assert time.monotonic() < deadline
        time.sleep(0.1)


def training_in(out: Path) -> list[int]:
    """Processes that train in a folder below."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            words = (entry / "cmdline").read_bytes().decode(errors="replace").split("\0")
        except OSError:
            continue
        if "fit" in words and any(word.startswith(f"--run_dir={out}") for word in words):
            found.append(int(entry.name))
    return found


def checked(grid: Grid) -> list[Checked]:
    """The runs with what they compute."""
    return [
        Checked(run=run, config=ResolvedConfig.resolve(options_of(run.arguments)), params=1, macs=1, epochs=11)
        for run in expand(grid)
    ]


def write_record(run: Checked, folder: Path) -> None:
    Planned(**vars(run), folder=folder, state=RunState(status="waiting")).write_record()


def results(folder: Path) -> dict[str, float]:
    summary = json.loads((folder / "summary.json").read_text())
    return {key: summary[key] for key in ("test/acc", "test/loss", "best_val/acc", "params", "macs")}


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_grid_killed_three_times_and_interrupted_ends_as_if_undisturbed(undisturbed: Path, tmp_path: Path) -> None:
    out, chance = tmp_path / "runs", random.Random()
    grid = write_grid(tmp_path)
    folders = {run.name: out / "small" / run.name for run in expand(read_grid(grid))}

    def finished() -> dict[str, int]:
        done = [name for name, folder in folders.items() if read_state(folder).status == "finished"]
        return {name: (folders[name] / "summary.json").stat().st_mtime_ns for name in done}

    kept: dict[str, int] = {}
    for wanted in (0, 2, 4):
        engine = start(grid, out, cold=wanted == 0)
        wait_until(lambda wanted=wanted: len(finished()) >= wanted and training_in(out), engine)
        time.sleep(chance.uniform(0, 3 if wanted else 6))
        os.kill(engine.pid, signal.SIGKILL)
        engine.wait()
        deadline = time.monotonic() + 300
        while training_in(out):
            assert time.monotonic() < deadline, "a run outlives the killed engine"
            time.sleep(0.1)
        kept |= finished()

    # A Ctrl-C, after which the runs save in the middle of an epoch.
    engine = start(grid, out)
    wait_until(lambda: len(finished()) >= 6 and training_in(out), engine)
    time.sleep(chance.uniform(0, 2))
    engine.send_signal(signal.SIGINT)
    output, _ = engine.communicate(timeout=600)
    if len(finished()) < 8:
        assert engine.returncode == 130, output
        assert "The same command again continues" in output
    assert not training_in(out)

    done = ablate(grid, out)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "8 runs: 8 finished" in done.stdout
    assert {name: stamp for name, stamp in finished().items() if name in kept} == kept, "a finished run ran again"
    for name, folder in folders.items():
        assert results(folder) == results(undisturbed / name), name
        ours, theirs = (
            torch.load(path / "last.ckpt", map_location="cpu", weights_only=True)["state_dict"]
            for path in (folder, undisturbed / name)
        )
        assert all(torch.equal(ours[key], theirs[key]) for key in theirs), name
        with (folder / "metrics.csv").open() as file:
            epochs = [int(row["epoch"]) for row in csv.DictReader(file) if row["val/acc"]]
        assert epochs == list(range(1, EPOCHS + 1)), name

    again = ablate(grid, out)
    assert again.returncode == 0
    assert "8 finished before" in again.stdout
    assert {name: stamp for name, stamp in finished().items() if name in kept} == kept


SMALL = {
    "model__arch": {"value": "cct_2_3x1"},
    "model__pool": {"value": "seqpool"},
    "trainer__max_epochs": {"value": 1},
    "trainer__limit_train_batches": {"value": 3},
    "model__optim__warmup_epochs": {"value": 0},
}


def test_a_failing_run_stops_no_other_and_is_tried_again(tmp_path: Path) -> None:
    grid = write_grid(tmp_path, **SMALL)
    well, ill = (run.run for run in checked(read_grid(grid)))
    folder = tmp_path / "runs" / "small" / ill.name
    write_record(checked(read_grid(grid))[1], folder)
    (folder / "environment.json").mkdir()  # where the run wants to write a file

    done = ablate(grid, tmp_path / "runs")
    assert done.returncode == 1, done.stdout + done.stderr
    assert "2 runs: 1 finished, 1 failed" in done.stdout
    assert f"{ill.name} failed: cct fit: Cannot use {folder / 'environment.json'} (Is a directory)" in done.stdout
    assert str(folder / RunFolder.LOG) in done.stdout
    assert (folder / RunFolder.LOG).read_text().count("$ cct fit") == 2, "a failed run is tried once more"
    assert read_state(tmp_path / "runs" / "small" / well.name).status == "finished"

    (folder / "environment.json").rmdir()
    done = ablate(grid, tmp_path / "runs")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "1 finished before" in done.stdout
    assert (tmp_path / "runs" / "small" / well.name / RunFolder.LOG).read_text().count("$ cct fit") == 1


def test_a_run_that_would_not_start_is_refused_before_any_starts(tmp_path: Path) -> None:
    for parameters, message in (
        ({"model__pol": {"value": "mean"}}, "Did you mean 'model.pool'"),
        ({"model__kernel_size": {"values": [2, 3]}}, "A patch of 3 pixels does not divide"),
        ({"data__name": {"value": "folder"}, "data__root": {"value": str(tmp_path / "none")}}, "none"),
    ):
        with pytest.raises(InputError, match=message) as caught:
            ablate_here(str(write_grid(tmp_path, **parameters)), out=str(tmp_path / "runs"))
        assert "would not start" in str(caught.value)
        assert not (tmp_path / "runs").exists()


def test_a_dry_run_prints_the_plan_and_writes_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ablate_here(str(write_grid(tmp_path)), out=str(tmp_path / "runs"), dry_run=True)
    output = capsys.readouterr().out
    cost = budget(resolve_arch("cct_2_3x1", img_size=8, in_chans=1, pool="seqpool", embed_dim=32))
    assert f"{cost.params:,}" in output
    assert f"{(cost.macs + cost.attention_macs) / 1e6:,.1f}" in output
    assert "8 runs: 8 waiting; time left unknown" in output
    assert not (tmp_path / "runs").exists()


def test_a_dry_run_says_what_the_seeds_can_show(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for pool, scores in SCORES.items():
        for seed, score in enumerate(scores):
            folder = tmp_path / "runs" / "small" / f"{pool}{seed}"
            write_run(folder, seed=seed, summary=done(score), model__pool=pool)
    ablate_here(str(write_grid(tmp_path)), out=str(tmp_path / "runs"), dry_run=True)
    assert "Power: 2 seeds show a difference of " in capsys.readouterr().out


def test_the_plan_estimates_from_finished_runs_and_keeps_folders(tmp_path: Path) -> None:
    checks = checked(read_grid(write_grid(tmp_path)))
    runs = [check.run for check in checks]
    folder = tmp_path / "small"
    for check, run, seconds in zip(checks, runs[:2], (10.0, 20.0), strict=False):
        write_record(check, folder / run.name)
        (folder / run.name / "summary.json").write_text(json.dumps({"status": "finished", "seconds": seconds}))
    plan = make_plan(checks, folder)
    assert [item.state.status for item in plan] == ["finished"] * 2 + ["waiting"] * 6
    assert [run_seconds(item, plan) for item in plan[:3]] == [15.0, 15.0, 15.0]
    assert seconds_left(plan, concurrency=2) == 45.0
    # A grid that grows calls its runs otherwise; those that are done stay where they are.
    grown = override(read_grid(write_grid(tmp_path, trainer__max_epochs={"values": [EPOCHS, 9]})), [])
    again = make_plan(checked(grown), folder)
    assert sorted(item.folder.name for item in again if item.state.status == "finished") == sorted(
        r.name for r in runs[:2]
    )
    # Other settings under the same name would be another experiment in the same folder.
    changed = read_grid(write_grid(tmp_path, trainer__max_epochs={"value": 9}))
    with pytest.raises(InputError, match=f"trainer.max_epochs was {EPOCHS}, is 9"):
        make_plan(checked(changed), folder)


def test_what_would_compute_the_same_is_planned_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write_grid(
        tmp_path,
        model__arch={"value": "cct_2_3x1"},
        model__pool={"values": [None, "seqpool"]},
        model__drop_path_rate={"values": [0, 0.0]},
    )
    ablate_here(str(path), out=str(tmp_path / "runs"), dry_run=True)
    out = capsys.readouterr().out
    first = "pool=null-drop_path_rate=0-seed0"
    assert f"compute the same: pool=null-drop_path_rate=0.0-seed0 as {first}, " in out
    assert " and 2 more.\n" in out
    assert "2 runs: 2 waiting" in out
    kept, said = without_repeats(checked(read_grid(write_grid(tmp_path))))
    assert (len(kept), said) == (8, "")


def test_the_folder_of_a_run_that_never_began_takes_other_settings(tmp_path: Path) -> None:
    check, *_ = checked(read_grid(write_grid(tmp_path)))
    folder = tmp_path / "small"
    write_record(check, folder / check.run.name)
    RunFolder(folder / check.run.name).note(reason="cct fit: there is no such package")
    changed, *_ = checked(read_grid(write_grid(tmp_path, trainer__max_epochs={"value": 9})))
    (item,) = make_plan([changed], folder)
    assert item.folder == folder / check.run.name
    item.write_record()
    assert RunFolder(item.folder).record()["parameters"]["trainer.max_epochs"] == 9
    # Now it has trained.
    write_run(tmp_path / "other", seed=5)
    (tmp_path / "other" / RunFolder.CONFIG).rename(item.folder / RunFolder.CONFIG)
    with pytest.raises(InputError, match="other settings"):
        make_plan([check], folder)


def test_ctrl_c_while_ray_starts_is_no_traceback(tmp_path: Path, cct: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    import ray

    def interrupted(**options: object) -> None:
        raise KeyboardInterrupt

    ended = []
    monkeypatch.setattr(ray, "init", interrupted)
    monkeypatch.setattr(ray, "shutdown", lambda: ended.append(True))
    code, _, err = cct("ablate", str(write_grid(tmp_path)), "--out", str(tmp_path / "runs"))
    assert (code, err, ended) == (130, "", [True])


def test_one_engine_at_a_time(tmp_path: Path) -> None:
    folder = tmp_path / "runs" / "small"
    folder.mkdir(parents=True)
    lock = take_lock(folder)
    assert lock is not None
    assert is_locked(folder)
    with lock, pytest.raises(InputError, match="Another `cct ablate`"):
        ablate_here(str(write_grid(tmp_path)), out=str(tmp_path / "runs"))
    assert not is_locked(folder)
    assert [path.name for path in folder.iterdir()] == [".lock"]


def test_what_each_run_gets() -> None:
    assert divide([Node(cpus=2, gpus=0)], runs=8) == Share(gpus=0, cpus=1, concurrency=2)
    assert divide([Node(cpus=16, gpus=0)], runs=4) == Share(gpus=0, cpus=4, concurrency=4)
    assert divide([Node(cpus=32, gpus=8)], runs=45) == Share(gpus=1, cpus=4, concurrency=8)
    assert divide([Node(cpus=32, gpus=8)], runs=45, gpus_per_run=0.5) == Share(gpus=0.5, cpus=2, concurrency=16)
    assert divide([Node(cpus=32, gpus=8)], runs=45, gpus_per_run=4, cpus_per_run=3) == Share(
        gpus=4, cpus=3, concurrency=2
    )
    for wrong in ({"gpus_per_run": 1.0}, {"gpus_per_run": -1.0}, {"cpus_per_run": 3}, {"cpus_per_run": 0}):
        with pytest.raises(InputError, match="per_run"):
            divide([Node(cpus=2, gpus=0)], runs=8, **wrong)


def test_the_engine_starts_its_own_ray_beside_another_one(monkeypatch: pytest.MonkeyPatch) -> None:
    import ray

    asked: dict[str, object] = {}
    monkeypatch.setattr(ray, "init", lambda **options: asked.update(options))
    monkeypatch.setattr(ray, "nodes", lambda: [{"Alive": True, "Resources": {"CPU": 2.0}}])
    with cluster(None) as nodes:
        assert nodes == [Node(cpus=2, gpus=0)]
    assert asked["address"] == "local"


def test_a_run_fits_on_one_machine_of_a_cluster() -> None:
    small = [Node(cpus=2, gpus=0), Node(cpus=2, gpus=0)]
    assert divide(small, runs=1) == Share(gpus=0, cpus=2, concurrency=1)
    assert divide(small, runs=3) == Share(gpus=0, cpus=1, concurrency=3)
    assert divide([Node(cpus=8, gpus=0), Node(cpus=2, gpus=0)], runs=2) == Share(gpus=0, cpus=4, concurrency=2)
    # A head without GPUs, and fractions that do not add up over machines.
    gpus = [Node(cpus=4, gpus=0), Node(cpus=8, gpus=1), Node(cpus=8, gpus=1)]
    assert divide(gpus, runs=9) == Share(gpus=1, cpus=8, concurrency=2)
    assert divide(gpus, runs=9, gpus_per_run=0.4) == Share(gpus=0.4, cpus=4, concurrency=4)
    for wrong in ({"gpus_per_run": 2.0}, {"cpus_per_run": 9}):
        with pytest.raises(InputError, match="on one machine"):
            divide(gpus, runs=9, **wrong)


def test_the_time_left_is_estimated_before_the_first_run_has_finished(tmp_path: Path) -> None:
    [run, other] = map(vars, checked(read_grid(write_grid(tmp_path, **SMALL))))
    now = time.time()
    running = RunState(status="running", epoch=6, began_at=1, began=now - 10)
    plan = [
        Planned(**run, folder=tmp_path, state=running),
        Planned(**other, folder=tmp_path, state=RunState(status="waiting")),
    ]
    # Five epochs in ten seconds: five more take ten, and a whole run of eleven 22.
    assert seconds_left(plan, concurrency=1) == pytest.approx(32, abs=0.5)
    assert seconds_left(plan[1:], concurrency=1) is None


PART = """
from cct_lightning.models.pooling import MeanPool


class Scaled(MeanPool):
    def __init__(self, *, embed_dim, by=1.0):
        super().__init__(embed_dim=embed_dim)
        self.by = by

    def forward(self, tokens):
        return self.by * super().forward(tokens)
"""


def test_trials_run_where_the_command_was_given(tmp_path: Path) -> None:
    """Own parts and relative paths work in a trial as in `cct fit`."""
    (tmp_path / "my_lab.py").write_text(PART)
    own = {"class_path": "my_lab.Scaled", "init_args": {"by": 2.0}}
    one = {"model__arch": {"value": "cct_2_3x1"}, "model__pool": {"value": own}, "seed_everything": {"value": 0}}
    write_grid(tmp_path, **{**SMALL, **one}, data__cache_dir={"value": "cache"})
    # Everything from interpreters of its own, as a user has it.
    command = [sys.executable, "-m", "cct_lightning", "ablate", "small.yaml", "--out", "runs"]
    done = subprocess.run(
        command, cwd=tmp_path, env=dict(os.environ), capture_output=True, text=True, timeout=600, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "1 runs: 1 finished" in done.stdout
    assert (tmp_path / "cache").is_dir()
