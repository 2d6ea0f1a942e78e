"""One HTML page about runs, that holds everything it shows and needs no network."""

import datetime
from pathlib import Path
from typing import Any

import jinja2

from cct_lightning.comparison import tables
from cct_lightning.comparison.effects import importance
from cct_lightning.comparison.page_data import figures, result_rows, run_tables, to_script
from cct_lightning.comparison.variants import Comparison


def page(comparison: Comparison, *, title: str) -> str:
    """Return the page."""
    here = Path(__file__).parent
    options: dict[str, Any] = {"undefined": jinja2.StrictUndefined, "trim_blocks": True, "lstrip_blocks": True}
    template = jinja2.Template((here / "page.html").read_text(encoding="utf-8"), autoescape=True, **options)
    data, table = figures(comparison), tables.layout(comparison)
    return template.render(
        title=title,
        date=datetime.date.today().isoformat(),
        metric=comparison.metric,
        left=len(comparison.options),
        headings=table.headings,
        rows=result_rows(comparison, table),
        notes=(*table.method, *table.notes),
        choices={
            name: values
            for name in comparison.options
            if 1 < len(values := sorted({variant.values[name] for variant in comparison.variants})) <= 20
        },
        importance={name: round(100 * share, 1) for name, share in importance(comparison).items()},
        has_curves=any(variant["curves"] for variant in data["variants"]),
        has_predictions=any(variant["right"] for variant in data["variants"]),
        data=to_script(data),
        **{
            name: (here / f"page.{kind}").read_text(encoding="utf-8")
            for name, kind in (("style", "css"), ("script", "js"))
        },
        charts=(here / "charts.js").read_text(encoding="utf-8"),
        **run_tables(comparison),
    )
