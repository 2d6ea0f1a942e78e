"""metrics.csv of version 0.1, with epochs from 0 and rates named after the optimizer, reads as one of today does."""

import shutil
from pathlib import Path

from cct_lightning.analysis.curves import curve
from cct_lightning.runs.folder import RunFolder
from cct_lightning.runs.metrics_csv import MetricsCsv
from cct_lightning.runs.metrics_table import read_metrics
from cct_lightning.runs.result import RunResult
from cct_lightning.runs.state import read_state

OLD = Path(__file__).parents[1] / "survival" / "version_0_1"


def test_it_is_read_by_todays_names_and_epochs() -> None:
    table = RunResult(OLD).metrics
    assert table.loc[table["val/acc"].notna(), "epoch"].tolist() == [1, 2]
    assert table.loc[table["test/acc"].notna(), "epoch"].tolist() == [2], "the epochs trained, then as now"
    assert table["lr"].dropna().tolist()[0] == 0.0027001
    assert not [name for name in table if name.startswith("lr-")]
    assert curve(table, "val/acc")["epoch"].tolist() == [1, 2]


def test_the_state_counts_the_epochs_that_were_completed(tmp_path: Path) -> None:
    shutil.copy(OLD / RunFolder.METRICS, tmp_path)
    assert read_state(tmp_path).epoch == 2


def test_a_run_that_continues_has_one_count(tmp_path: Path) -> None:
    shutil.copy(OLD / RunFolder.METRICS, tmp_path)
    before = read_metrics(tmp_path / RunFolder.METRICS)
    logger = MetricsCsv(tmp_path)
    logger.drop_after(40)
    logger.log_metrics({"epoch": 2, "val/acc": 0.5, "lr": 1e-3}, step=59)
    logger.save()
    text = (tmp_path / RunFolder.METRICS).read_text()
    assert "lr-" not in text
    after = read_metrics(tmp_path / RunFolder.METRICS)
    assert after.loc[after["val/acc"].notna(), "epoch"].tolist() == [1, 2, 3]
    assert after["val/acc"].dropna().tolist()[:2] == before["val/acc"].dropna().tolist()
    assert read_state(tmp_path).epoch == 3
    # Once more, and nothing is counted twice.
    logger = MetricsCsv(tmp_path)
    logger.drop_after(60)
    assert (tmp_path / RunFolder.METRICS).read_text() == text
