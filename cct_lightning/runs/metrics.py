"""What a run measures, by name: which way is better, and how a number of it is written.

The names are those of metrics.csv, W&B and summary.json. A new quantity gets a line in `METRICS`; `cct compare`, the
report, the dashboard and W&B's best values ask here. It imports nothing heavy, so that quick commands may ask, too.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

TRAIN_LOSS, TRAIN_ACC, TRAIN_SPEED = "train/loss", "train/acc", "train/images_per_s"
LEARNING_RATE = "lr"
VAL_ACC, VAL_LOSS = "val/acc", "val/loss"
TEST_ACC, TEST_LOSS = "test/acc", "test/loss"
# What every run logs by itself, and so what a callback may monitor.
LOGGED = (
    VAL_ACC, VAL_LOSS, "val/acc5", TRAIN_LOSS, TRAIN_ACC, "train/loss_step", "train/grad_norm", LEARNING_RATE,
    TRAIN_SPEED, "train/images_seen", "train/memory_gb", "epoch", "step",
)  # fmt: skip
BEST_VAL_ACC = f"best_{VAL_ACC}"
CURVES = (VAL_ACC, VAL_LOSS, TRAIN_LOSS)  # what is drawn by epoch where runs are compared
COSTS = ("params", "macs", "images_per_s", "seconds")  # what a run costs, in its summary


@dataclass(frozen=True, kw_only=True)
class Metric:
    """How a quantity is read.

    Attributes:
        title: In words, for an axis, without the unit.
        goal: `max` where more is better, `min` where less is.
        scale: A number times this is in `unit`.
        unit: Empty where it has none.
        digits: Digits after the point.
        timed: It is measured with a clock, which runs on the same machine disturb.
    """

    title: str
    goal: Literal["min", "max"]
    scale: float = 1.0
    unit: str = ""
    digits: int = 4
    timed: bool = False

    def text(self, value: float, *, sign: bool = False) -> str:
        """Return a logged value in its unit, which is not written: 0.9312 as `93.12`; `sign` also writes a plus."""
        return f"{self.scale * value:{'+' if sign else ''},.{self.digits}f}"

    def label(self, name: str = "") -> str:
        """Return the name (the title when empty) with the unit, such as `test/acc (%)`."""
        return f"{name or self.title}{f' ({self.unit})' if self.unit else ''}"


# By the last part of a name: val/acc, test/acc and best_val/acc are read alike.
METRICS = {
    "acc": Metric(title="accuracy", goal="max", scale=100, unit="%", digits=2),
    "acc5": Metric(title="top-5 accuracy", goal="max", scale=100, unit="%", digits=2),
    "loss": Metric(title="loss", goal="min"),
    "grad_norm": Metric(title="norm of the gradient", goal="min"),
    "images_per_s": Metric(title="speed of the training", goal="max", unit="images/s", digits=0, timed=True),
    "images_seen": Metric(title="images seen", goal="min", digits=0),
    "epochs": Metric(title="epochs", goal="min", digits=0),
    "best_epoch": Metric(title="epoch of the best validation accuracy", goal="min", digits=0),
    "steps": Metric(title="optimizer steps", goal="min", digits=0),
    "lr": Metric(title="learning rate", goal="min", digits=6),
    "seconds": Metric(title="wall time of a run", goal="min", unit="s", digits=1, timed=True),
    "train_seconds": Metric(title="wall time of the training", goal="min", unit="s", digits=1, timed=True),
    "memory_gb": Metric(title="peak memory", goal="min", unit="GB", digits=3),
    "params": Metric(title="parameters", goal="min", digits=0),
    "macs": Metric(title="multiply-accumulates of one image", goal="min", scale=1e-6, unit="millions", digits=1),
    "tokens": Metric(title="tokens", goal="min", digits=0),
}
_LESS_IS_BETTER = {"loss", "error", "err", "ece", "mae", "mse", "seconds", "time", "ms", "memory", "latency", "energy"}


def metric(name: str) -> Metric:
    """Return how a quantity is read; of one that is not in the table, its words decide whether less is better.

    Args:
        name: As it was logged, such as val/acc or train/loss_step.
    """
    last = name.rpartition("/")[2].removesuffix("_step").removesuffix("_epoch")
    if last in METRICS:
        return METRICS[last]
    return Metric(title=name, goal="min" if _LESS_IS_BETTER & set(last.lower().split("_")) else "max")


def logged_row(metrics: Mapping[str, Any]) -> dict[str, Any]:
    """Return what Lightning is about to log as our loggers write it: with the epoch counted from 1.

    Lightning counts the epoch that it trains from 0, and in the test has the epochs trained, which stays.
    """
    row = dict(metrics)
    if "epoch" in row and not any(key.startswith("test/") for key in row):
        row["epoch"] += 1
    return row


def counts_from_zero(epochs: Iterable[str | float | None]) -> bool:
    """Tell whether the column `epoch` of a metrics.csv is of version 0.1, which counted from 0: its first says so."""
    first = next((epoch for epoch in epochs if epoch not in (None, "")), None)
    return first is not None and float(first) == 0


def present_name(column: str) -> str:
    """Return the present name of a column of version 0.1: `lr-AdamW/decay` is `lr`, `lr-MuonAdamW/muon` `lr/muon`."""
    part = re.fullmatch(r"lr-\w+(/\w+)?", column)
    return column if part is None else "lr" if part[1] in (None, "/decay") else f"lr{part[1]}"
