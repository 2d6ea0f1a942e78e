"""What each option does to the result: means by its values, and its share of the variance."""

import pandas as pd

from cct_lightning.comparison.variants import Comparison


def results(comparison: Comparison) -> pd.DataFrame:
    """Return one row for each finished run: the options in which variants differ, as text, and `result`."""
    rows = [
        {**variant.values, "result": result, "variant": variant.name}
        for variant in sorted(comparison.variants, key=lambda variant: variant.index)
        for result in variant.results
    ]
    return pd.DataFrame(rows, columns=[*comparison.options, "result", "variant"])


def _explained(table: pd.DataFrame, by: str) -> float:
    """Return the share of the variance that lies between the values of a column (eta squared)."""
    result = table["result"]
    total = ((result - result.mean()) ** 2).sum()
    means = table.groupby(by)["result"].transform("mean")
    return float(((means - result.mean()) ** 2).sum() / total) if total else 0.0


def importance(comparison: Comparison) -> dict[str, float]:
    """Return which share of the variance over all runs each option explains alone, the largest first.

    `seed` is what varies within a variant. In a full grid the shares add up to 1 together with the interactions, which
    are given then; where options go together, their shares overlap.
    """
    table = results(comparison)
    if len(comparison.options) < 1 or table["variant"].nunique() < 2:
        return {}
    shares = {name: _explained(table, name) for name in comparison.options}
    ordered = dict(sorted(shares.items(), key=lambda item: -item[1]))
    seed = 1 - _explained(table, "variant")
    rest = 1 - seed - sum(shares.values())
    return {**ordered, **({"interactions": rest} if rest > 1e-9 else {}), "seed": seed}


def main_effects(comparison: Comparison, option: str, *, by: str | None = None) -> pd.DataFrame:
    """Return the mean over variants for each value of an option, in the order of the grid.

    Args:
        comparison: The comparison.
        option: Short name of an option.
        by: A second option, for the interaction of both: a column for each of its values.
    """
    table = results(comparison)
    means = table.groupby([option, *([by] if by else []), "variant"], sort=False)["result"].mean()
    found = means.groupby(level=[0, 1] if by else 0, sort=False).mean()
    order = table[option].drop_duplicates()
    return (found.unstack() if by else found.to_frame("mean")).reindex(order)
