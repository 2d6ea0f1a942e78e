"""Tables for a paper: two-way, renamed, in LaTeX; and on a terminal of 80 columns whatever differs."""

import io
import itertools
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from rich.console import Console

from cct_lightning.comparison.compare import compare
from cct_lightning.comparison.tables import layout, to_terminal
from cct_lightning.comparison.variants import Comparison
from cct_lightning.errors import InputError
from comparison.test_compare import done, write_run


@pytest.fixture(scope="module")
def comparison(tmp_path_factory: pytest.TempPathFactory) -> Comparison:
    folder = tmp_path_factory.mktemp("runs")
    for i, arch in enumerate(("cct_2_3x1", "cvt_2_2")):
        for k, pool in enumerate(("class_token", "seqpool")):
            for seed in range(3):
                score = 0.8 + 0.02 * i * k + 0.001 * seed**2 * (1 + k) - 0.1 * i
                options = {"model__arch": arch, "model__pool": pool}
                write_run(folder / f"{arch}{pool}{seed}", seed=seed, summary=done(score), **options)
    return compare(folder, by=["arch", "pool"], baseline="arch=cct_2_3x1, pool=seqpool")


NAMES = {"arch": "Model", "pool": "Pooling", "seqpool": "SeqPool", "cct_2_3x1": "CCT", "cvt_2_2": "CVT"}


def test_two_options_make_a_two_way_table(comparison: Comparison) -> None:
    lines = comparison.markdown(pivot=["arch", "x", "model.pool"], rename=NAMES).splitlines()
    assert lines[0] == "| Model | Pooling=SeqPool | Pooling=class\\_token |"
    assert lines[2] == "| CCT | **80.33 ± 0.42** | 80.17 ± 0.21 |"
    assert lines[3] == "| CVT | 72.33 ± 0.42 | 70.17 ± 0.21 |"
    assert "by arch (rows) and pool (columns)" in lines[5]


def test_a_value_with_an_equals_sign_is_renamed_whole(tmp_path: Path) -> None:
    for i, k in enumerate((2, 4)):
        pool = {"class_path": "my_lab.TopPool", "init_args": {"k": k}}
        for seed in range(2):
            write_run(tmp_path / f"{k}{seed}", seed=seed, summary=done(0.5 + 0.1 * i + 0.01 * seed), model__pool=pool)
            write_run(tmp_path / f"cvt{k}{seed}", seed=seed, summary=done(0.4), model__pool=pool, model__arch="cvt_2_2")
    found = compare(tmp_path, by=["arch", "pool"], baseline="arch=cvt_2_2, pool=my_lab.TopPool(k=2)")
    names = {"my_lab.TopPool(k=2)": "Top", "pool": "Pooling"}
    assert "Pooling=Top" in layout(found, pivot=["arch", "pool"], rename=names).headings
    assert "difference to arch=cvt_2_2, Pooling=Top," in layout(found, rename=names).method[0]


def test_latex_aligns_numbers_and_says_what_the_table_shows(comparison: Comparison) -> None:
    text = comparison.latex(rename=NAMES)
    assert r"S[table-format=2.2(3)]" in text
    assert re.search(r"CCT & SeqPool & 3 & \\bfseries 80.33 \\pm 0.42 & baseline & \{--\} ", text)
    assert re.search(r"CVT & class\\_token & 3 & 70.17 \\pm 0.21 & \$-\$10.17 \[\$-\$10.68, \$-\$9.65\]", text)
    assert (
        r"difference to Model=CCT, Pooling=SeqPool, with 95 \% intervals of the paired t-test over 3 shared seeds"
        in text
    )
    assert "n = 3 runs" in text
    assert r"\label{tab:test-acc-arch-pool}" in text
    assert {line.count(" & ") for line in text.splitlines() if line.endswith(r"\\")} == {5}, "what fits a page"
    assert text.count("{") == text.count("}") + text.count(r"\{") - text.count(r"\}")


DOCUMENT = r"\documentclass{article}\usepackage{booktabs, siunitx}\begin{document}\input{a}\input{b}\end{document}"


def test_latex_compiles(comparison: Comparison, tmp_path: Path) -> None:
    if shutil.which("pdflatex") is None:
        pytest.skip("LaTeX is not installed (Debian: apt install texlive-latex-extra texlive-science)")
    (tmp_path / "a.tex").write_text(comparison.latex(rename=NAMES))
    (tmp_path / "b.tex").write_text(comparison.latex(pivot=["arch", "pool"]))
    (tmp_path / "all.tex").write_text(DOCUMENT)
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "all.tex"]
    run = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    if "siunitx.sty' not found" in run.stdout:
        pytest.skip("LaTeX lacks siunitx (Debian: apt install texlive-science)")
    assert run.returncode == 0, run.stdout[-2000:]
    assert "Overfull" not in run.stdout


def test_many_options_are_a_numbered_list_on_a_narrow_terminal(tmp_path: Path) -> None:
    options = ("depth", "embed_dim", "num_heads", "kernel_size", "conv_blocks", "attn_drop", "drop_path_rate")
    for i in range(len(options)):
        folder = write_run(tmp_path / str(i), summary=done(0.5 + i / 100))
        lines = "".join(f"  {name}: {2 + (k == i)}\n" for k, name in enumerate(options))
        config = (folder / "config.yaml").read_text()
        (folder / "config.yaml").write_text(config.replace("model:\n", f"model:\n{lines}"))
    console = Console(file=io.StringIO(), width=80)
    comparison = compare(tmp_path)
    assert len(comparison.options) == 7
    to_terminal(layout(comparison), console)
    text = console.file.getvalue()
    assert max(map(len, text.splitlines())) <= 80
    assert " ".join(text.partition("#")[0].split()).count("drop_path_rate=3") == 1
    assert "no test: #1; #2; #3; #4 and 3 more" in " ".join(text.split())
    for part in ("\n#  n  test/acc (%)", "\n1  1         56.00", "\n     attn_drop=2", "images/s"):
        assert part in text, part


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--pivot", "arch", "pol"], "Did you mean 'pool'"),
        (["--pivot", "arch"], "takes two different options"),
        (["--by", "arch", "pool", "lr", "--pivot", "arch", "pool"], "differ in lr, too"),
        (["--rename", "pol=Pooling"], "Did you mean 'pool'"),
        (["--rename", "pool"], "OLD=NEW"),
        (["--format", "csv", "--pivot", "arch", "pool"], "leave --pivot"),
    ],
)
def test_bad_input_is_one_sentence(tmp_path: Path, cct, words: list[str], message: str) -> None:
    for arch, pool in itertools.product(("cct_2_3x1", "cvt_2_2"), ("mean", "max")):
        write_run(tmp_path / arch / pool, summary=done(0.5), model__arch=arch, model__pool=pool)
    code, out, err = cct("compare", str(tmp_path), *words)
    assert (code, out) == (2, "")
    assert message in err
    assert len(err.splitlines()) == 1


def test_a_pivot_of_options_that_do_not_differ_is_an_error(comparison: Comparison) -> None:
    with pytest.raises(InputError, match="differ in arch, pool"):
        comparison.markdown(pivot=["arch", "lr"])
