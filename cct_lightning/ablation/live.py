"""What `cct ablate` shows: the plan, a live table in a terminal, a line per change in a log file, the summary."""

import dataclasses
import threading
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from cct_lightning.ablation.plan import Planned, run_left, run_seconds, seconds_left
from cct_lightning.runs.folder import DONE, Status
from cct_lightning.runs.state import read_state
from cct_lightning.system.durations import duration

# In the order of the live table: the runs that matter most come first.
_COLORS: dict[Status, str] = {
    "failed": "red", "running": "cyan", "interrupted": "yellow", "waiting": "dim", "stopped": "blue",
    "finished": "green",
}  # fmt: skip
_ORDER = list(_COLORS)
_REASONS = 3  # failed runs whose reason a table tells


def refreshed(plan: Sequence[Planned]) -> list[Planned]:
    """Return the plan with the states of this moment; what has finished is not read again."""
    return [
        item if item.state.status in DONE else dataclasses.replace(item, state=read_state(item.folder)) for item in plan
    ]


def plan_table(plan: Sequence[Planned]) -> Table:
    """Return the table of `--dry-run`."""
    table = Table("run", "status", "parameters", "M MACs", "epochs", "time", box=None, pad_edge=False)
    for item in plan:
        table.add_row(
            Text(item.run.name, overflow="fold"),
            Text(item.state.status, _COLORS[item.state.status]),
            f"{item.params:,}",
            f"{item.macs / 1e6:,.1f}",
            str(item.epochs),
            duration(item.state.seconds or run_seconds(item, plan)),
        )
    return table


def counted(plan: Sequence[Planned]) -> str:
    """Return how many runs are in which state."""
    counts = Counter(item.state.status for item in plan)
    parts = [f"{counts[status]} {status}" for status in reversed(_ORDER) if counts[status]]
    return f"{len(plan)} runs: {', '.join(parts)}"


def state_table(
    plan: Sequence[Planned], *, concurrency: int, rows: int | None = None, queue: Mapping[str, str] | None = None
) -> Group:
    """Return the table of `--status` and of a terminal while runs train: how far each run is, and why some failed.

    Args:
        plan: The runs.
        concurrency: How many run at a time.
        rows: The first so many; all when None.
        queue: What SLURM says of the runs that it has, by the names of their folders: `PENDING`, ...
    """
    rows = len(plan) if rows is None else rows
    table = Table("run", "status", "epoch", "accuracy", box=None, pad_edge=False)
    table.add_column("left", no_wrap=True)
    for item in sorted(plan, key=lambda item: _ORDER.index(item.state.status))[:rows]:
        state, job = item.state, (queue or {}).get(item.folder.name)
        table.add_row(
            Text(item.run.name, overflow="ellipsis", no_wrap=True),
            Text(f"{state.status} (SLURM: {job})" if job else state.status, _COLORS[state.status]),
            f"{state.epoch}/{item.epochs}" if state.epoch else "",
            f"{100 * state.accuracy:.2f} %" if state.accuracy is not None else "",
            "" if (left := run_left(item)) is None else duration(left),
        )
    hidden = f" ({len(plan) - rows} not shown)" if len(plan) > rows else ""
    lines = [f"{counted(plan)}; time left {duration(seconds_left(plan, concurrency=concurrency))}{hidden}"]
    failed = [item for item in plan if item.state.status == "failed"]
    lines += [f"{item.run.name}: {item.state.reason}" for item in failed[:_REASONS]]
    if len(failed) > _REASONS:
        lines.append(f"and {len(failed) - _REASONS} more failed")
    return Group(
        table, *(Text(line, "red" if i else "", no_wrap=i > 0, overflow="ellipsis") for i, line in enumerate(lines))
    )


@contextmanager
def watching(plan: Sequence[Planned], *, concurrency: int) -> Iterator[None]:
    """Show the state of the runs of a plan until the block ends."""
    console = Console()
    now = list(plan)

    if console.is_terminal:

        def render() -> Group:
            now[:] = refreshed(now)
            return state_table(now, concurrency=concurrency, rows=max(5, console.height - 4 - _REASONS))

        with Live(get_renderable=render, console=console, refresh_per_second=1, transient=True):
            yield
        return

    ended = threading.Event()

    def follow() -> None:
        last = False
        while not last:
            last = ended.wait(1)
            before, now[:] = list(now), refreshed(now)
            for old, item in zip(before, now, strict=True):
                if item.state.status != old.state.status:
                    print(_change(item), flush=True)

    thread = threading.Thread(target=follow, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def _change(item: Planned) -> str:
    state = item.state
    line = f"{item.run.name}: {state.status}"
    if state.status == "finished" and state.accuracy is not None:
        line += f", {100 * state.accuracy:.2f} %"
    if state.status == "running" and state.epoch:
        line += f", continued after epoch {state.epoch}"
    if state.status == "failed":
        line += f", {state.reason}"
    return line
