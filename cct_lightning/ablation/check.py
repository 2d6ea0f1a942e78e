"""Checks the runs of a grid before the first one starts, with the parser and the classes that the runs will use."""

from collections.abc import Sequence
from typing import Any

from cct_lightning.ablation.grid import GridRun
from cct_lightning.ablation.plan import Checked
from cct_lightning.config.options import SEED
from cct_lightning.config.parser import instantiate, parse, plain
from cct_lightning.config.resolved import ResolvedConfig
from cct_lightning.errors import InputError
from cct_lightning.runs.labels import costs
from cct_lightning.tracking.progress import quiet_libraries


def check_runs(runs: Sequence[GridRun], *, prepare: bool) -> list[Checked]:
    """Parse the command line of every run and build each model once.

    Args:
        runs: The runs.
        prepare: Also download and decode the data, so that no run finds it missing.

    Raises:
        InputError: A run that would not start.
    """
    quiet_libraries()
    known: dict[str, dict[str, Any]] = {}
    checked = []
    for run in runs:
        try:
            options = parse("fit", run.arguments)
            config = ResolvedConfig.resolve(plain(options))
            # Many runs differ in the seed alone.
            key = str({name: value for name, value in config.flat.items() if name != SEED})
            if key not in known:
                built = instantiate("fit", options)
                if prepare:
                    built.data.prepare()
                known[key] = costs(built.model)
        except InputError as error:
            raise InputError(f"The run {run.name} would not start: {error}") from error
        cost, epochs = known[key], options.trainer.max_epochs or 0
        checked.append(Checked(run=run, config=config, params=cost["params"], macs=cost["macs"], epochs=epochs))
    return checked
