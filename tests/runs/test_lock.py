"""One process trains in a run folder; the others are told which on which host."""

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cct_lightning.build import build_run
from cct_lightning.config.parser import parse
from cct_lightning.errors import InputError
from cct_lightning.runs import lock
from cct_lightning.runs.folder import RunFolder
from cct_lightning.runs.lock import LOCKED_VARIABLE, check_unlocked, is_locked, locked, take_lock
from cct_lightning.system.atomic import write_json


def test_a_second_process_is_told_which_one_trains(
    tmp_path: Path, cct: Callable[..., tuple[int, str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with locked(tmp_path):
        before = sorted(tmp_path.iterdir())
        code, _, err = cct("fit", "--config=digits", f"--run_dir={tmp_path}")
    assert code == 2
    assert f"process {os.getpid()} on {os.uname().nodename}" in err
    assert sorted(tmp_path.iterdir()) == before


def test_the_lock_is_free_however_a_run_ends(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), locked(tmp_path):
        raise KeyboardInterrupt
    check_unlocked(tmp_path)


def test_two_runs_that_begin_at_once(tmp_path: Path) -> None:
    run = build_run(parse("fit", ["--config=digits", f"--run_dir={tmp_path}", "--tracking.mode=disabled"]))
    with locked(tmp_path), pytest.raises(InputError, match="is being trained"):
        run.train()
    write_json(tmp_path / RunFolder.SUMMARY, {"status": "finished"})  # by the other one, which has ended
    with pytest.raises(InputError, match="start the same command again"):
        run.train()
    assert not is_locked(tmp_path)


def test_forked_workers_do_not_hold_the_lock(tmp_path: Path) -> None:
    file = take_lock(tmp_path)
    assert file is not None
    (hold, release), (begun, begin) = os.pipe(), os.pipe()
    worker = os.fork()
    if worker == 0:
        os.close(release)
        os.write(begin, b"1")
        os.read(hold, 1)  # until the test lets it end
        os._exit(0)
    os.read(begun, 1)
    file.close()
    try:
        assert not is_locked(tmp_path)
    finally:
        os.close(release)
        os.waitpid(worker, 0)


def test_a_run_of_an_ablation_has_the_lock_of_its_trial(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = take_lock(tmp_path)
    assert file is not None
    with file:
        monkeypatch.setenv(LOCKED_VARIABLE, str(tmp_path))
        check_unlocked(tmp_path)
        with locked(tmp_path):
            assert is_locked(tmp_path)
        assert is_locked(tmp_path)


def test_a_file_system_without_locks_is_no_obstacle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(lock.fcntl, "flock", refuse)
    with locked(tmp_path):
        check_unlocked(tmp_path)
