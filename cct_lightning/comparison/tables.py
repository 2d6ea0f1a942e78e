"""A comparison as a table: terminal, Markdown, CSV, LaTeX."""

import re
from collections.abc import Callable

from rich.console import Console
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from cct_lightning.comparison.variants import Comparison, Variant, notes


def headings(comparison: Comparison) -> list[str]:
    """Return the titles of the columns: the options in which variants differ, then the numbers."""
    return [*comparison.options, *(column.title(comparison) for column in comparison.columns)]


def cells(comparison: Comparison, variant: Variant) -> list[str]:
    """Return the texts of a variant's row."""
    return [*variant.values.values(), *(column.cell(comparison, variant) for column in comparison.columns)]


def _rows(comparison: Comparison) -> list[list[str]]:
    return [headings(comparison), *(cells(comparison, variant) for variant in comparison.variants)]


def to_terminal(comparison: Comparison, console: Console) -> None:
    """Print the comparison and its notes; a narrow terminal gets several tables, each with the options."""
    left, (titles, *rows) = len(comparison.options), _rows(comparison)

    def table(columns: list[int]) -> Table:
        made = Table(box=None, pad_edge=False, header_style="bold")
        for i in (*range(left), *columns):
            # Where room is short, the name of an option breaks at its underscores.
            title = titles[i].replace("_", "_\n") if len(columns) < len(titles) - left and i < left else titles[i]
            made.add_column(Text(title), justify="left" if i < left else "right", overflow="fold")
        for variant, texts in zip(comparison.variants, rows, strict=True):
            style = "bold" if variant is comparison.baseline else "dim" if not variant.results else ""
            made.add_row(*(Text(texts[i]) for i in (*range(left), *columns)), style=style)
        return made

    def fits(made: Table) -> bool:
        return Measurement.get(console, console.options.update(width=1000), made).maximum <= console.width

    rest = list(range(left, len(titles)))
    while rest:
        count = next((n for n in range(len(rest), 0, -1) if fits(table(rest[:n]))), len(rest))
        console.print(table(rest[:count]))
        rest = rest[count:]
    for line in notes(comparison):
        console.print(Text(line, "yellow"))


def to_markdown(comparison: Comparison) -> str:
    """Return a table for GitHub and the like."""
    lines = ["| " + " | ".join(map(_markdown, row)) + " |" for row in _rows(comparison)]
    lines.insert(1, "|" + " --- |" * len(comparison.options) + " ---: |" * len(comparison.columns))
    lines += ["", *(f"- {_markdown(line)}" for line in notes(comparison))] if notes(comparison) else []
    return "\n".join(lines) + "\n"


def to_csv(comparison: Comparison) -> str:
    """Return all numbers with all their digits."""
    return comparison.frame().to_csv(index=False)


def to_latex(comparison: Comparison) -> str:
    """Return a table for LaTeX with the package booktabs."""
    titles, *rows = (" & ".join(map(_latex, row)) + r" \\" for row in _rows(comparison))
    sides = "l" * len(comparison.options) + "r" * len(comparison.columns)
    comments = [f"% {' '.join(line.split())}" for line in notes(comparison)]
    lines = [
        rf"\begin{{tabular}}{{{sides}}}",
        r"\toprule",
        titles,
        r"\midrule",
        *rows,
        r"\bottomrule",
        r"\end{tabular}",
    ]
    return "\n".join([*comments, *lines, ""])


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
