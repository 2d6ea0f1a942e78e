"""What the method `bayes` tries next: Optuna's TPE over what the runs of the search have reached.

A run chooses its values when it starts, from the folders of the others alone, and notes them in its own: a search that
was killed knows all that it knew, and machines of a cluster or tasks of a job array need nothing but the folder. Until
there are some results, values are drawn at random. A range is one of quantiles (0 to 1) for Optuna, so that it knows
logarithmic ones, too. Source: https://optuna.readthedocs.io.
"""

import random
import time
import warnings
from collections.abc import Mapping
from typing import Any

from cct_lightning.ablation.combine import is_excluded, variant_name
from cct_lightning.ablation.search import FIRST_DRAWS, TRIES, Search, values_at
from cct_lightning.ablation.values import Distribution, linked_in, options_in, read_values
from cct_lightning.errors import InputError
from cct_lightning.runs.folder import DONE, RunFolder
from cct_lightning.runs.lock import take_lock
from cct_lightning.runs.metrics_table import history
from cct_lightning.runs.state import read_state

_ASKED = 20  # times that Optuna is asked for values that no run has; then they are drawn
_CHOOSING = ".choosing"  # in the folder of the ablation: locked by the run that chooses its values


def choose(files: RunFolder) -> None:
    """Choose the values of a run that has none yet, and note them in its folder.

    Raises:
        InputError: Every combination has been tried.
    """
    folder = files.path.parent / _CHOOSING
    folder.mkdir(exist_ok=True)
    while (lock := take_lock(folder)) is None:
        time.sleep(0.1)
    with lock:
        record = files.record()
        space = record["space"]
        there = [RunFolder(path.parent) for path in sorted(files.path.parent.glob(f"*/{RunFolder.RECORD}"))]
        search = Search(runs=len(there), **space["search"])
        found = read_values(str(files.path), space["parameters"], draws=True)
        drawn = {key: each for key, each in found.items() if isinstance(each, Distribution)}
        points = {other: point for other in there if (point := other.record().get("point"))}
        taken = [values_at(drawn, point) for point in points.values()]
        told = [_told(other, search) for other in points]
        enough = sum("value" in each or "intermediate_values" in each for each in told) >= FIRST_DRAWS
        for attempt in range(TRIES):
            point = search.point(record["index"], drawn, attempt)
            if enough and attempt < _ASKED:
                seed = random.Random(f"{search.seed}/{record['index']}/{attempt}").getrandbits(32)
                point = _ask(search, drawn, list(points.values()), told, seed=seed)
            values = values_at(drawn, point)
            if values not in taken and not is_excluded(values, space["exclude"]):
                break
        else:
            raise InputError("the search has tried every combination: lower its run_cap")
        chosen = options_in(values)
        files.note(
            point=point,
            chosen=chosen,
            linked=linked_in(values),
            variant=variant_name(values, list(values), alone=record["variant"]),
            parameters={**record["parameters"], **chosen},
        )


def _told(files: RunFolder, search: Search) -> dict[str, Any]:
    """Return what Optuna is told of a run: its best value; of a stopped one, all values; of others, that they train."""
    from optuna.trial import TrialState

    status, values = read_state(files.path).status, history(files / files.METRICS, search.metric)
    if status == "failed":
        return {"state": TrialState.FAIL}
    if status not in DONE or not values:
        return {"state": TrialState.RUNNING}
    if status == "stopped":
        return {"state": TrialState.PRUNED, "intermediate_values": dict(enumerate(values, 1))}
    return {"value": max(values) if search.maximize else min(values)}


def _ask(
    search: Search,
    drawn: Mapping[str, Distribution],
    points: list[dict[str, int | float]],
    told: list[dict[str, Any]],
    *,
    seed: int,
) -> dict[str, int | float]:
    import optuna
    from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    ranges: dict[str, BaseDistribution] = {
        key: FloatDistribution(0, 1) if each.values is None else CategoricalDistribution(range(len(each.values)))
        for key, each in drawn.items()
    }
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        sampler = optuna.samplers.TPESampler(seed=seed, n_startup_trials=0, multivariate=True, constant_liar=True)
        study = optuna.create_study(direction="maximize" if search.maximize else "minimize", sampler=sampler)
        for point, state in zip(points, told, strict=True):
            study.add_trial(optuna.trial.create_trial(params=point, distributions=ranges, **state))
        return dict(study.ask(ranges).params)
