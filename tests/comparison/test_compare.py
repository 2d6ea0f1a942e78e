"""Comparison of run folders: groups, statistics against SciPy, what is shown beside them, formats."""

import csv
import io
import json
import math
from pathlib import Path
from typing import Any

import pytest
import yaml
from rich.console import Console
from scipy import stats

from cct_lightning.commands.compare import compare
from cct_lightning.comparison.notes import method, notes
from cct_lightning.comparison.runs import Run, read_runs, values_of
from cct_lightning.comparison.statistics import Difference
from cct_lightning.comparison.tables import layout, to_csv, to_terminal
from cct_lightning.comparison.variants import compare_runs
from cct_lightning.comparison.wandb_runs import to_run
from cct_lightning.config.resolved import ResolvedConfig
from cct_lightning.errors import InputError

CONFIG = {
    "seed_everything": 0,
    "model": {"arch": "cct_2_3x1", "pool": "seqpool", "optim": {"lr": 1e-3, "muon_lr": None}},
    "data": {"name": "digits", "root": None, "num_workers": None},
    "trainer": {"max_epochs": 3},
    "tracking": {"name": None, "tags": []},
}
SCORES = {"seqpool": [0.91, 0.93, 0.92], "mean": [0.90, 0.91, 0.905], "max": [0.80, 0.85, 0.81]}


def write_run(folder: Path, *, seed: int = 0, summary: dict[str, Any] | None = None, **options: Any) -> Path:
    """Write what `cct fit` leaves; options are dotted, with __ for a dot."""
    config = json.loads(json.dumps({**CONFIG, "seed_everything": seed}))
    for key, value in options.items():
        *path, last = key.split("__")
        place = config
        for part in path:
            place = place[part]
        place[last] = value
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text(yaml.safe_dump(config, sort_keys=False, allow_unicode=True))
    (folder / "summary.json").write_text(json.dumps(summary if summary is not None else {"status": "running"}))
    return folder


def done(accuracy: float, **more: Any) -> dict[str, Any]:
    return {"status": "finished", "test/acc": accuracy, "params": 100, "macs": 2_000_000, "seconds": 10.0, **more}


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    for pool, scores in SCORES.items():
        for seed, score in enumerate(scores):
            options = {"model__pool": pool, "tracking__name": f"{pool}{seed}", "data__num_workers": seed}
            write_run(tmp_path / pool / str(seed), seed=seed, summary=done(score), **options)
    return tmp_path


def test_runs_are_grouped_by_what_differs_and_sorted(runs: Path) -> None:
    comparison = compare_runs(read_runs([str(runs)]))
    assert dict(comparison.options) == {"pool": "model.pool"}
    assert [variant.values["pool"] for variant in comparison.variants] == ["seqpool", "mean", "max"]
    frame = comparison.table
    assert frame["n"].tolist() == [3, 3, 3]
    assert frame["mean"].tolist() == pytest.approx([0.92, 0.905, 0.82])
    assert frame["std"].tolist() == pytest.approx([0.01, 0.005, 0.0264575], abs=1e-6)


def test_differences_are_scipys(runs: Path) -> None:
    comparison = compare_runs(read_runs([str(runs)]), baseline="pool=mean")
    ours, base = SCORES["seqpool"], SCORES["mean"]
    delta = comparison.to_baseline(comparison.variants[0])
    assert delta is not None
    test = stats.ttest_rel(ours, base)
    interval = test.confidence_interval(0.95)
    assert (delta.mean, delta.low, delta.high) == pytest.approx((0.015, interval.low, interval.high))
    assert delta.p == pytest.approx(test.pvalue)
    assert (delta.paired, delta.n) == (True, 3)
    assert comparison.to_baseline(comparison.variants[1]) is None


def write_two(folder: Path, ours: dict[int, float], base: dict[int, float]) -> Difference:
    """Write runs of two variants, each seed -> accuracy, and return their difference."""
    for pool, scores in (("seqpool", ours), ("mean", base)):
        for seed, score in scores.items():
            write_run(folder / pool / str(seed), seed=seed, summary=done(score), model__pool=pool)
    comparison = compare_runs(read_runs([str(folder)]), baseline="pool=mean")
    return next(delta for v in comparison.variants if (delta := comparison.to_baseline(v)) is not None)


def test_runs_are_paired_where_one_side_has_all_seeds_of_the_other(tmp_path: Path) -> None:
    delta = write_two(tmp_path, {1: 0.61, 5: 0.655}, {1: 0.51, 5: 0.55, 9: 0.9})
    assert (delta.paired, delta.n, delta.mean) == (True, 2, pytest.approx(0.1025))
    assert delta.p == pytest.approx(stats.ttest_1samp([0.1, 0.105], 0).pvalue)


def test_other_seeds_are_compared_by_welchs_test(tmp_path: Path) -> None:
    ours, base = {0: 0.6, 1: 0.61, 5: 0.655}, {1: 0.51, 5: 0.55, 9: 0.9, 10: 0.5}
    delta = write_two(tmp_path, ours, base)
    test = stats.ttest_ind(list(ours.values()), list(base.values()), equal_var=False)
    interval = test.confidence_interval(0.95)
    assert not delta.paired
    assert (delta.low, delta.high, delta.p) == pytest.approx((interval.low, interval.high, test.pvalue))


def test_one_seed_has_no_deviation_and_equal_runs_no_interval(tmp_path: Path) -> None:
    write_run(tmp_path / "a", summary=done(0.5))
    write_run(tmp_path / "b", summary=done(0.6), model__pool="mean")
    comparison = compare_runs(read_runs([str(tmp_path)]))
    assert math.isnan(comparison.table["std"][0])
    assert "60.00** |" in comparison.markdown()
    assert "+10.00 |" in comparison.markdown()
    assert "nan" not in comparison.markdown() + comparison.latex()


def test_unfinished_runs_are_shown(runs: Path) -> None:
    write_run(runs / "x", seed=9, model__pool="max", summary={"status": "failed", "reason": "ValueError: no"})
    write_run(runs / "y", seed=9, model__pool="mean", summary={"status": "running"})
    early = runs / "z"
    early.mkdir()
    record = {"parameters": {"model.pool": "none"}, "reason": "No data (exit code 2)", "index": 7}
    (early / "ablation.json").write_text(json.dumps(record))
    comparison = compare_runs(read_runs([str(runs)]))
    lines = notes(comparison)
    assert "Failed: x (ValueError: no), z (No data (exit code 2))." in lines
    assert "Still running: y." in lines
    assert dict(comparison.options) == {"pool": "model.pool"}
    table = comparison.markdown()
    assert "| max | 3 of 4 |" in table
    assert "| none | 0 of 1 |" in table
    assert comparison.variants[-1].values["pool"] == "none"


def test_repeated_seeds_are_told(tmp_path: Path) -> None:
    for i in range(2):
        write_run(tmp_path / str(i), seed=3, summary=done(0.5))
    comparison = compare_runs(read_runs([str(tmp_path)]))
    assert "Runs repeat a seed and count as one in the tests: all runs." in notes(comparison)
    assert list(comparison.variants[0].samples) == [3]


def test_the_first_of_a_grid_is_the_baseline(runs: Path) -> None:
    for pool, index in (("seqpool", 6), ("mean", 0), ("max", 3)):
        for seed in range(3):
            record = {"index": index + seed, "parameters": {}}
            (runs / pool / str(seed) / "ablation.json").write_text(json.dumps(record))
    baseline = compare_runs(read_runs([str(runs)])).baseline
    assert baseline is not None
    assert baseline.values == {"pool": "mean"}


def test_by_and_metric(runs: Path) -> None:
    found = read_runs([str(runs)])
    assert len(compare_runs(found, by=["arch"]).variants) == 1
    assert list(compare_runs(found, by=["model.pool", "max_epochs"]).options) == ["pool", "max_epochs"]
    assert compare_runs(found, metric="seconds").metric == "seconds"
    with pytest.raises(InputError, match=r"Did you mean 'model.pool'"):
        compare_runs(found, by=["model.pol"])
    with pytest.raises(InputError, match=r"the runs differ in model.pool. Did you mean 'pool'"):
        compare_runs(found, by=["pol"])
    with pytest.raises(InputError, match="Did you mean 'test/acc'"):
        compare_runs(found, metric="test/ac")
    with pytest.raises(InputError, match="fits 0"):
        compare_runs(found, baseline="pool=none")


def test_code_that_others_do_not_use_is_no_difference(tmp_path: Path) -> None:
    own = {"model__pool": "my_lab.Pool", "code": {"my_lab": "abc"}}
    for seed in range(2):
        write_run(tmp_path / "own" / str(seed), seed=seed, summary=done(0.8), **own)
        write_run(tmp_path / "ours" / str(seed), seed=seed, summary=done(0.7), model__pool="mean")
    assert list(compare_runs(read_runs([str(tmp_path)])).options) == ["pool"]
    write_run(tmp_path / "changed", summary=done(0.8), **{**own, "code": {"my_lab": "def"}})
    assert list(compare_runs(read_runs([str(tmp_path)])).options) == ["pool", "my_lab"]


def test_losses_rise_downwards(runs: Path) -> None:
    for i, folder in enumerate(sorted(runs.glob("*/*"))):
        summary = json.loads((folder / "summary.json").read_text())
        (folder / "summary.json").write_text(json.dumps({**summary, "test/loss": i + 1.0}))
    means = compare_runs(read_runs([str(runs)]), metric="test/loss").table["mean"].tolist()
    assert means == sorted(means)


def test_formats(runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_run(runs / "markup", model__pool="a|b_<i>&%$#{}~^\\", summary=done(0.7))
    comparison = compare_runs(read_runs([str(runs)]))
    rows = list(csv.DictReader(io.StringIO(to_csv(comparison))))
    assert float(rows[0]["mean"]) == pytest.approx(0.92)
    assert rows[-1]["pool"] == "a|b_<i>&%$#{}~^\\"
    assert r"a\|b\_&lt;i&gt;&amp;%$#{}\~^\\" in comparison.markdown()
    latex = comparison.latex()
    assert (
        r"a\textbar{}b\_\textless{}i\textgreater{}\&\%\$\#\{\}\textasciitilde{}\textasciicircum{}\textbackslash{}"
        in latex
    )
    assert r"& \bfseries 92.00 \pm 1.00 &" in latex
    assert {line.count("&") - line.count(r"\&") for line in latex.splitlines() if line.endswith(r"\\")} == {4}
    for name in ("terminal", "markdown", "csv", "latex"):
        compare(str(runs), format=name)
        assert "seqpool" in capsys.readouterr().out
    out = tmp_path / "table.tex"
    compare(str(runs), format="latex", out=str(out))
    assert out.read_text() == latex
    with pytest.raises(InputError, match="Cannot write"):
        compare(str(runs), format="csv", out=str(tmp_path / "no" / "x.csv"))


def test_damaged_folders_do_not_stop_the_comparison(runs: Path) -> None:
    (runs / "max" / "0" / "summary.json").write_text("{")
    (runs / "max" / "1" / "config.yaml").write_text("a: [")
    (runs / "max" / "2" / "config.yaml").write_bytes(b"\xff\xfe")
    comparison = compare_runs(read_runs([str(runs)]))
    assert len(comparison.runs) == 9
    assert {"seqpool", "mean"} <= {variant.values["pool"] for variant in comparison.variants}


@pytest.mark.parametrize("name", ["nowhere", "empty"])
def test_no_runs_is_bad_input(tmp_path: Path, name: str) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=name):
        compare(str(tmp_path / name))


def test_a_project_must_be_named_in_full() -> None:
    with pytest.raises(InputError, match="ENTITY/PROJECT"):
        compare(wandb="project")
    with pytest.raises(InputError, match="No runs"):
        compare()
    with pytest.raises(InputError, match="--wandb"):
        compare("project", group="x")


def test_records_of_wandbs_api_become_runs() -> None:
    """The API itself cannot be asked here: these are dicts of the shape that `wandb.Api().runs` gives."""
    record = {
        "name": "pool=mean-seed1",
        "state": "finished",
        "config": {**CONFIG, "seed_everything": 1, "_wandb": {"x": 1}, "environment": {"torch": "2"}},
        "summary": {**done(0.9), "_step": 12, "_runtime": 3},
    }
    run = to_run(record)
    config = ResolvedConfig.resolve({**CONFIG, "seed_everything": 1, "environment": {"torch": "2"}})
    assert run == Run(name="pool=mean-seed1", status="finished", config=config, summary=done(0.9))
    assert run.seed == 1
    assert "_wandb.x" not in run.config.flat
    assert to_run({**record, "state": "crashed"}).status == "interrupted"
    assert to_run({**record, "state": "failed", "summary": {"reason": "NaN"}}).reason == "NaN"
    # Ended without an error, but stopped before it was tested.
    assert to_run({**record, "summary": {"status": "interrupted"}}).status == "interrupted"
    assert compare_runs([run]).table["mean"].tolist() == [0.9]


def test_an_option_that_is_null_shows_as_default() -> None:
    config = ResolvedConfig({"model": {"arch": "cct_2_3x2", "pool": None}})
    run = Run(name="a", status="finished", config=config)
    assert values_of(run, ["model.arch", "model.pool"]) == {"model.arch": "cct_2_3x2", "model.pool": "default"}


def test_a_narrow_terminal_gets_several_tables(tmp_path: Path) -> None:
    """Nothing is folded in the middle of a word at 80 columns: options break at underscores, columns move down."""
    for pool, scores in SCORES.items():
        for seed, score in enumerate(scores):
            schedule = {"lr": 1e-3, "muon_lr": None, "schedule": {"warmup_epochs": len(pool)}}
            options = {"model__pool": "class_token" if pool == "max" else pool, "model__optim": schedule}
            write_run(tmp_path / pool / str(seed), seed=seed, summary=done(score), **options)
    console = Console(file=io.StringIO(), width=80)
    comparison = compare_runs(read_runs([str(tmp_path)]), baseline="pool=mean")
    to_terminal(layout(comparison), console)
    text = console.file.getvalue()
    assert max(map(len, text.splitlines())) <= 80
    for part in ("warmup_ ", "epochs ", "class_token", "Δ [95 % CI]", "92.00 ± 1.00", "seeds", "M MACs", "time (s)"):
        assert text.count(part) >= 1, part
    assert text.count("class_token") == text.count("warmup_ ") == 2
    wide = Console(file=io.StringIO(), width=200)
    to_terminal(layout(comparison), wide)
    assert len(wide.file.getvalue().splitlines()) == 1 + len(SCORES) + len(notes(comparison)) + len(method(comparison))
