"""`cct_lightning.fit`: the run of `cct fit` from Python and notebooks."""

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from cct_lightning.build import build_run
from cct_lightning.config.one_sentence import option_names
from cct_lightning.config.options import LINKS, SEED
from cct_lightning.config.parser import parse, run_parser
from cct_lightning.data.augment.mixup import MixingPolicy
from cct_lightning.data.augment.policies import AugmentPolicy
from cct_lightning.errors import InputError, nearest
from cct_lightning.runs.interrupts import Stopped
from cct_lightning.runs.result import RunResult
from cct_lightning.tracking.progress import quiet_libraries


def fit(*recipes: str, options: Mapping[str, Any] | None = None, **named: Any) -> RunResult:
    """Train and test a model: the run of `cct fit`, with its run folder, tracking and resume, from Python.

    Example:
        >>> result = cct_lightning.fit("digits", pool="class_token", max_epochs=3, run_dir="runs/mine")
        >>> result.summary["test/acc"], result.metrics, result.load()

    Args:
        *recipes: Shipped recipes by name, or YAML files; later ones win.
        options: Options of `cct fit` by their whole names: {"model.optim.lr": 1e-3}.
        **named: Options by the last part of their names, where only one ends so: `pool` is model.pool, `max_epochs`
            trainer.max_epochs, `lr` model.optim.lr, `seed` seed_everything. `cct fit --help` lists all.

    Returns:
        The run folder, what the run reached, its metrics, and a way to load the model.

    Raises:
        InputError: An unknown option, or what was asked for cannot be done; nothing is written then.
        KeyboardInterrupt: The run was interrupted; with the same `run_dir` it continues.
    """
    quiet_libraries()
    given = dict(options or {})
    for name, value in named.items():
        if (whole := _whole_name(name)) in given:
            raise InputError(f"The option {whole} is given twice: leave {name} or its entry in `options` out.")
        given[whole] = value
    if given.get("trainer.fast_dev_run"):
        raise InputError("fast_dev_run leaves no run folder: use `cct fit --trainer.fast_dev_run true`.")
    words = [*(f"--config={recipe}" for recipe in recipes), *(f"--{key}={_word(key, v)}" for key, v in given.items())]
    try:
        result = build_run(parse("fit", words)).train()
    except Stopped as stopped:
        raise KeyboardInterrupt(f"{stopped.name}: with the same run_dir the run continues.") from stopped
    assert result is not None  # no trial run
    return result


def _whole_name(name: str) -> str:
    known = [option for option in option_names(run_parser("fit")) if option not in {f"model.{link}" for link in LINKS}]
    for group, kind in (("data.mixing", MixingPolicy), ("data.augment", AugmentPolicy)):
        known += [f"{group}.{part.name}" for part in dataclasses.fields(kind)]
    if name in known:
        return name
    if name == "seed":
        return SEED
    found = [option for option in known if option.endswith(f".{name}")]
    if len(found) == 1:
        return found[0]
    if found:
        raise InputError(f"The option {name!r} could be {' or '.join(found)}: give it in `options` by its whole name.")
    last = [option.rpartition(".")[2] for option in known]
    raise InputError(f"`cct fit` has no option {name!r}.{nearest(name, last)}")


def _word(key: str, value: Any) -> str:
    if isinstance(value, type):
        return f"{value.__module__}.{value.__qualname__}"
    if isinstance(value, str | Path):
        return str(value)
    try:
        return json.dumps(value.item() if isinstance(value, np.generic) else value)
    except TypeError as error:
        raise InputError(
            f"The option {key} is a {type(value).__name__}: give plain values, or a class by its import path."
        ) from error
