"""What `cct ablate` shows: the plan, a live table in a terminal, a line per change in a log file, the summary."""

import dataclasses
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from cct_lightning.ablation.check import Checked
from cct_lightning.ablation.plan import Planned, run_seconds, seconds_left
from cct_lightning.runs.folder import Status
from cct_lightning.runs.state import read_state
from cct_lightning.system.durations import duration

_COLORS = {"finished": "green", "failed": "red", "running": "cyan", "interrupted": "yellow", "waiting": "dim"}
_ORDER: tuple[Status, ...] = ("failed", "running", "interrupted", "waiting", "finished")


def refreshed(plan: Sequence[Planned]) -> list[Planned]:
    """Return the plan with the states of this moment; what has finished is not read again."""
    return [
        item if item.state.status == "finished" else dataclasses.replace(item, state=read_state(item.folder))
        for item in plan
    ]


def plan_table(plan: Sequence[Planned], costs: Sequence[Checked]) -> Table:
    """Return the table of `--dry-run`."""
    table = Table("run", "status", "parameters", "M MACs", "epochs", "time", box=None, pad_edge=False)
    for item, cost, seconds in zip(plan, costs, run_seconds(plan), strict=True):
        table.add_row(
            Text(item.run.name, overflow="fold"),
            Text(item.state.status, _COLORS[item.state.status]),
            f"{cost.params:,}",
            f"{cost.macs / 1e6:,.1f}",
            str(cost.epochs),
            duration(item.state.seconds if item.state.seconds is not None else seconds),
        )
    return table


def counted(plan: Sequence[Planned]) -> str:
    """Return how many runs stand how."""
    counts = Counter(item.state.status for item in plan)
    parts = [f"{counts[status]} {status}" for status in reversed(_ORDER) if counts[status]]
    return f"{len(plan)} runs: {', '.join(parts)}"


def all_left(plan: Sequence[Planned], costs: Sequence[Checked], *, concurrency: int) -> float | None:
    """Estimate the seconds until all runs are done, before the first has finished from the epochs of the running ones.

    Args:
        plan: The runs, as they stand now.
        costs: What each costs.
        concurrency: Runs at the same time.
    """
    if any(item.state.seconds is not None for item in plan):
        return seconds_left(plan, concurrency=concurrency)
    left = [run_left(item, cost.epochs) for item, cost in zip(plan, costs, strict=True)]
    known = [
        (seconds, seconds * cost.epochs / (cost.epochs - item.state.epoch))
        for item, cost, seconds in zip(plan, costs, left, strict=True)
        if item.state.status == "running" and seconds is not None and item.state.epoch < cost.epochs
    ]
    if not known:
        return None
    whole = sum(total for _, total in known) / len(known)
    waiting = sum(item.state.status in ("waiting", "interrupted") for item in plan)
    return max(seconds for seconds, _ in known) + whole * waiting / concurrency


def run_left(item: Planned, epochs: int) -> float | None:
    """Estimate the seconds left of a running run from the epochs of its current attempt."""
    state = item.state
    if state.began is None or state.epoch <= state.began_at:
        return None
    return (time.time() - state.began) / (state.epoch - state.began_at) * max(0, epochs - state.epoch)


def live_table(plan: Sequence[Planned], costs: Sequence[Checked], *, concurrency: int, rows: int) -> Table:
    """Return the table of this moment, with the runs that matter most when not all fit."""
    table = Table("run", "status", "epoch", "accuracy", "left", box=None, pad_edge=False)
    pairs = sorted(zip(plan, costs, strict=True), key=lambda pair: _ORDER.index(pair[0].state.status))
    for item, cost in pairs[:rows]:
        state = item.state
        left = duration(run_left(item, cost.epochs)) if state.status == "running" else ""
        table.add_row(
            Text(item.run.name, overflow="ellipsis", no_wrap=True),
            Text(state.status, _COLORS[state.status]),
            f"{state.epoch}/{cost.epochs}" if state.epoch else "",
            f"{100 * state.accuracy:.2f} %" if state.accuracy is not None else "",
            left.replace("unknown", ""),
        )
    hidden = len(plan) - rows
    left_over = f"; time left {duration(all_left(plan, costs, concurrency=concurrency))}"
    table.caption = counted(plan) + left_over + (f" ({hidden} not shown)" if hidden > 0 else "")
    table.caption_justify = "left"
    return table


@contextmanager
def watching(plan: Sequence[Planned], costs: Sequence[Checked], *, concurrency: int) -> Iterator[None]:
    """Show how the runs of a plan stand until the block ends."""
    console = Console()
    now = list(plan)

    if console.is_terminal:

        def render() -> Table:
            now[:] = refreshed(now)
            return live_table(now, costs, concurrency=concurrency, rows=max(5, console.height - 4))

        with Live(get_renderable=render, console=console, refresh_per_second=1, transient=True):
            yield
        return

    ended = threading.Event()

    def report() -> None:
        for before, item in zip(now, refreshed(now), strict=True):
            if item.state.status != before.state.status:
                print(change(item), flush=True)
                now[now.index(before)] = item

    def follow() -> None:
        while not ended.wait(1):
            report()

    thread = threading.Thread(target=follow, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
        report()


def change(item: Planned) -> str:
    """Return one line that says how a run stands."""
    state = item.state
    line = f"{item.run.name}: {state.status}"
    if state.status == "finished" and state.accuracy is not None:
        line += f", {100 * state.accuracy:.2f} %"
    if state.status == "running" and state.epoch:
        line += f", continued after epoch {state.epoch}"
    if state.status == "failed":
        line += f", {state.reason}"
    return line
