"""A table in LaTeX, for booktabs and siunitx: numbers aligned at the point, a true minus, bold for the best."""

import re

from cct_lightning.comparison.tables import Layout, escaper

_NUMBER = re.compile(r"[+-]?(?P<whole>[\d,]+)(?P<part>\.\d+)?(?: ± (?P<spread>[\d.,]+))?")
_SIGNED = re.compile(r"(?<![\w.])([+-])(?=\d)")


def to_latex(found: Layout) -> str:
    r"""Return a `table` with caption and label; what it needs is said in its first line."""
    columns = [[row[i] for row in found.rows] for i in range(found.left, len(found.headings))]
    kinds = ["l"] * found.left + [_kind(texts) for texts in columns]
    rows = []
    for r, row in enumerate(found.rows):
        pairs = enumerate(zip(row, kinds, strict=True))
        rows.append(" & ".join(_cell(text, kind, bold=(r, i) == found.bold) for i, (text, kind) in pairs) + r" \\")
    # In braces, or siunitx reads a heading as a number.
    titles = [
        f"{{{_latex(title)}}}" if kind.startswith("S") else _latex(title)
        for title, kind in zip(found.headings, kinds, strict=True)
    ]
    caption = " ".join([found.caption, *found.method, *(["Bold: the best mean."] if found.bold else [])])
    label = re.sub(r"[^a-z0-9]+", "-", found.label.lower()).strip("-")
    lines = [
        r"% Needs \usepackage{booktabs, siunitx}.",
        *(f"% {' '.join(line.split())}" for line in found.notes),
        r"\begin{table}",
        r"\centering",
        rf"\caption{{{_latex(caption)}}}",
        rf"\label{{tab:{label}}}",
        r"\smallskip\small\setlength{\tabcolsep}{4pt}",
        r"\sisetup{separate-uncertainty, detect-weight, mode=text, group-separator={,}, group-minimum-digits=4}",
        rf"\begin{{tabular}}{{{' '.join(kinds)}}}",
        r"\toprule",
        " & ".join(titles) + r" \\",
        r"\midrule",
        *rows,
        r"\bottomrule",
        r"\end{tabular}",
        r"\end{table}",
    ]
    return "\n".join([*lines, ""])


def _kind(texts: list[str]) -> str:
    """Return the type of a column: siunitx's for numbers, with the digits that it has to make room for."""
    found = [match for text in texts if (match := _NUMBER.fullmatch(text.rstrip("*")))]
    if not found or any("[" in text for text in texts):
        return "r"
    whole = max(len(match["whole"].replace(",", "")) for match in found)
    digits = max(len(match["part"] or ".") - 1 for match in found)
    spread = max(len((match["spread"] or "").replace(".", "").replace(",", "")) for match in found)
    sign = "+" if any(match[0][0] in "+-" for match in found) else ""
    more = f"({spread})" if spread else ""
    return f"S[table-format={sign}{whole}.{digits}{more}]"


def _cell(text: str, kind: str, *, bold: bool) -> str:
    mark = r"\bfseries " if bold else ""
    if not kind.startswith("S"):
        shown = _SIGNED.sub(lambda sign: f"${sign[1]}$", _latex(text))
        return mark + (shown if text != "-" else "--")
    if _NUMBER.fullmatch(text):
        return mark + text.replace(",", "").replace("±", r"\pm")
    return f"{{{mark}{'--' if text == '-' else _latex(text)}}}"


_latex = escaper(
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
