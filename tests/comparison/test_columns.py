"""A column of your own, from outside of the package: in every table, and on the page."""

import csv
import io
from pathlib import Path

import pytest

from cct_lightning.commands.compare import compare
from cct_lightning.comparison.runs import read_runs
from cct_lightning.comparison.tables import to_csv
from cct_lightning.comparison.variants import compare_runs
from cct_lightning.errors import InputError
from comparison.test_compare import done, write_run

MINE = """
from cct_lightning.comparison.columns import Column
from cct_lightning.comparison.statistics import mean

PER_PARAM = Column(
    name="per_param",
    heading="{metric} for each parameter",
    value=lambda _, variant: mean(variant.results) / variant.cost("params"),
    text=lambda _, variant: f"{mean(variant.results) / variant.cost('params'):.5f}",
)
"""


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    (tmp_path / "my_lab").mkdir()
    (tmp_path / "my_lab" / "columns.py").write_text(MINE)
    monkeypatch.syspath_prepend(str(tmp_path))
    for pool, accuracy in (("mean", 0.5), ("seqpool", 0.75)):
        write_run(tmp_path / "runs" / pool, summary=done(accuracy, memory_gb=1.25), model__pool=pool)
    return str(tmp_path / "runs")


COLUMNS = ["default", "my_lab.columns.PER_PARAM", "memory_gb"]


def test_it_is_in_every_table(runs: str, capsys: pytest.CaptureFixture[str]) -> None:
    comparison = compare_runs(read_runs([runs]), columns=COLUMNS)
    heading = "test/acc (%) for each parameter"
    markdown, latex = comparison.markdown(), comparison.latex()
    assert markdown.splitlines()[0].endswith(f"| {heading} | memory\\_gb (GB) |")
    assert "| 0.00750 | 1.250 |" in markdown
    assert "0.00750 & 1.250" in latex
    assert r"{test/acc (\%) for each parameter} & {memory\_gb (GB)} \\" in latex
    [best, _] = csv.DictReader(io.StringIO(to_csv(comparison)))
    assert (float(best["per_param"]), float(best["memory_gb"])) == (0.0075, 1.25)
    compare(runs, columns=COLUMNS)
    assert "0.00750" in capsys.readouterr().out


def test_it_is_on_the_page(runs: str) -> None:
    from cct_lightning.comparison.page import page

    text = page(compare_runs(read_runs([runs]), columns=COLUMNS), title="x")
    assert "for each parameter</button>" in text
    assert '<td data-key="0.0075" class="number">0.00750</td>' in text


def test_the_command_takes_it(runs: str, cct) -> None:
    code, out, err = cct("compare", runs, "--columns", *COLUMNS, "--format", "csv")
    assert code == 0, err
    assert out.splitlines()[0].endswith("per_param,memory_gb")


def test_an_unknown_column_is_one_sentence(runs: str) -> None:
    found = read_runs([runs])
    with pytest.raises(InputError, match="Did you mean 'memory_gb'"):
        compare_runs(found, columns=["memory_g"])
    with pytest.raises(InputError, match="or the import path of a Column"):
        compare_runs(found, columns=["cct_lightning.comparison.columns.find_columns"])
    with pytest.raises(InputError, match="Cannot import the column"):
        compare_runs(found, columns=["my_lab.columns.NONE"])


def test_columns_are_chosen(runs: str, cct) -> None:
    code, out, err = cct("compare", runs, "--columns", "mean", "seconds", "--format", "markdown")
    assert code == 0, err
    assert out.splitlines()[0] == "| pool | test/acc (%) | time (s) |"
