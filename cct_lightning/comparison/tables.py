"""A comparison as a table: what is where, and the terminal, Markdown and CSV; LaTeX is in `latex.py`."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from textwrap import fill

from rich.console import Console
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from cct_lightning.comparison.columns import ABSENT, COLUMNS
from cct_lightning.comparison.notes import method, notes
from cct_lightning.comparison.variants import Comparison
from cct_lightning.errors import InputError, nearest
from cct_lightning.runs.metrics import metric


@dataclass(frozen=True, kw_only=True)
class Layout:
    """The texts of a table.

    Attributes:
        headings: One for each column.
        rows: The texts of each row.
        left: Number of columns from the left that say what a row is; numbers follow.
        bold: Row and column of the best result; None where there is no choice.
        caption: What the table shows.
        label: The same in short, for references.
        method: How the numbers were made: sentences that belong to the caption.
        notes: What else a reader must know.
    """

    headings: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    left: int
    bold: tuple[int, int] | None
    caption: str
    label: str
    method: tuple[str, ...]
    notes: tuple[str, ...]


def layout(comparison: Comparison, *, pivot: Sequence[str] = (), rename: Mapping[str, str] | None = None) -> Layout:
    """Lay a comparison out as a table.

    Args:
        comparison: The comparison.
        pivot: Two of its options, as the paper's tables have them: the values of the first in rows, of the second in
            columns, results alone. All columns, one variant in a row, when empty.
        rename: Heading or value of an option -> what to write instead.

    Raises:
        InputError: The comparison lacks an option of the pivot, or a name to replace.
    """
    kind = metric(comparison.metric)
    results = [len(variant.results) for variant in comparison.variants if variant.results]
    seeds = " to ".join(map(str, sorted({min(results), max(results)}))) if results else "0"
    what = f"{kind.title} ({comparison.metric}{f', {kind.unit}' if kind.unit else ''})"
    caption = f"{what[0].upper()}{what[1:]}: mean ± standard deviation, n = {seeds} runs"
    if pivot:
        found = _pivot(comparison, _pair(comparison, pivot), caption)
    else:
        rows = tuple(
            (*variant.values.values(), *(column.cell(comparison, variant) for column in comparison.columns))
            for variant in comparison.variants
        )
        names = [column.name for column in comparison.columns]
        left = len(comparison.options)
        found = Layout(
            headings=(*comparison.options, *(column.title(comparison) for column in comparison.columns)),
            rows=rows,
            left=left,
            bold=(0, left + names.index("mean")) if len(results) > 1 and "mean" in names else None,
            caption=f"{caption}.",
            label="-".join([comparison.metric, *comparison.options]),
            method=tuple(method(comparison)),
            notes=tuple(notes(comparison)),
        )
    return _renamed(found, rename or {})


def _pair(comparison: Comparison, pivot: Sequence[str]) -> tuple[str, str]:
    names = []
    for word in pivot:
        if word in comparison.options or word in comparison.options.values():
            names += [name for name, key in comparison.options.items() if word in (name, key)]
        elif word != "x":
            choice = ", ".join(comparison.options) or "none"
            raise InputError(f"--pivot {word}: the variants differ in {choice}.{nearest(word, comparison.options)}")
    if len(names) != 2 or names[0] == names[1]:
        raise InputError("--pivot takes two different options, for rows and columns, such as `--pivot tokenizer pool`.")
    return names[0], names[1]


def _pivot(comparison: Comparison, pair: tuple[str, str], caption: str) -> Layout:
    """Lay results out by the values of two options, in the order of the grid."""
    if set(comparison.options) != set(pair):
        rest = ", ".join(name for name in comparison.options if name not in pair)
        raise InputError(f"The variants differ in {rest}, too: add `--by {' '.join(pair)}` to take these together.")
    ordered = sorted(comparison.variants, key=lambda variant: variant.index)
    down, across = (list(dict.fromkeys(variant.values[name] for variant in ordered)) for name in pair)
    cells = {tuple(v.values[name] for name in pair): COLUMNS["mean"].cell(comparison, v) for v in ordered}
    place = {value: i for i, value in enumerate(down)}, {value: i for i, value in enumerate(across)}
    top = comparison.variants[0].values
    return Layout(
        headings=(pair[0], *(f"{pair[1]}={value}" for value in across)),
        rows=tuple((value, *(cells.get((value, other), ABSENT) for other in across)) for value in down),
        left=1,
        bold=(place[0][top[pair[0]]], 1 + place[1][top[pair[1]]]) if comparison.baseline else None,
        caption=f"{caption}, by {pair[0]} (rows) and {pair[1]} (columns).",
        label="-".join([comparison.metric, *pair]),
        method=tuple(method(replace(comparison, baseline=None, columns=()))),  # results alone
        notes=tuple(notes(comparison)),
    )


def _renamed(found: Layout, rename: Mapping[str, str]) -> Layout:
    texts = {*found.headings, *(text for row in found.rows for text in row[: found.left])}
    # A value may hold the sign as well: my_lab.TopPool(k=2).
    parts = texts | {part for text in found.headings for part in text.split("=", 1)}
    for old in rename:
        if old not in parts:
            raise InputError(f"--rename {old}: no heading or value is called so.{nearest(old, sorted(parts))}")

    def new(text: str) -> str:
        return rename.get(text) or "=".join(rename.get(part, part) for part in text.split("=", 1))

    rows = tuple((*map(new, row[: found.left]), *row[found.left :]) for row in found.rows)
    # Sentences name variants, the longest names first: pool=mean is the beginning of pool=mean_max.
    pairs = {f"{title}={text}" for row in found.rows for title, text in zip(found.headings, row[: found.left])}  # noqa: B905
    said = {old: new(old) for old in sorted(pairs, key=len, reverse=True) if new(old) != old}
    put = escaper(said) if said else str
    return replace(
        found,
        headings=tuple(map(new, found.headings)),
        rows=rows,
        caption=put(found.caption),
        method=tuple(map(put, found.method)),
        notes=tuple(map(put, found.notes)),
    )


def to_terminal(found: Layout, console: Console) -> None:
    """Print a table and its notes. A narrow terminal gets several tables, and long names as a numbered list."""
    left, rest = list(range(found.left)), list(range(found.left, len(found.headings)))
    whole = _width(_rich(found, left + rest, wrapped=False), console)
    if whole > console.width and _width(_rich(found, left, wrapped=True), console) > console.width // 2:
        found = _numbered(found, console)
        left, rest = [0], list(range(1, len(found.headings)))
    while rest:
        fitting = (
            n
            for n in range(len(rest), 0, -1)
            if _width(_rich(found, left + rest[:n], wrapped=n + found.left < len(found.headings)), console)
            <= console.width
        )
        shown = left + rest[: next(fitting, 1)]
        console.print(_rich(found, shown, wrapped=len(shown) < len(found.headings)))
        rest = rest[len(shown) - found.left :]
    for line in (*found.method, *found.notes):
        console.print(Text(line, "yellow"))


def _rich(found: Layout, columns: Sequence[int], *, wrapped: bool) -> Table:
    made = Table(box=None, pad_edge=False, header_style="bold")
    for i in columns:
        # Where room is short, the name of an option breaks at its underscores.
        title = found.headings[i].replace("_", "_\n") if wrapped and i < found.left else found.headings[i]
        made.add_column(Text(title), justify="left" if i < found.left else "right", overflow="fold")
    for r, row in enumerate(found.rows):
        made.add_row(*(Text(row[i], "bold" if (r, i) == found.bold else "") for i in columns))
    return made


def _width(table: Table, console: Console) -> int:
    return Measurement.get(console, console.options.update(width=1000), table).maximum


def _numbered(found: Layout, console: Console) -> Layout:
    """Print what each row is as a list, and return the table with the numbers of the list in its place."""
    named = [zip(found.headings[: found.left], row[: found.left], strict=True) for row in found.rows]
    names = [", ".join(f"{title}={text}" for title, text in pairs) for pairs in named]
    for i, name in enumerate(names, 1):
        console.print(Text(fill(f"{i:>3}  {name}", console.width, subsequent_indent=" " * 5)))
    console.print()
    numbers = {name: f"#{i}" for i, name in enumerate(names, 1)}
    put = escaper({name: numbers[name] for name in sorted(names, key=len, reverse=True)})
    return replace(
        found,
        headings=("#", *found.headings[found.left :]),
        rows=tuple((str(i), *row[found.left :]) for i, row in enumerate(found.rows, 1)),
        left=1,
        bold=found.bold and (found.bold[0], found.bold[1] - found.left + 1),
        method=tuple(map(put, found.method)),
        notes=tuple(map(put, found.notes)),
    )


def to_markdown(found: Layout) -> str:
    """Return a table for GitHub and the like."""
    rows = [[_markdown(text) for text in row] for row in (found.headings, *found.rows)]
    if found.bold:
        row, column = found.bold
        rows[1 + row][column] = f"**{rows[1 + row][column]}**"
    lines = [f"| {' | '.join(row)} |" for row in rows]
    lines.insert(1, "|" + " --- |" * found.left + " ---: |" * (len(found.headings) - found.left))
    lines += ["", _markdown(found.caption), "", *(f"- {_markdown(line)}" for line in (*found.method, *found.notes))]
    return "\n".join(lines).rstrip() + "\n"


def to_csv(comparison: Comparison) -> str:
    """Return all numbers with all their digits, one variant in a row."""
    return comparison.table.to_csv(index=False)


def escaper(table: Mapping[str, str]) -> Callable[[str], str]:
    """Return a function that replaces characters in a text, and joins its lines."""
    pattern = re.compile("|".join(map(re.escape, table)))
    return lambda text: pattern.sub(lambda found: table[found[0]], " ".join(text.split()))


# Markdown's characters, and those of HTML, which Markdown lets through.
_markdown = escaper({"&": "&amp;", "<": "&lt;", ">": "&gt;", **{c: "\\" + c for c in "\\`*_[]|~"}})
