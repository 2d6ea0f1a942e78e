"""A comparison as a table: terminal, Markdown, CSV, LaTeX."""

import re
from collections.abc import Callable

from rich.console import Console
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from cct_lightning.comparison.columns import RESULTS
from cct_lightning.comparison.variants import Comparison, Variant, notes


def headings(comparison: Comparison) -> list[str]:
    """Return the titles of the columns: the options in which variants differ, then the numbers."""
    return [*comparison.options, *(column.title(comparison) for column in comparison.columns)]


def cells(comparison: Comparison, variant: Variant) -> list[str]:
    """Return the texts of a variant's row."""
    return [*variant.values.values(), *(column.cell(comparison, variant) for column in comparison.columns)]


def to_terminal(comparison: Comparison, console: Console) -> None:
    """Print the comparison and its notes; a narrow terminal gets the costs in a table of their own."""
    titles, left = headings(comparison), len(comparison.options)
    columns = list(range(len(titles)))
    halves = [columns[: left + len(RESULTS)], columns[:left] + columns[left + len(RESULTS) :]]
    full = _table(comparison, titles, columns)
    fits = Measurement.get(console, console.options.update(width=1000), full).maximum <= console.width
    for table in [full] if fits else [_table(comparison, titles, half) for half in halves]:
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
