"""docs/ablations.md is never wrong: its commands and its Python run, its table names the columns that there are."""

import json
import re
import shutil
from pathlib import Path

import matplotlib
import pytest

from cct_lightning.comparison.columns import COLUMNS

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs" / "ablations.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", TEXT, re.DOTALL | re.MULTILINE)


@pytest.fixture
def workplace(synthetic: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with some of the synthetic runs, under the name that the commands give."""
    runs = tmp_path / "runs" / synthetic.name
    for folder in sorted(synthetic.iterdir()):
        if "-0.001-" in folder.name:
            shutil.copytree(folder, runs / folder.name)
    for folder in sorted(synthetic.glob("conv-*-0.002-*")):
        shutil.copytree(folder, runs / folder.name)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_every_command_runs(workplace: Path, cct) -> None:
    lines = [line for block in blocks("bash") for line in block.splitlines()]
    assert len(lines) == 8
    for line in lines:
        code, _, err = cct(*line.split()[1:])
        assert code == 0, f"{line}: {err}"
        for name in re.findall(r"--out (\S+)", line):
            assert (workplace / name).stat().st_size > 0


def test_the_python_runs(workplace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    matplotlib.use("agg")
    (source,) = blocks("python")
    exec(compile(source, "ablations.md", "exec"), {"__name__": "docs"})
    assert r"\begin{tabular}{l S[" in capsys.readouterr().out


def test_the_columns_exist() -> None:
    named = re.findall(r"^\| `(\w+)` \|", TEXT, re.MULTILINE)
    assert len(named) == 6
    assert set(named) <= set(COLUMNS)
    assert set(COLUMNS) - set(named) == {"n", "params", "macs", "images_per_s", "seconds"}


def test_size_and_time_of_the_page_are_what_was_measured() -> None:
    (row,) = (
        row
        for row in json.loads((ROOT / "benchmarks" / "results" / "compare.json").read_text())["rows"]
        if row["what"] == "cct report, 150 runs of 50 variants"
    )
    size, seconds = float(row["page, MB"]), row["CPU time, s"]
    assert f"{size:.1f} MB for 150 runs of 50 variants, in about {seconds:.0f} seconds" in " ".join(TEXT.split())
    assert size <= 2
    assert seconds <= 4
