"""Searches: what is drawn is the same each time, what was found is known, and test images choose nothing."""

import json
import math
import os
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from small_grid import GRID, environment
from small_grid import cct as command_of

from cct_lightning.ablation import trial
from cct_lightning.ablation.check import check_runs
from cct_lightning.ablation.grid import Grid, expand, override, read_grid
from cct_lightning.ablation.plan import Planned, make_plan
from cct_lightning.ablation.to_wandb import write_sweep
from cct_lightning.ablation.trial import job_of, run_job, write_job
from cct_lightning.ablation.values import Distribution, read_values
from cct_lightning.commands.ablate import ablate
from cct_lightning.comparison.compare import compare
from cct_lightning.comparison.notes import notes
from cct_lightning.config.parser import parse
from cct_lightning.errors import InputError
from cct_lightning.runs.folder import RunFolder
from cct_lightning.runs.state import read_state
from cct_lightning.system.machine import cores

pytestmark = pytest.mark.slow

Cct = Callable[..., tuple[int, str, str]]
SPACE: dict[str, Any] = {
    "model.pool": {"values": ["mean", "max", "seqpool"]},
    "model.optim.lr": {"distribution": "log_uniform_values", "min": 1e-5, "max": 1e-2},
    "model.depth": {"min": 1, "max": 2},
    "trainer.max_epochs": {"value": 3},
    "model.optim.warmup_epochs": {"value": 0},
    "tracking.mode": {"value": "disabled"},
}
SEARCH = {
    **GRID,
    "method": "random",
    "run_cap": 12,
    "metric": {"name": "val/acc", "goal": "maximize"},
    "parameters": SPACE,
}
HYPERBAND = {"type": "hyperband", "min_iter": 1}


def write(folder: Path, **fields: Any) -> Path:
    path = folder / "mine.yaml"
    path.write_text(yaml.safe_dump({**SEARCH, **fields}, sort_keys=False))
    return path


def search(folder: Path, **fields: Any) -> Grid:
    return read_grid(write(folder, **fields))


def test_the_same_is_drawn_each_time(tmp_path: Path) -> None:
    runs = expand(search(tmp_path))
    assert runs == expand(search(tmp_path))
    assert len({run.name for run in runs}) == 12
    # A search that grows keeps its runs, and another option does not change what is drawn for these.
    assert expand(search(tmp_path, run_cap=20))[:12] == runs
    more = {**SPACE, "model.kernel_size": {"values": [3, 5]}}
    rates = [run.parameters["model.optim.lr"] for run in expand(search(tmp_path, parameters=more))]
    assert rates == [run.parameters["model.optim.lr"] for run in runs]
    assert expand(search(tmp_path, sampler_seed=1)) != runs
    # Frozen: another version must plan the runs that exist.
    assert runs[0].name == FIRST


FIRST = "pool=mean-lr=0.0008573-depth=2"


def test_test_images_choose_nothing(tmp_path: Path) -> None:
    (item, *_) = make_plan(check_runs(expand(search(tmp_path))[:1], prepare=False), tmp_path / "runs")
    assert "--test_best=False" in job_of(item, threads=1).arguments
    assert parse("fit", job_of(item, threads=1).arguments).test_best is False
    given = {**SPACE, "test_best": {"value": True}}
    assert expand(search(tmp_path, parameters=given))[0].defaults == {}


def test_exclusions_are_drawn_anew(tmp_path: Path) -> None:
    runs = expand(search(tmp_path, exclude=[{"pool": "mean"}, {"pool": "max", "depth": 2}]))
    assert {(run.parameters["model.pool"], run.parameters["model.depth"]) for run in runs} == {
        ("max", 1), ("seqpool", 1), ("seqpool", 2),
    }  # fmt: skip


def test_a_small_space_is_tried_once(tmp_path: Path) -> None:
    wide = {**SPACE, "model.optim.lr": {"values": [1e-4 * i for i in range(1, 31)]}}
    assert len(expand(search(tmp_path, parameters=wide, run_cap=180))) == 180
    small = {**SPACE, "model.optim.lr": {"value": 1e-3}}
    assert len(expand(search(tmp_path, parameters=small, run_cap=6))) == 6
    with pytest.raises(InputError, match="finds 6 different combinations and run_cap is 7"):
        expand(search(tmp_path, parameters=small, run_cap=7))


def test_set_fixes_or_replaces_what_is_drawn(tmp_path: Path) -> None:
    runs = expand(override(search(tmp_path), ["model.depth=1", "model.pool=[max, mean]"]))
    assert {(run.parameters["model.depth"], run.parameters["model.pool"]) for run in runs} == {
        ("1", "max"),
        ("1", "mean"),
    }


def draws(**entry: Any) -> list[Any]:
    (found,) = read_values("grid.yaml", {"x": entry}, draws=True).values()
    assert isinstance(found, Distribution)
    # What is written to a run's folder, and read there, is the same.
    (again,) = read_values("grid.yaml", {"x": json.loads(json.dumps(found.plain()))}, draws=True).values()
    assert isinstance(again, Distribution)
    places = [found.place((i + 0.5) / 1000) for i in range(1000)]
    assert [again.at(place) for place in places] == [found.at(place) for place in places]
    return [found.at(place) for place in places]


@pytest.mark.parametrize(
    ("entry", "low", "median", "high"),
    [
        ({"min": 0.0, "max": 2}, 0, 1, 2),
        ({"min": 1, "max": 3}, 1, 2, 3),
        ({"distribution": "uniform", "min": 1, "max": 3}, 1, 2, 3),
        ({"distribution": "log_uniform_values", "min": 0.01, "max": 1}, 0.01, 0.1, 1),
        ({"distribution": "inv_log_uniform_values", "min": 0.01, "max": 1}, 0.01, 0.1, 1),
        ({"distribution": "log_uniform", "min": -2, "max": 2}, 0.1353, 1, 7.389),
        ({"distribution": "inv_log_uniform", "min": -2, "max": 4}, 0.0183, 0.368, 7.389),
        ({"distribution": "q_uniform", "min": 0, "max": 1, "q": 0.25}, 0, 0.5, 1),
        ({"distribution": "q_log_uniform_values", "min": 8, "max": 128, "q": 8}, 8, 32, 128),
        ({"distribution": "normal", "mu": 5, "sigma": 0.1}, 4.67, 5, 5.33),
        ({"distribution": "q_normal", "mu": 5, "sigma": 1, "q": 1}, 2, 5, 8),
        ({"distribution": "log_normal", "mu": 0, "sigma": 0.1}, 0.72, 1, 1.39),
        ({"distribution": "q_log_normal", "mu": 3, "sigma": 0.1, "q": 4}, 16, 20, 28),
    ],
)
def test_distributions_are_wandbs(entry: dict[str, Any], low: float, median: float, high: float) -> None:
    found = draws(**entry)
    assert (min(found), statistics.median(found), max(found)) == pytest.approx((low, median, high), rel=0.01, abs=0.004)
    # What is named and printed is what is computed with.
    assert all(float(str(value)) == value for value in found)


def test_values_are_drawn_by_their_probabilities() -> None:
    assert [draws(values=["a", "b"]).count(value) for value in "ab"] == [500, 500]
    found = draws(values=["a", "b", "c"], probabilities=[0.5, 0.0, 0.5])
    assert [found.count(value) for value in "abc"] == [500, 0, 500]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"method": "hyperopt"}, "choose grid, random, bayes"),
        ({"run_cap": None}, "needs run_cap"),
        ({"metric": {"name": "test/acc", "goal": "maximize"}}, "metric of the validation"),
        ({"metric": None}, "needs a metric"),
        ({"metric": {"name": "val/accc", "goal": "maximize"}}, "which no run logs: .*Did you mean 'val/acc'"),
        ({"metric": {"name": "val/acc"}}, "for val/acc write goal: maximize"),
        ({"seeds": 3}, "for grids"),
        ({"design": "one_at_a_time"}, "for grids"),
        ({"sampler_seed": "x"}, "whole number"),
        ({"parameters": {"model.pool": {"value": "mean"}}}, "searches nothing"),
        ({"parameters": {"model.depth": {"distribution": "beta"}}}, "does not draw from"),
        ({"parameters": {"model.depth": {"distribution": "uniforn", "min": 0, "max": 1}}}, "Did you mean 'uniform'"),
        ({"parameters": {"model.depth": {"distribution": "uniform", "min": 0}}}, "needs max"),
        ({"parameters": {"model.depth": {"min": 3, "max": 1}}}, "min must be less"),
        ({"parameters": {"model.optim.lr": {"min": "1e-4", "max": 1}}}, "Write 1.0e-4, not 1e-4"),
        ({"parameters": {"model.depth": {"distribution": "log_uniform_values", "min": 0, "max": 1}}}, "begins above 0"),
        ({"parameters": {"model.depth": {"values": [1, 2], "probabilities": [1]}}}, "add up to 1"),
        ({"parameters": {"model.depth": {"min": 1, "max": 2, "mu": 1}}}, "cannot have 'mu'"),
        ({"early_terminate": {"type": "envelope"}}, "type hyperband"),
        ({"early_terminate": {"type": "hyperband"}}, "needs min_iter, or max_iter and s"),
        ({"early_terminate": {**HYPERBAND, "eta": 1}}, "eta above 1"),
        ({"early_terminate": {**HYPERBAND, "mini_iter": 1}}, "Did you mean 'min_iter'"),
        ({"method": "grid", "parameters": GRID["parameters"], "metric": None, "early_terminate": HYPERBAND}, "metric"),
    ],
)
def test_what_a_search_cannot_be_is_one_sentence(tmp_path: Path, fields: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        search(tmp_path, **fields)


def test_bands_are_wandbs(tmp_path: Path) -> None:
    def bands(**fields: Any) -> tuple[int, ...]:
        rule = search(tmp_path, early_terminate={"type": "hyperband", **fields}).hyperband
        assert rule is not None
        return rule.bands

    assert bands(min_iter=3)[:4] == (3, 9, 27, 81)
    assert bands(min_iter=2, eta=1.5)[:4] == (2, 3, 4, 6)
    assert bands(max_iter=27, s=2) == (3, 9)


def test_dry_run_status_and_array(tmp_path: Path, cct: Cct, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for method, name in (("random", FIRST), ("bayes", "trial-000")):
        path = write(tmp_path, method=method, early_terminate=HYPERBAND)
        out = cct("ablate", str(path), "--dry-run", "--out", method)[1]
        assert "12 runs: 12 waiting" in out
        assert name in out
        assert not (tmp_path / method).exists()
        item = make_plan(check_runs(expand(read_grid(path)), prepare=False), tmp_path / method / "mine")[0]
        item.write_record()
        write_job(item)  # what an array's task finds
        assert RunFolder(item.folder).record()["early_terminate"]["bands"][:2] == [1, 3]
        assert "12 waiting" in cct("ablate", str(path), "--status", "--out", method)[1]


def test_wandb_gets_a_search_that_tests_nothing(tmp_path: Path) -> None:
    path, target = write(tmp_path, sampler_seed=3), tmp_path / "sweep.yaml"
    write_sweep(read_grid(path), path, str(target))
    written = yaml.safe_load(target.read_text())
    assert written["parameters"]["test_best"] == {"value": False}
    assert written["parameters"]["model.optim.lr"] == SPACE["model.optim.lr"]
    assert "sampler_seed" not in written
    write(tmp_path, exclude=[{"pool": "mean"}])
    with pytest.raises(InputError, match="cannot exclude combinations of a search"):
        write_sweep(read_grid(path), path, str(target))


@pytest.mark.parametrize(
    ("log", "reason"),
    [
        (
            "Traceback (most recent call last):\n  File a\n    x = 1\nmy_lab.Bad: no\n  more\nwandb: synced\n",
            "my_lab.Bad: no",
        ),
        ("Traceback (most recent call last):\nKeyError: 1\nTraceback (most recent call last):\nA: 2\n", "A: 2"),
        (
            "Traceback (most recent call last):\n  File a\nKeyError: 1\ncct fit: No space left.\n",
            "cct fit: No space left.",
        ),
        ("epoch 1\nBus error\n", "Bus error"),
        ("", "no message"),
    ],
)
def test_why_a_run_failed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, log: str, reason: str) -> None:
    command = [sys.executable, "-c", f"import sys; sys.stderr.write({log!r}); sys.exit(1)"]
    popen = subprocess.Popen
    monkeypatch.setattr(trial.subprocess, "Popen", lambda _, **options: popen(command, **options))
    run_job(trial.Job(folder=str(tmp_path), arguments=["x"], threads=1, attempts=1, cwd=str(tmp_path)))
    assert read_state(tmp_path).reason == f"{reason} (exit code 1)"


# ---- bayes ----------------------------------------------------------------------------------------------------------


def planned(folder: Path, **fields: Any) -> list[Planned]:
    runs = expand(search(folder, **{"method": "bayes", "run_cap": 16, **fields}))
    checked = vars(check_runs(runs[:1], prepare=False)[0])
    return [Planned(**{**checked, "run": run}, folder=folder / run.name, state=read_state(folder)) for run in runs]


def finish(files: RunFolder, accuracy: float, status: str = "finished") -> None:
    (files / files.METRICS).write_text(f"epoch,step,val/acc\n1,9,{accuracy}\n")
    (files / files.SUMMARY).write_text(json.dumps({"status": status, "best_val/acc": accuracy, "epochs": 1}))


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """The words of the runs that were started, in place of training them."""
    pytest.importorskip("optuna", reason="Optuna is not installed: pip install 'cct_lightning[search]'")
    found: list[list[str]] = []

    def attempt(job: trial.Job, files: RunFolder, *_: Any) -> int:
        found.append(job.arguments)
        # The best rate is 1e-3, and the other options do not matter.
        rate = float(next(word.partition("=")[2] for word in job.arguments if word.startswith("--model.optim.lr=")))
        finish(files, 1 / (1 + _error(rate)))
        return 0

    monkeypatch.setattr(trial, "_attempt", attempt)
    return found


def _error(rate: float) -> float:
    return abs(math.log10(rate / 1e-3))


def test_bayes_chooses_by_what_was_found(tmp_path: Path, started: list[list[str]]) -> None:
    alone = {**SPACE, "model.pool": {"value": "mean"}, "model.depth": {"value": 1}}
    plan = planned(tmp_path, run_cap=30, parameters=alone)
    for item in plan:
        item.write_record()
        assert run_job(job_of(item, threads=1)) == "finished"
    rates = [RunFolder(item.folder).record()["chosen"]["model.optim.lr"] for item in plan]
    errors = [_error(rate) for rate in rates]
    # The first ones are those that `random` draws; what follows is nearer to the best rate.
    assert rates[:10] == [run.parameters["model.optim.lr"] for run in expand(search(tmp_path, parameters=alone))[:10]]
    assert statistics.mean(errors[20:]) < 0.75 * statistics.mean(errors[:10])
    record = RunFolder(plan[-1].folder).record()
    assert {"--test_best=False", f"--model.optim.lr={record['chosen']['model.optim.lr']}"} <= set(started[-1])
    assert started[-1][-1] == f"--run_dir={plan[-1].folder}"
    assert record["parameters"]["trainer.max_epochs"] == 3
    assert record["variant"] == f"lr={record['chosen']['model.optim.lr']}"


def test_bayes_goes_on_after_a_kill(tmp_path: Path, started: list[list[str]]) -> None:
    plan = planned(tmp_path)
    for item in plan[:12]:
        item.write_record()
        run_job(job_of(item, threads=1))
    before = RunFolder(plan[11].folder).record()["chosen"]
    # One that was interrupted keeps its values; one that was killed before it chose any gets the same in the end.
    (plan[11].folder / RunFolder.SUMMARY).write_text('{"status": "interrupted"}')
    for item in planned(tmp_path)[11:13]:
        item.write_record()
        run_job(job_of(item, threads=1))
    assert RunFolder(plan[11].folder).record()["chosen"] == before
    first = RunFolder(plan[12].folder).record()["chosen"]
    for name in (RunFolder.RECORD, RunFolder.SUMMARY, RunFolder.METRICS):
        (plan[12].folder / name).unlink()
    plan[12].write_record()
    run_job(job_of(plan[12], threads=1))
    assert RunFolder(plan[12].folder).record()["chosen"] == first


def test_bayes_knows_stopped_failed_and_running_ones(tmp_path: Path, started: list[list[str]]) -> None:
    plan = planned(tmp_path)
    for item in plan[:13]:
        item.write_record()
        run_job(job_of(item, threads=1))
    finish(RunFolder(plan[0].folder), 0.1, "stopped")
    RunFolder(plan[1].folder).note(reason="out of memory")
    (plan[1].folder / RunFolder.SUMMARY).unlink()
    (plan[2].folder / RunFolder.SUMMARY).write_text('{"status": "running"}')
    plan[13].write_record()
    assert run_job(job_of(plan[13], threads=1)) == "finished"


def test_bayes_tries_nothing_twice(tmp_path: Path, started: list[list[str]]) -> None:
    small = {**SPACE, "model.optim.lr": {"values": [1e-3, 2e-3]}}
    small = {**small, "model.pool": {"value": "mean"}, "model.depth": {"values": [1, 2]}}
    plan = planned(tmp_path, parameters=small, run_cap=4)
    states = []
    for item in plan:
        item.write_record()
        states.append(run_job(job_of(item, threads=1)))
    assert states == ["finished"] * 4
    assert len({RunFolder(item.folder).record()["variant"] for item in plan}) == 4


def test_what_goes_wrong_in_choosing_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(files: RunFolder) -> None:
        raise RuntimeError("of Optuna's")

    monkeypatch.setattr("cct_lightning.ablation.bayes.choose", broken)
    item = planned(tmp_path)[0]
    item.write_record()
    assert run_job(job_of(item, threads=1)) == "failed"
    state = read_state(item.folder)
    assert (state.status, state.reason) == ("failed", "RuntimeError: of Optuna's")


def test_another_search_needs_another_folder(tmp_path: Path) -> None:
    for item in planned(tmp_path)[:1]:
        item.write_record()
    other = {**SPACE, "model.depth": {"min": 1, "max": 3}}
    runs = check_runs(expand(search(tmp_path, method="bayes", parameters=other))[:1], prepare=False)
    with pytest.raises(InputError, match="holds a run of another search"):
        make_plan(runs, tmp_path)
    # More runs, and what is left out, make no other search.
    runs = check_runs(
        expand(search(tmp_path, method="bayes", run_cap=40, exclude=[{"pool": "max"}]))[:1], prepare=False
    )
    assert make_plan(runs, tmp_path)[0].folder == tmp_path / "trial-000"


def test_bayes_needs_optuna(tmp_path: Path, cct: Cct, monkeypatch: pytest.MonkeyPatch) -> None:
    from importlib.util import find_spec

    def without(name: str) -> Any:
        return None if name == "optuna" else find_spec("yaml")

    monkeypatch.setattr("cct_lightning.system.importing.find_spec", without)
    code, _, err = cct("ablate", str(write(tmp_path, method="bayes")), "--out", str(tmp_path / "runs"))
    assert code == 2
    assert "the method bayes needs optuna, not installed here: pip install 'cct_lightning[search]'" in err


# ---- the real thing -------------------------------------------------------------------------------------------------


def test_a_search_that_was_killed_goes_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The first run trains well; the one after it learns nothing and is stopped after its first epoch."""
    pytest.importorskip("ray", reason="Ray is not installed: pip install 'cct_lightning[ablate]'")
    one = {"model.pool": {"value": "mean"}, "model.depth": {"value": 1}, "trainer.max_epochs": {"value": 2}}
    one["model.embed_dim"] = {"value": 32}
    parameters = {**SPACE, **one, "model.optim.lr": {"values": [3e-3, 1e-6]}}
    # The sampler's seed is one that draws the good rate first.
    grid = write(tmp_path, run_cap=2, early_terminate=HYPERBAND, parameters=parameters, sampler_seed=1)
    runs = expand(read_grid(grid))
    assert runs[0].parameters["model.optim.lr"] == 3e-3
    good, bad = (tmp_path / "runs" / "mine" / run.name for run in runs)
    one_at_a_time = ["--cpus_per_run", str(cores())]
    command = command_of("ablate", str(grid), "--out", str(tmp_path / "runs"), *one_at_a_time)
    with (tmp_path / "out.txt").open("w") as out:
        engine = subprocess.Popen(command, env=environment(), stdout=out, stderr=out)
        while read_state(bad).status != "running":
            assert engine.poll() is None, (tmp_path / "out.txt").read_text()
            time.sleep(0.1)
        os.kill(engine.pid, signal.SIGKILL)
        engine.wait()
    kept = (good / RunFolder.SUMMARY).read_bytes()
    done = subprocess.run(command, env=environment(), capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "2 runs: 1 finished, 1 stopped" in done.stdout
    assert (good / RunFolder.SUMMARY).read_bytes() == kept
    assert [read_state(folder).epoch for folder in (good, bad)] == [2, 1]
    # Nothing is left to do, so no engine starts.
    ablate(str(grid), out=str(tmp_path / "runs"))
    assert "2 runs, 2 finished before" in capsys.readouterr().out

    comparison = compare(good.parent)
    assert comparison.metric == "best_val/acc"
    said = "\n".join(notes(comparison))
    assert f"Best of 2 runs: lr=0.003, {100 * json.loads(kept)['best_val/acc']:.2f} % ({runs[0].name})" in said
    assert "Stopped early by early_terminate: 1 of 2 runs, after epoch 1." in said
