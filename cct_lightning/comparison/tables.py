"""A comparison as a table: terminal, Markdown, CSV, LaTeX."""

import math
import re
from collections.abc import Callable

from rich.console import Console
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from cct_lightning.comparison.statistics import Difference, deviation, mean
from cct_lightning.comparison.variants import Comparison, Variant, notes

_ABSENT = "-"
_COSTS = 4  # columns of what a variant costs, the last ones


def is_share(metric: str) -> bool:
    """Tell whether a metric is a share from 0 to 1, shown in percent."""
    return metric.rpartition("/")[2] in ("acc", "acc5")


def headings(comparison: Comparison) -> list[str]:
    """Return the titles of the columns."""
    unit = " (%)" if is_share(comparison.metric) else ""
    costs = ["params", "M MACs", "images/s", "time (s)"]
    return [*comparison.options, "n", f"{comparison.metric}{unit}", "Δ [95 % CI]", "p", "p paired", *costs]


def cells(comparison: Comparison, variant: Variant) -> list[str]:
    """Return the texts of a variant's row."""
    return [
        *variant.values.values(),
        count(variant),
        result(comparison.metric, variant),
        gap(comparison, variant),
        *p_values(comparison.to_baseline(variant)),
        *costs(variant),
    ]


def count(variant: Variant) -> str:
    """Return the number of finished runs, of all where some are not."""
    done, there = len(variant.results), len(variant.runs)
    return str(done) if done == there else f"{done} of {there}"


def result(metric: str, variant: Variant) -> str:
    """Return mean ± deviation."""
    scale, digits = (100, 2) if is_share(metric) else (1, 4)
    if not variant.results:
        return _ABSENT
    spread = deviation(variant.results)
    text = f"{scale * mean(variant.results):.{digits}f}"
    return text if math.isnan(spread) else f"{text} ± {scale * spread:.{digits}f}"


def gap(comparison: Comparison, variant: Variant) -> str:
    """Return the difference to the baseline with its confidence interval."""
    if variant is comparison.baseline:
        return "baseline"
    delta = comparison.to_baseline(variant)
    if delta is None:
        return _ABSENT
    scale, digits = (100, 2) if is_share(comparison.metric) else (1, 4)
    text = f"{scale * delta.mean:+.{digits}f}"
    return (
        text if math.isnan(delta.low) else f"{text} [{scale * delta.low:+.{digits}f}, {scale * delta.high:+.{digits}f}]"
    )


def p_values(delta: Difference | None) -> tuple[str, str]:
    """Return the p-values of Welch's and of the paired test."""
    numbers = (delta.p, delta.p_paired) if delta else (math.nan, math.nan)
    first, second = (_ABSENT if math.isnan(p) else "<0.001" if p < 0.001 else f"{p:.3f}" for p in numbers)
    return first, second


def costs(variant: Variant) -> list[str]:
    """Return parameters, MACs, images per second and wall time."""
    texts = []
    for key, scale, digits in (("params", 1, 0), ("macs", 1e6, 1), ("images_per_s", 1, 0), ("seconds", 1, 0)):
        value = variant.cost(key)
        texts.append(_ABSENT if math.isnan(value) else f"{value / scale:,.{digits}f}")
    return texts


def to_terminal(comparison: Comparison, console: Console) -> None:
    """Print the comparison and its notes; a narrow terminal gets the costs in a table of their own."""
    titles, left = headings(comparison), len(comparison.options)
    columns = range(len(titles))
    narrow = [[*columns[:-_COSTS]], [*columns[:left], *columns[-_COSTS:]]]
    whole = _table(comparison, titles, [*columns])
    fits = Measurement.get(console, console.options.update(width=1000), whole).maximum <= console.width
    for table in [whole] if fits else [_table(comparison, titles, part) for part in narrow]:
        console.print(table)
    for line in notes(comparison):
        console.print(Text(line, "yellow"))


def _table(comparison: Comparison, titles: list[str], columns: list[int]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for i in columns:
        table.add_column(Text(titles[i]), justify="left" if i < len(comparison.options) else "right", overflow="fold")
    for variant in comparison.variants:
        style = "bold" if variant is comparison.baseline else "dim" if not variant.results else ""
        texts = cells(comparison, variant)
        table.add_row(*(Text(texts[i]) for i in columns), style=style)
    return table


def to_markdown(comparison: Comparison) -> str:
    """Return a table for GitHub and the like."""
    titles = headings(comparison)
    left = len(comparison.options)
    rows = [titles, *(cells(comparison, variant) for variant in comparison.variants)]
    lines = ["| " + " | ".join(map(_markdown, row)) + " |" for row in rows]
    lines.insert(1, "|" + "".join(" --- |" if i < left else " ---: |" for i in range(len(titles))))
    lines += ["", *(f"- {_markdown(line)}" for line in notes(comparison))] if notes(comparison) else []
    return "\n".join(lines) + "\n"


def to_csv(comparison: Comparison) -> str:
    """Return all numbers with all their digits."""
    return comparison.frame().to_csv(index=False)


def to_latex(comparison: Comparison) -> str:
    """Return a table for LaTeX with the package booktabs."""
    titles = headings(comparison)
    left = len(comparison.options)
    rows = [
        " & ".join(map(_latex, row)) + r" \\" for row in (titles, *(cells(comparison, v) for v in comparison.variants))
    ]
    return "\n".join(
        [
            *(f"% {' '.join(line.split())}" for line in notes(comparison)),
            rf"\begin{{tabular}}{{{'l' * left}{'r' * (len(titles) - left)}}}",
            r"\toprule",
            rows[0],
            r"\midrule",
            *rows[1:],
            r"\bottomrule",
            r"\end{tabular}",
            "",
        ]
    )


def _escaper(table: dict[str, str]) -> Callable[[str], str]:
    pattern = re.compile("|".join(map(re.escape, table)))
    return lambda text: pattern.sub(lambda found: table[found[0]], " ".join(text.split()))


# Markdown's characters, and those of HTML, which Markdown lets through.
_markdown = _escaper({"&": "&amp;", "<": "&lt;", ">": "&gt;", **{c: "\\" + c for c in "\\`*_[]|~"}})
_latex = _escaper(
    {
        **{c: "\\" + c for c in "&%$#_{}"},
        "\\": r"\textbackslash{}",
        "~": r"\textasciitilde{}",
        "^": r"\textasciicircum{}",
        "<": r"\textless{}",
        ">": r"\textgreater{}",
        "|": r"\textbar{}",
        "±": r"$\pm$",
        "Δ": r"$\Delta$",
    }
)
