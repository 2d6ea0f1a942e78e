"""What every benchmark says about itself: machine, date, versions, command; written as Markdown and JSON."""

import json
import os
import platform
import shlex
import sys
from datetime import datetime, timezone
from importlib.metadata import version
from pathlib import Path
from typing import Any

RESULTS = Path(os.environ.get("CCT_BENCHMARK_RESULTS") or Path(__file__).resolve().parent / "results")


def conditions(*packages: str, device: str = "cpu") -> dict[str, Any]:
    """Return machine, with `cuda` its GPU, load, date, versions of these packages, and the command line."""
    gpu = {}
    if device == "cuda":
        import torch  # here alone: not every benchmark needs it

        gpu["gpu"] = torch.cuda.get_device_name()
    return {
        "command": shlex.join(["python", f"benchmarks/{Path(sys.argv[0]).name}", *sys.argv[1:]]),
        "date": datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M UTC"),
        **gpu,
        "cpu": _cpu(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "load_before": round(os.getloadavg()[0], 2),
        "python": platform.python_version(),
        "versions": {name: version(name) for name in packages},
    }


Rows = list[dict[str, Any]]  # one for each row of a table, all with the same keys


def write(name: str, title: str, notes: str, rows: Rows | dict[str, Rows], told: dict[str, Any]) -> str:
    """Write results/NAME.md and results/NAME.json, of a GPU NAME_gpu: those of the CPU stay.

    Args:
        name: Of the files.
        title: Heading.
        notes: What was measured and how, one paragraph.
        rows: Of the table; of several, by their headings.
        told: From `conditions`.

    Returns:
        The Markdown text.
    """
    versions = ", ".join(f"{package} {number}" for package, number in told["versions"].items())
    machine = ", ".join(told[what] for what in ("gpu", "cpu") if what in told)
    name += "_gpu" if "gpu" in told else ""
    tables = rows if isinstance(rows, dict) else {"": rows}
    lines = [
        f"# {title}",
        "",
        notes,
        "",
        *(line for heading, part in tables.items() for line in _table(heading, part)),
        f"Command: `{told['command']}`  ",
        f"Machine: {machine}, {told['cores']} cores, load {told['load_before']} before the run  ",
        f"Date: {told['date']}  ",
        f"Versions: Python {told['python']}, {versions}",
        "",
    ]
    text = "\n".join(lines)
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"{name}.md").write_text(text)
    (RESULTS / f"{name}.json").write_text(json.dumps({**told, "notes": notes, "rows": rows}, indent=2) + "\n")
    return text


def _table(heading: str, rows: Rows) -> list[str]:
    columns = list(rows[0])
    return [
        *((f"## {heading}", "") if heading else ()),
        "| " + " | ".join(columns) + " |",
        "|" + "---|" * len(columns),
        *("| " + " | ".join(str(row[column]) for column in columns) + " |" for row in rows),
        "",
    ]


def _cpu() -> str:
    info = Path("/proc/cpuinfo")
    for line in info.read_text().splitlines() if info.exists() else ():
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()
