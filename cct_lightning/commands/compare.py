"""`cct compare`: mean and deviation over seeds of each variant, and its difference to a baseline."""

from collections.abc import Sequence
from typing import Literal

from rich.console import Console

from cct_lightning.comparison.runs import read_runs
from cct_lightning.comparison.tables import to_csv, to_latex, to_markdown, to_terminal
from cct_lightning.comparison.variants import compare_runs
from cct_lightning.errors import InputError
from cct_lightning.system.atomic import write_text
from cct_lightning.system.places import local_path


def compare(
    *runs: str,
    by: Sequence[str] = (),
    metric: str | None = None,
    baseline: str | None = None,
    columns: Sequence[str] = (),
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
        columns: More columns: keys of the summaries, such as memory_gb, or import paths of your own `Column`.
        format: A table for the terminal, Markdown, CSV with all digits, or LaTeX for booktabs.
        out: File to write to instead of the terminal.
        wandb: A W&B project, ENTITY/PROJECT, whose runs to compare; beside those of the folders, if any.
        group: Only the runs of this group (ablation) of the W&B project.

    Raises:
        InputError: No runs, or an option, metric, baseline or column that none of them has.
    """
    if group is not None and wandb is None:
        raise InputError("--group picks runs of a W&B project: give --wandb too, or the folder of the ablation alone.")
    target = None if out is None else local_path(out)
    found = read_runs(runs)
    if wandb is not None:
        from cct_lightning.comparison.wandb_runs import fetch_runs

        found += fetch_runs(wandb, group=group)
    if not found:
        raise InputError("No runs to compare: give run folders, or --wandb ENTITY/PROJECT.")
    comparison = compare_runs(found, by=by, metric=metric, baseline=baseline, columns=columns)
    if format == "terminal" and target is None:
        to_terminal(comparison, Console())
        return
    text = {"markdown": to_markdown, "terminal": to_markdown, "csv": to_csv, "latex": to_latex}[format](comparison)
    if target is None:
        print(text, end="")
        return
    try:
        write_text(target, text)
    except OSError as error:
        raise InputError(f"Cannot write {out}: {error.strerror}.") from error
