"""A small grid of real runs on digits, and how to run it."""

from pathlib import Path

import yaml
from warm import python, warm_environment

EPOCHS = 3
GRID = {
    "program": "cct",
    "command": ["${env}", "${program}", "fit", "--config=digits", "${args}"],
    "method": "grid",
    "parameters": {
        "model.arch": {"values": ["cvt_2_2", "cct_2_3x1"]},
        "model.pool": {"values": ["class_token", "seqpool"]},
        "seed_everything": {"values": [0, 1]},
        "model.embed_dim": {"value": 32},
        "trainer.max_epochs": {"value": EPOCHS},
        "model.optim.warmup_epochs": {"value": 1},
        "tracking.media_every_n_epochs": {"value": 0},
    },
}


def cct(*words: str) -> list[str]:
    """Return the command line of `cct`."""
    return [python(), "-m", "cct_lightning", *words]


def environment(**variables: str) -> dict[str, str]:
    """Variables of a run that computes on one thread and logs offline."""
    return warm_environment(WANDB_MODE="offline", **variables)


def write_grid(folder: Path, **parameters: object) -> Path:
    """Write the grid of eight runs, with some parameters replaced; two underscores stand for a dot."""
    changed = {key.replace("__", "."): value for key, value in parameters.items()}
    path = folder / "small.yaml"
    path.write_text(yaml.safe_dump({**GRID, "parameters": {**GRID["parameters"], **changed}}, sort_keys=False))
    return path
