"""`cct_lightning.compare`: the comparison of `cct compare` and `cct report`, from Python and notebooks."""

from collections.abc import Sequence
from pathlib import Path

from cct_lightning.comparison.runs import read_runs
from cct_lightning.comparison.variants import Comparison, compare_runs
from cct_lightning.errors import InputError


def compare(
    *runs: str | Path,
    by: Sequence[str] = (),
    metric: str | None = None,
    baseline: str | None = None,
    columns: Sequence[str] = (),
    wandb: str | None = None,
    group: str | None = None,
) -> Comparison:
    """Compare runs: group those that differ in their seed alone, and compare the groups with a baseline.

    Example:
        >>> comparison = cct_lightning.compare("runs/tokenizer_x_pool", baseline="pool=class_token")
        >>> comparison.table, comparison.plot(), comparison.latex(pivot=["arch", "pool"])

    Args:
        *runs: Run folders, or folders with run folders below.
        by: Options that make a variant, such as model.pool; all that differ when empty.
        metric: What to compare, such as test/loss; test/acc where there is one.
        baseline: Variant to compare with, such as pool=class_token; the first of the grid, else the worst.
        columns: What to show of each variant; see `comparison.columns.find_columns`.
        wandb: A W&B project, ENTITY/PROJECT, whose runs to compare; beside those of the folders, if any.
        group: Only the runs of this group (ablation) of the W&B project.

    Raises:
        InputError: No runs, or an option, metric, baseline or column that none of them has.
    """
    if group is not None and wandb is None:
        raise InputError("--group picks runs of a W&B project: give --wandb too, or the folder of the ablation alone.")
    found = read_runs([str(run) for run in runs])
    if wandb is not None:
        from cct_lightning.comparison.wandb_runs import fetch_runs

        found += fetch_runs(wandb, group=group)
    if not found:
        raise InputError("No runs to compare: give run folders, or --wandb ENTITY/PROJECT.")
    return compare_runs(found, by=by, metric=metric, baseline=baseline, columns=columns)
