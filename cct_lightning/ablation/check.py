"""Checks the runs of a grid before the first one starts, with the parser and the classes that the runs will use."""

import traceback
from collections.abc import Mapping, Sequence
from typing import Any

import yaml
from jsonargparse import Namespace
from torch import nn

from cct_lightning.ablation.grid import GridRun, words
from cct_lightning.ablation.plan import Checked
from cct_lightning.ablation.values import Linked
from cct_lightning.config.options import SEED
from cct_lightning.config.parser import instantiate, parse, plain
from cct_lightning.config.resolved import ResolvedConfig
from cct_lightning.data.datasets.sources import SOURCES
from cct_lightning.errors import InputError
from cct_lightning.runs.labels import costs
from cct_lightning.tracking.progress import quiet_libraries
from cct_lightning.training.checks import check_length
from cct_lightning.training.optim import Optim

_SHOWN = 20  # combinations in a message
_LONGEST = 300  # characters of an error that is not ours


def check_runs(runs: Sequence[GridRun], *, prepare: bool) -> list[Checked]:
    """Parse the command line of every run and build each model once.

    Args:
        runs: The runs.
        prepare: Also download and decode the data, so that no run finds it missing.

    Raises:
        InputError: Runs that would not start: the first one and why, and how to go on without all of them.
    """
    quiet_libraries()
    known: dict[str, dict[str, Any] | InputError] = {}
    checked: list[Checked] = []
    failed: list[tuple[GridRun, InputError]] = []
    for run in runs:
        key = run.variant
        try:
            options = parse("fit", [*run.arguments, *words(run.example)])
            config = ResolvedConfig.resolve(plain(options))
            # Many runs differ in the seed alone.
            key = str({name: value for name, value in config.flat.items() if name != SEED})
            if key not in known:
                known[key] = _costs(options, prepare=prepare and not failed)
        except InputError as error:
            known[key] = error
        cost = known[key]
        if isinstance(cost, InputError):
            failed.append((run, cost))
            continue
        epochs = options.trainer.max_epochs or 0
        checked.append(Checked(run=run, config=config, params=cost["params"], macs=cost["macs"], epochs=epochs))
    if failed:
        first, why = failed[0]
        raise InputError(f"The run {first.name} would not start: {why}{_without(failed, runs)}") from why
    return checked


def _costs(options: Namespace, *, prepare: bool) -> dict[str, Any]:
    trainer = options.trainer
    if not trainer.fast_dev_run:
        optim = Optim(**options.model.optim.as_dict())
        check_length(optim, epochs=trainer.max_epochs, max_steps=trainer.max_steps, max_time=trainer.max_time)
    try:
        built = instantiate("fit", options)
        found = costs(built.model)
        if prepare:
            built.data.prepare()
    except (InputError, OSError):  # the second of a disk or the network, which the command line says
        raise
    except Exception as error:  # of any class: a part of the user's may raise it
        message = " ".join(str(error).split())[:_LONGEST].rstrip(".")
        who = _raised_by(error) or (
            "The model" if options.data.name in SOURCES else f"The data set {options.data.name}"
        )
        raise InputError(f"{who} raised {type(error).__name__}: {message}.") from error
    return found


def _raised_by(error: Exception) -> str:
    """Return the import path of the innermost module of the user's own that an error came through; empty: of none."""
    kinds = [
        type(frame.f_locals["self"])
        for frame, _ in traceback.walk_tb(error.__traceback__)
        if isinstance(frame.f_locals.get("self"), nn.Module)
    ]
    own = [kind for kind in kinds if kind.__module__.partition(".")[0] not in ("torch", __name__.partition(".")[0])]
    return f"{own[-1].__module__}.{own[-1].__qualname__}" if own else ""


def _without(failed: Sequence[tuple[GridRun, InputError]], runs: Sequence[GridRun]) -> str:
    """Say what to add to the file so that the other runs are planned; nothing where none or too many would be left."""
    entries = list(dict.fromkeys(_entry(run.choices) for run, _ in failed))
    if len(failed) == len(runs) or len(entries) > _SHOWN:
        return ""
    return (
        f" Of {len(runs)} runs {len(failed)} would not start; to train the others, add to the file: "
        f"exclude: [{', '.join(entries)}]"
    )


def _entry(choices: Mapping[str, Any]) -> str:
    plain = {key: str(value) if isinstance(value, Linked) else value for key, value in choices.items()}
    return yaml.safe_dump(plain, default_flow_style=True, sort_keys=False, width=10_000).strip()
