"""`cct compare` of a search, and of grids with linked choices."""

import json
from pathlib import Path

import pytest

from cct_lightning.comparison.compare import compare
from cct_lightning.comparison.notes import notes
from cct_lightning.comparison.wandb_runs import to_run
from cct_lightning.config.parser import parse, plain
from cct_lightning.config.resolved import ResolvedConfig
from cct_lightning.runs.folder import RunFolder
from cct_lightning.runs.record import beside_sweep
from comparison.test_compare import done, write_run


def write_linked(folder: Path, size: str, depth: int, *, pool: str, score: float) -> None:
    write_run(folder, summary=done(score), model__pool=pool, model__depth=depth, model__embed_dim=64 * depth)
    linked = {"size": {"name": size, "options": ["model.depth", "model.embed_dim"]}}
    (folder / RunFolder.RECORD).write_text(json.dumps({"ablation": "mine", "linked": linked}))


def test_a_linked_choice_is_shown_by_its_name(tmp_path: Path) -> None:
    for i, pool in enumerate(("mean", "max")):
        write_linked(tmp_path / f"small-{pool}", "small", 1, pool=pool, score=0.5 + i / 10)
        write_linked(tmp_path / f"big-{pool}", "big", 2, pool=pool, score=0.7 + i / 10)
    comparison = compare(tmp_path)
    assert dict(comparison.options) == {"size": "size", "pool": "model.pool"}
    assert comparison.variants[0].name == "size=big, pool=max"
    by = compare(tmp_path, by=["size"], baseline="size=small")
    assert {variant.name: len(variant.results) for variant in by.variants} == {"size=big": 2, "size=small": 2}
    # Where the name says something else in another run, what it stands for is shown as well.
    write_linked(tmp_path / "other", "small", 3, pool="mean", score=0.9)
    assert set(compare(tmp_path).options) == {"size", "depth", "embed_dim", "pool"}


def test_a_sweep_of_wandb_is_compared_like_the_grid() -> None:
    """Of a nested group, W&B keeps what the sweep set, and lets a run say no more of it under that name."""
    words = ["--config=digits", "--model.pool=mean", "--model.depth=3", "--model.optim.lr=0.001"]
    config = ResolvedConfig.resolve(plain(parse("fit", words)))
    size = {"name": "big", "model.depth": 3}
    for sweep in (
        {"model": {"pool": "mean", "optim": {"lr": 0.001}}, "size": size},
        {"model.pool": "mean", "model.optim.lr": 0.001, "size": size},
    ):
        kept = {**sweep, **beside_sweep(config, sweep)}
        run = to_run({"name": "a", "state": "finished", "config": kept, "summary": {}})
        assert run.config.results == config.results
        assert run.linked == {"size": {"name": "big", "options": ["model.depth"]}}
    other = to_run({"name": "a", "state": "finished", "config": {"size": {"name": "x", "depth": 3}}, "summary": {}})
    assert other.linked == {}


@pytest.fixture
def search(tmp_path: Path) -> Path:
    """Sixteen runs with rates of their own, of which the larger half is better, and a pooling that does not matter."""
    for i in range(16):
        folder = tmp_path / f"{i:02}"
        summary = {"status": "finished", "best_val/acc": 0.5 + 0.2 * (i >= 8) + 0.001 * i}
        if i in (2, 5):
            summary |= {"status": "stopped", "epochs": i}
        write_run(folder, summary=summary, model__pool=("mean", "max")[i % 2], model__optim={"lr": 0.001 * (i + 1)})
        (folder / RunFolder.RECORD).write_text(json.dumps({"ablation": "mine", "method": "random", "index": i}))
    return tmp_path


def test_the_best_run_what_matters_and_what_was_stopped(search: Path) -> None:
    comparison = compare(search)
    assert comparison.metric == "best_val/acc"
    best, shares, stopped, *others = notes(comparison)
    assert best.startswith("Best of 16 runs: ")
    assert "71.50 % (15); `cct fit " in best
    assert "repeats it, and tests it" in best
    # Each rate is there once, and would explain everything by itself: so they are taken together.
    assert "numbers in 3 parts of as many runs: lr 67 %" in shares
    assert "pool 0 %" in shares
    assert stopped == "Stopped early by early_terminate: 2 of 16 runs, after epoch 2 to 5."
    assert not any("One seed" in line for line in others)
    assert "Stopped: 02, 05." in others


def note_metric(folder: Path, name: str) -> None:
    for file in folder.glob(f"*/{RunFolder.RECORD}"):
        RunFolder(file.parent).note(metric=name)


def test_the_best_is_by_the_metric_of_the_search(search: Path) -> None:
    note_metric(search, "val/loss")
    best, *_ = notes(compare(search))
    assert best.startswith("Best of 16 runs by best_val/acc: ")
    assert best.endswith("The search chose by val/loss, whose best the runs did not keep.")
    for i, file in enumerate(sorted(search.glob(f"*/{RunFolder.SUMMARY}"))):
        summary = json.loads(file.read_text())
        file.write_text(json.dumps({**summary, "best_val/loss": 0.1 + i}))
    best, *_ = notes(compare(search))
    assert best.startswith("Best of 16 runs by best_val/loss: ")
    assert "0.1000 (00); `cct fit " in best
    note_metric(search, "val/acc")
    assert notes(compare(search))[0].startswith("Best of 16 runs: ")


def test_a_grid_beside_a_search_is_not_of_it(search: Path) -> None:
    write_run(search / "grid", summary={"status": "finished", "best_val/acc": 0.99}, model__pool="seqpool")
    best, _, stopped, *others = notes(compare(search))
    assert best.startswith("Best of 16 runs: ")
    assert "71.50 % (15)" in best
    assert "2 of 16 runs" in stopped
    (single,) = [line for line in others if line.startswith("One seed")]
    assert single.count("pool=") == 1


def test_other_runs_are_no_search(tmp_path: Path) -> None:
    for seed, pool in enumerate(("mean", "max")):
        write_run(tmp_path / pool, seed=seed, summary=done(0.5), model__pool=pool)
    assert not any("Best of" in line for line in notes(compare(tmp_path)))
