"""A small grid of real runs on digits, and how to run it."""

import os
import sys
from pathlib import Path

import yaml

EPOCHS = 3
GRID = {
    "program": "cct",
    "command": ["${env}", "${program}", "fit", "--config=digits", "${args}"],
    "method": "grid",
    "parameters": {
        "model.arch": {"values": ["cvt_2_2", "cct_2_3x1"]},
        "model.pool": {"values": ["class_token", "seqpool"]},
        "seed_everything": {"values": [0, 1]},
        "trainer.max_epochs": {"value": EPOCHS},
        "model.optim.warmup_epochs": {"value": 1},
        "tracking.media_every_n_epochs": {"value": 0},
    },
}
CCT = [sys.executable, "-m", "cct_lightning"]


def environment(**variables: str) -> dict[str, str]:
    """Variables of a run that computes on one thread and logs offline."""
    return {**os.environ, "WANDB_MODE": "offline", "OMP_NUM_THREADS": "1", **variables}


def write_grid(folder: Path, **parameters: object) -> Path:
    """Write the grid of eight runs, with some parameters replaced; two underscores stand for a dot."""
    changed = {key.replace("__", "."): value for key, value in parameters.items()}
    path = folder / "small.yaml"
    path.write_text(yaml.safe_dump({**GRID, "parameters": {**GRID["parameters"], **changed}}, sort_keys=False))
    return path
