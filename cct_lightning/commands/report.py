"""`cct report`: one HTML page about runs."""

from collections.abc import Sequence
from pathlib import Path

from cct_lightning.comparison.compare import compare
from cct_lightning.comparison.page import page
from cct_lightning.errors import InputError
from cct_lightning.system.atomic import write_text
from cct_lightning.system.places import local_path


def report(
    runs: Sequence[str],
    *,
    out: str = "report.html",
    by: Sequence[str] = (),
    metric: str | None = None,
    baseline: str | None = None,
    columns: Sequence[str] = (),
    title: str | None = None,
) -> None:
    """Write one HTML page about runs: table, curves, what matters, costs, classes, samples, options. It works offline.

    Args:
        runs: Run folders, or folders with run folders below.
        out: File to write.
        by: Options that make a variant, such as model.pool; all that differ when left out.
        metric: What to compare, such as test/loss; test/acc where there is one.
        baseline: Variant to compare with, such as pool=class_token; the first of the grid, else the worst.
        columns: What the table shows, as in `cct compare`.
        title: Title of the page; the names of the folders when left out.

    Raises:
        InputError: No runs, or an option, metric, baseline or column that none of them has.
    """
    path = local_path(out)
    if path.is_dir() or not path.absolute().parent.is_dir():
        raise InputError(f"Cannot write {out}: give a file in a folder that exists.")
    comparison = compare(*runs, by=by, metric=metric, baseline=baseline, columns=columns)
    heading = title or ", ".join(dict.fromkeys(Path(run).absolute().name for run in runs))
    write_text(path, page(comparison, title=heading))
    counts = f"{len(comparison.runs)} runs in {len(comparison.variants)} variants"
    print(f"{counts}: {path} ({path.stat().st_size / 1e6:.1f} MB)")
