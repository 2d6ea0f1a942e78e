"""`cct compare`: mean and deviation over seeds of each variant, and its difference to a baseline."""

from collections.abc import Sequence
from typing import Literal

from rich.console import Console

from cct_lightning.comparison import compare as comparing
from cct_lightning.comparison.tables import layout, to_csv, to_terminal
from cct_lightning.errors import InputError
from cct_lightning.system.atomic import write_text
from cct_lightning.system.places import local_path


def compare(
    *runs: str,
    by: Sequence[str] = (),
    metric: str | None = None,
    baseline: str | None = None,
    columns: Sequence[str] = (),
    rename: Sequence[str] = (),
    pivot: Sequence[str] = (),
    format: Literal["terminal", "markdown", "csv", "latex"] = "terminal",
    out: str | None = None,
    wandb: str | None = None,
    group: str | None = None,
) -> None:
    """Compare runs: mean ± standard deviation over seeds of each variant, and its difference to the baseline.

    Args:
        *runs: Run folders, or folders with run folders below.
        by: Options that make a variant, such as model.pool; all that differ when left out.
        metric: What to compare, such as test/loss; test/acc where there is one.
        baseline: Variant to compare with, such as pool=class_token; the first of the grid, else the worst.
        columns: What to show: n, mean, difference, p, p_holm, detectable, seeds_needed, keys of the summaries such as
            memory_gb, import paths of your own `Column`; `default memory_gb` adds one to what is shown anyway, `paper`
            is the narrow set of --format latex.
        rename: OLD=NEW for headings and values of options, such as pool=Pooling seqpool=SeqPool.
        pivot: Two options, for a table with the values of one in rows and of the other in columns.
        format: A table for the terminal, Markdown, CSV with all digits, or LaTeX for booktabs and siunitx.
        out: File to write to instead of the terminal.
        wandb: A W&B project, ENTITY/PROJECT, or a sweep, ENTITY/PROJECT/SWEEP, whose runs to compare; beside those of
            the folders, if any.
        group: Only the runs of this group (ablation) of the W&B project.

    Raises:
        InputError: No runs, or an option, metric, baseline or column that none of them has.
    """
    names = dict(pair.rpartition("=")[::2] for pair in rename)
    if "" in names:
        raise InputError("--rename takes OLD=NEW, such as pool=Pooling.")
    if format == "csv" and (pivot or rename):
        raise InputError("--format csv has every number under its own name: leave --pivot and --rename out.")
    target = None if out is None else local_path(out)
    comparison = comparing.compare(
        *runs, by=by, metric=metric, baseline=baseline, columns=columns, wandb=wandb, group=group
    )
    if format == "terminal" and target is None:
        to_terminal(layout(comparison, pivot=pivot, rename=names), Console())
        return
    if format == "csv":
        text = to_csv(comparison)
    else:
        made = comparison.latex if format == "latex" else comparison.markdown
        text = made(pivot=pivot, rename=names)
    if target is None:
        print(text, end="")
        return
    try:
        write_text(target, text)
    except OSError as error:
        raise InputError(f"Cannot write {out}: {error.strerror}.") from error
