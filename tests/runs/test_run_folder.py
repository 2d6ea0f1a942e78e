"""Which folder a run gets, and what is known of the run in one."""

from pathlib import Path

import pytest

from cct_lightning.config.resolved import ResolvedConfig
from cct_lightning.runs.folder import RUN_DIR_VARIABLE, RunFolder

DIGITS = ResolvedConfig.resolve({"data": {"name": "digits"}})


@pytest.fixture(autouse=True)
def _no_job(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("SLURM_JOB_ID", "TORCHELASTIC_RUN_ID", "LOCAL_RANK", RUN_DIR_VARIABLE):
        monkeypatch.delenv(name, raising=False)


def test_each_run_of_a_process_has_its_own_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    first = RunFolder.choose(None, DIGITS)
    monkeypatch.setenv("LOCAL_RANK", "0")  # as Lightning does where it launches processes
    assert RunFolder.choose(None, DIGITS) != first


def test_processes_that_a_run_launches_share_its_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    first = RunFolder.choose(None, DIGITS)
    monkeypatch.setenv("LOCAL_RANK", "1")
    monkeypatch.setattr("os.getpid", lambda: 1)
    assert RunFolder.choose(None, DIGITS) == first


def test_a_folder_that_the_user_names_is_taken(tmp_path: Path) -> None:
    assert RunFolder.choose("here/run", DIGITS).path == tmp_path / "here" / "run"


def test_what_is_missing_or_damaged_gives_what_is_there(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    assert (folder.config(), folder.summary(), folder.record()) == (None, {}, {})
    (tmp_path / RunFolder.SUMMARY).write_text('{"status": "fin')
    assert folder.summary() == {}
    assert folder.to_test == tmp_path / RunFolder.LAST
    (tmp_path / RunFolder.BEST).touch()
    assert folder.to_test == tmp_path / RunFolder.BEST
