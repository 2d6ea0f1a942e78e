"""What varies is found, and what stands in the way of a comparison is said, each in one sentence."""

import json
from pathlib import Path

import pytest

from cct_lightning.comparison.compare import compare
from cct_lightning.comparison.notes import expected_power, method, notes
from comparison.test_compare import SCORES, done, write_run


def write(folder: Path, pool: str, scores: dict[int, float], **record: object) -> None:
    for seed, score in scores.items():
        run = write_run(folder / f"{pool}{seed}", seed=seed, summary=done(score), model__pool=pool)
        if record:
            (run / "ablation.json").write_text(json.dumps({"parameters": {}, **record}))


def said(folder: Path, **options: object) -> str:
    comparison = compare(folder, **options)
    return "\n".join([*method(comparison), *notes(comparison)])


def test_a_failed_run_and_neutral_options_make_no_column(tmp_path: Path) -> None:
    write(tmp_path, "mean", {0: 0.5, 1: 0.6})
    neutral = {"tracking__name": "other", "data__num_workers": 3, "model__optim": {"lr": 0.001, "muon_lr": 0.001}}
    write_run(tmp_path / "neutral", seed=2, summary=done(0.7), model__pool="mean", **neutral)
    failed = tmp_path / "failed"
    failed.mkdir()
    record = {"command": ["--config=digits"], "parameters": {"model.pool": "mean", "model.depth": "none"}}
    (failed / "ablation.json").write_text(json.dumps({**record, "reason": "no"}))
    write_run(tmp_path / "number", seed=3, summary=done(0.7), model__pool="mean")
    for name, value in (("number", "0.0"), ("neutral", "0")):
        config = (tmp_path / name / "config.yaml").read_text()
        (tmp_path / name / "config.yaml").write_text(config.replace("  pool:", f"  proj_drop: {value}\n  pool:"))
    assert [v.name for v in compare(tmp_path / "neutral", tmp_path / "number").variants] == ["all runs"]
    comparison = compare(tmp_path, by=["pool"])
    assert {variant.values["pool"] for variant in comparison.variants} == {"mean"}
    assert "Failed: failed (no)." in notes(comparison)


def test_the_method_and_its_power_are_said(tmp_path: Path) -> None:
    for pool, scores in SCORES.items():
        write(tmp_path, pool, dict(enumerate(scores)))
    text = said(tmp_path, baseline="pool=mean")
    assert "Δ is the difference to pool=mean, with 95 % intervals of the paired t-test over 3 shared seeds" in text
    assert "p corrected by Holm's method for 2 differences" in text
    assert "Power: 3 seeds show a difference of " in text
    comparison = compare(tmp_path, baseline="pool=mean")
    table = comparison.table.set_index("pool")
    assert f"takes {table['seeds_needed'].min():g}" in text
    lower, higher = sorted(table["p"].dropna())
    assert sorted(table["p_holm"].dropna()) == pytest.approx([2 * lower, max(2 * lower, higher)])


def test_seeds_that_are_missing_single_or_others_are_said(tmp_path: Path) -> None:
    write(tmp_path, "mean", {0: 0.5, 1: 0.6, 2: 0.55})
    write(tmp_path, "max", {0: 0.4})
    write(tmp_path, "seqpool", {0: 0.7, 1: 0.75})
    write(tmp_path, "class_token", {5: 0.7, 6: 0.75, 7: 0.72})
    text = said(tmp_path, baseline="pool=mean")
    assert "the paired t-test over 2 shared seeds, Welch's where none are shared" in text
    assert "One seed, so no deviation and no test: pool=max." in text
    assert "Δ is over the seeds that both have, not all: pool=seqpool." in text
    assert "Other seeds than the baseline's, so Welch's test: pool=class_token." in text


def test_two_ablations_and_pooled_options_are_said(tmp_path: Path) -> None:
    write(tmp_path / "a", "mean", {0: 0.5, 1: 0.6}, ablation="first")
    write(tmp_path / "b", "max", {0: 0.5, 1: 0.6}, ablation="second")
    assert "The runs are of 2 ablations: first, second." in said(tmp_path)
    assert "The runs of a variant differ in model.pool, too: --by left that out." in said(tmp_path, by=["arch"])
    for text in (compare(tmp_path, by=["arch"]).latex(), compare(tmp_path, by=["arch"]).markdown()):
        assert (
            "differ in model.pool" in text.replace(r"\caption", "caption").partition("caption")[2]
            or "- The runs" in text
        )


def test_times_of_runs_beside_each_other_are_marked(tmp_path: Path) -> None:
    write(tmp_path, "mean", {0: 0.5}, ablation="x", began=100.0)
    write(tmp_path, "max", {0: 0.5}, ablation="x", began=105.0)
    write(tmp_path, "seqpool", {0: 0.6}, ablation="x", began=111.0)
    write(tmp_path, "seqpool", {1: 0.6}, ablation="x", began=200.0)
    write(tmp_path, "class_token", {0: 0.6}, ablation="y", began=100.0)
    slow = json.loads((tmp_path / "seqpool1" / "summary.json").read_text()) | {"seconds": 7.0}
    (tmp_path / "seqpool1" / "summary.json").write_text(json.dumps(slow))
    comparison = compare(tmp_path)
    rows = {row.split("|")[1].strip(): row for row in comparison.markdown().splitlines() if row.startswith("| ")}
    assert "| 10.0\\* |" in rows["mean"]
    assert "| 10.0\\* |" in rows["max"]
    assert "| 10.0 |" in rows["class\\_token"]
    assert "| 7.0 |" in rows["seqpool"], "the run that had the machine for itself"
    assert "| 100 |" in rows["mean"], "parameters are no time"
    assert any(line.startswith("* Measured beside other runs") for line in method(comparison))


def test_what_an_ablation_can_show_is_said_beforehand(tmp_path: Path) -> None:
    assert expected_power(tmp_path / "none", ["a", "a"]) == expected_power(tmp_path, ["a", "a"]) == ""
    for pool, scores in SCORES.items():
        write(tmp_path, pool, dict(enumerate(scores)))
    five = expected_power(tmp_path, [pool for pool in SCORES for _ in range(5)])
    assert five.startswith("Power: 5 seeds show a difference of ")
    assert five.endswith("by the spread of the runs that are finished.")
    assert expected_power(tmp_path, list(SCORES)) == "", "one seed shows nothing"
