"""Which runs of a search stop early: W&B's rule, and a run that stops by it."""

import json
from pathlib import Path

import pytest

import cct_lightning
from cct_lightning.config.resolved import ResolvedConfig
from cct_lightning.runs.folder import RunFolder
from cct_lightning.runs.hyperband import Hyperband
from cct_lightning.runs.metrics_table import history
from cct_lightning.runs.state import read_state

RULE = {"metric": "val/acc", "maximize": True, "bands": (1, 3), "eta": 3.0, "strict": True}


def stops(own: list[float], *others: list[float], **changed: object) -> bool:
    return Hyperband(**{**RULE, **changed}).stops(own, others)  # type: ignore[arg-type]


def test_the_worst_stop_at_a_band() -> None:
    better, worse = [0.9, 0.9, 0.9], [0.1, 0.1, 0.1]
    assert not stops([0.1])  # alone
    assert stops([0.1], better)
    assert not stops([0.9], worse)
    assert not stops([0.1], [])  # one that has not validated yet is no comparison
    assert not stops([], better)
    # Between two bands, that of the first one counts; what came since does not help a run that is judged strictly.
    assert stops([0.1, 0.95], better)
    assert not stops([0.1, 0.95], better, strict=False)
    assert stops([0.9, 0.9, 0.1], better)
    # Equal values stop nobody.
    assert not stops([0.9], better, better)


def test_less_may_be_better() -> None:
    assert stops([2.0], [1.0], maximize=False)
    assert not stops([1.0], [2.0], maximize=False)


def test_the_best_share_goes_on() -> None:
    """As in W&B's package `sweeps`: the threshold is the value at the place n / eta, from the best one."""
    others = [[0.1 * i] for i in range(1, 10)]
    assert [stops([value], *others, eta=3) for value in (0.55, 0.65, 0.75)] == [True, False, False]


def test_a_run_worse_than_the_others_is_stopped_for_good(tmp_path: Path) -> None:
    for name in ("a", "b", "c"):
        (tmp_path / name).mkdir()
        (tmp_path / name / RunFolder.METRICS).write_text("epoch,step,val/acc\n1,9,0.99\n2,19,0.99\n3,29,")
        (tmp_path / name / RunFolder.RECORD).write_text("{}")
    assert history(tmp_path / "a" / RunFolder.METRICS, "val/acc") == [0.99, 0.99]
    files = RunFolder(tmp_path / "mine")
    files.make()
    files.note(early_terminate={**RULE, "bands": [2]}, began=0.0)
    options = {"limit_train_batches": 2, "max_epochs": 5, "warmup_epochs": 0, "mode": "disabled", "run_dir": files.path}
    result = cct_lightning.fit("digits", **options)
    summary = result.summary
    assert (summary["status"], summary["stopped_by"], summary["epochs"]) == ("stopped", "early_terminate", 2)
    assert "test/acc" not in summary
    assert "best_val/acc" in summary
    state = read_state(files.path)
    assert (state.status, state.epoch) == ("stopped", 2)
    assert (files / files.BEST).is_file()
    before = (files / files.METRICS).read_bytes()
    assert files.is_finished(ResolvedConfig.resolve(files.config().options))  # type: ignore[union-attr]
    cct_lightning.fit("digits", **options)
    assert (files / files.METRICS).read_bytes() == before
    # The state of a run that a kill left while it trained says nothing of stopping.
    (files / files.SUMMARY).write_text(json.dumps({**summary, "status": "running"}))
    assert read_state(files.path).status == "interrupted"


def test_the_last_epoch_is_never_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[list[float]] = []

    def judge(self: Hyperband, own: list[float], others: list[list[float]]) -> bool:
        asked.append(own)
        return False

    monkeypatch.setattr(Hyperband, "stops", judge)
    files = RunFolder(tmp_path / "mine")
    files.make()
    files.note(early_terminate={**RULE, "bands": [1]})
    options = {"limit_train_batches": 2, "max_epochs": 2, "warmup_epochs": 0, "mode": "disabled", "run_dir": files.path}
    summary = cct_lightning.fit("digits", **options).summary
    assert [len(own) for own in asked] == [1]  # the validation of the epoch is there when it is judged
    assert summary["status"] == "finished"
