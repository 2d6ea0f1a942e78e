"""What the systems differ in: Windows has neither the modules nor the signals of POSIX, nor UTF-8 for files."""

import json
import re
import subprocess
import sys
from pathlib import Path

import cct_lightning

SCRIPT = Path(__file__).with_name("as_on_windows.py")
PACKAGE = Path(cct_lightning.__file__).parent


def test_a_run_as_on_windows(tmp_path: Path) -> None:
    words = ["fit", "--config", "digits", "--trainer.max_epochs", "1", "--model.optim.warmup_epochs", "0"]
    words += ["--trainer.limit_train_batches", "2", "--run_dir", "läuft", "--tracking.mode", "disabled"]
    command = [sys.executable, "-X", "warn_default_encoding", str(SCRIPT), *words]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    summary = json.loads((tmp_path / "läuft" / "summary.json").read_text())
    assert summary["status"] == "finished"
    assert "memory_gb" not in summary, "nothing tells it there"


def test_text_is_read_as_utf8() -> None:
    unnamed = re.compile(r"\.read_text\(\)|\.write_text\([^\"]*\)$|text=True|\.open\((\"[raw]\")?\) as", re.MULTILINE)
    found = {path.name: unnamed.findall(path.read_text(encoding="utf-8")) for path in PACKAGE.rglob("*.py")}
    assert not {name: calls for name, calls in found.items() if calls}
