"""The table of `cct ablate GRID --status` and of a terminal."""

import dataclasses
import io
from pathlib import Path

from rich.console import Console
from small_grid import write_grid

from ablation.test_ablate import checked
from cct_lightning.ablation.grid import read_grid
from cct_lightning.ablation.live import state_table
from cct_lightning.ablation.plan import Planned
from cct_lightning.runs.state import RunState


def test_a_failed_run_says_why_on_one_line(tmp_path: Path) -> None:
    waiting = [
        Planned(**vars(run), folder=tmp_path, state=RunState(status="waiting"))
        for run in checked(read_grid(write_grid(tmp_path)))
    ]
    failed = RunState(status="failed", reason="cct fit: No space left on device. " * 5)
    console = Console(file=io.StringIO(), width=80)
    plan = [*waiting[:4], *(dataclasses.replace(item, state=failed) for item in waiting[4:])]
    console.print(state_table(plan, concurrency=2))
    lines = console.file.getvalue().splitlines()
    assert max(map(len, lines)) <= 80
    assert len(lines) == 1 + 8 + 1 + 3 + 1
    assert lines[9].startswith("8 runs: 4 waiting, 4 failed")
    assert lines[10].startswith(f"{plan[4].run.name}: cct fit: No space left")
    assert lines[-1] == "and 1 more failed"
