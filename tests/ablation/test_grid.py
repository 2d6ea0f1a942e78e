"""Grids: what a file stands for, the same for W&B's agent as for Ray, and what is refused."""

import os
import queue
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from small_grid import GRID
from wandb.wandb_agent import Agent

from cct_lightning.ablation.check import check_runs
from cct_lightning.ablation.combine import file_name
from cct_lightning.ablation.grid import ablations, expand, find_grid, override, read_grid
from cct_lightning.errors import InputError

SWEEP = {
    **GRID,
    "parameters": {
        "model.pool": {"values": ["seqpool", "mean"]},
        "seed_everything": {"values": [0, 1]},
        "trainer.max_epochs": {"value": 1},
        "trainer.limit_train_batches": {"value": 2},
        "model.optim.warmup_epochs": {"value": 0},
        "tracking.group": {"value": "small"},
        "tracking.mode": {"value": "offline"},
    },
}


def write(folder: Path, **fields: object) -> Path:
    path = folder / "small.yaml"
    path.write_text(yaml.safe_dump({**SWEEP, **fields}, sort_keys=False))
    return path


def test_every_combination_once_in_the_order_of_the_file(tmp_path: Path) -> None:
    runs = expand(read_grid(write(tmp_path)))
    assert [run.name for run in runs] == [
        "pool=seqpool-seed0",
        "pool=seqpool-seed1",
        "pool=mean-seed0",
        "pool=mean-seed1",
    ]
    assert [run.variant for run in runs] == ["pool=seqpool", "pool=seqpool", "pool=mean", "pool=mean"]
    assert runs[3].arguments[:3] == ["--config=digits", "--model.pool=mean", "--seed_everything=1"]


def test_set_fixes_or_varies(tmp_path: Path) -> None:
    grid = override(read_grid(write(tmp_path)), ["seed_everything=[5, 6, 7]", "model.optim.lr=1e-3", "model.pool=max"])
    runs = expand(grid)
    assert [run.name for run in runs] == ["small-seed5", "small-seed6", "small-seed7"]
    assert {"--model.optim.lr=1e-3", "--model.pool=max"} <= set(runs[0].arguments)


def test_wandbs_agent_runs_the_same_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path)
    run = expand(read_grid(path))[3]
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    for name, value in (("WANDB_SWEEP_ID", "sweep123"), ("WANDB_DIR", str(tmp_path)), ("OMP_NUM_THREADS", "1")):
        monkeypatch.setenv(name, value)
    # Set by the agent; here so that they are removed afterwards.
    monkeypatch.setenv("WANDB_RUN_ID", "")
    monkeypatch.setenv("WANDB_SWEEP_PARAM_PATH", "")
    agent = Agent(None, queue.Queue(), in_jupyter=False)
    agent._sweep_command = list(SWEEP["command"])
    args = {key: {"value": value} for key, value in run.parameters.items()}
    agent._command_run({"run_id": "fromagent", "program": SWEEP["program"], "args": args})
    process = agent._run_processes["fromagent"]._popen
    assert process.args == ["/usr/bin/env", "cct", "fit", *run.arguments]
    assert process.wait(timeout=600) == 0
    [log] = tmp_path.glob("runs/digits-cct_2_3x1-pool=mean/*/wandb/offline-run-*/run-fromagent.wandb")
    command = [sys.executable, "-m", "wandb", "leet", "inspect", "--json", str(log)]
    records = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert "sweep123" in records
    assert '"small"' in records


def test_every_shipped_grid_is_read() -> None:
    asked = {"tokenizer_x_pool", "ladder", "position", "kernel_x_blocks", "pooling", "data_efficiency", "patch_size"}
    assert asked <= set(ablations())
    for name, path in ablations().items():
        grid = read_grid(path)
        assert grid.parameters["tracking.group"] == (name,)
        assert len({run.name for run in expand(grid)}) == len(expand(grid))


def test_every_variant_of_every_shipped_grid_would_start() -> None:
    for name, path in ablations().items():
        runs = expand(read_grid(path))
        variants = list({run.variant: run for run in runs}.values())
        costs = check_runs(variants, prepare=False)
        assert len({(cost.params, cost.macs) for cost in costs}) > 1, name
        assert all(cost.epochs >= 20 for cost in costs)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"method": "random"}, "method"),
        ({"methd": "grid"}, "Did you mean 'method'"),
        ({"parameters": {}}, "no parameters"),
        ({"parameters": {"model.pool": ["mean"]}}, "value"),
        ({"parameters": {"model.pool": {"values": "mean"}}}, "list"),
        ({"parameters": {"seed_everything": {"values": [0, 0]}}}, "twice"),
        ({"parameters": {"model.optim.lr": {"min": 0.0, "max": 1}}}, "is a range, and the method grid needs `values"),
        ({"parameters": {"model": {"parameters": {}}}}, "mapping of options"),
        ({"parameters": {"model": {"parameters": {"pool": {"value": 1}}}, "model.pool": {"value": 2}}}, "twice"),
        ({"parameters": {"run_dir": {"value": "x"}}}, "cannot be part"),
        ({"command": ["python", "train.py", "${args}"]}, "cct fit"),
        ({"command": ["${program}", "fit"]}, "cct fit"),
        ({"command": ["${program}", "fit", "${args_no_hyphens}", "${args}"]}, "cct fit"),
    ],
)
def test_a_bad_grid_is_refused(tmp_path: Path, fields: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        read_grid(write(tmp_path, **fields))


@pytest.mark.parametrize("content", ["a: [", "- a", "", "\x00"])
def test_a_file_that_is_no_grid_is_refused(tmp_path: Path, content: str) -> None:
    path = tmp_path / "bad.yaml"
    path.write_text(content)
    with pytest.raises(InputError):
        read_grid(path)


def test_a_misspelt_name_gets_a_hint() -> None:
    with pytest.raises(InputError, match="Did you mean 'ladder'"):
        find_grid("lader")


@pytest.mark.parametrize("setting", ["data.root", "=x", "run_dir=x", "seed_everything=[]"])
def test_a_bad_setting_is_refused(tmp_path: Path, setting: str) -> None:
    with pytest.raises(InputError, match="--set"):
        override(read_grid(write(tmp_path)), [setting])


def test_file_names_stay_apart() -> None:
    assert file_name("pool=mean", room=100) == "pool=mean"
    names = {
        file_name(text, room=30) for text in ("a/b", "a-b", "a b", "x" * 40, "x" * 41, "../..", "betas=[0.9, 0.95]")
    }
    assert len(names) == 7
    assert all(len(name) <= 30 and "/" not in name and not name.startswith(".") for name in names)
