"""A search: which method, by which metric, how many runs; and the values that the method `random` draws.

A draw is a pure function of the search's seed, the run's place and the option's name: the same command plans the same
runs, and a search that grows keeps those it has. What `bayes` chooses is in `bayes.py`.
"""

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from cct_lightning.ablation.combine import Combination, is_excluded
from cct_lightning.ablation.values import Distribution
from cct_lightning.config.options import plain_values
from cct_lightning.errors import InputError, nearest
from cct_lightning.runs.hyperband import Hyperband
from cct_lightning.runs.metrics import LOGGED, VAL_ACC, metric

_METHODS = ("grid", "random", "bayes")
TRIES = 10_000  # to draw a combination that is neither excluded nor there already
FIRST_DRAWS = 10  # results before `bayes` begins to choose; its runs before that are drawn at random
_LONGEST = 100_000  # validations of a run


@dataclass(frozen=True, kw_only=True)
class Search:
    """A search among combinations of values."""

    method: Literal["random", "bayes"]
    runs: int  # how many it tries
    seed: int
    metric: str  # of the validation
    maximize: bool

    def point(self, index: int, drawn: Mapping[str, Distribution], attempt: int = 0) -> dict[str, int | float]:
        """Return which place a run draws for each option."""
        tail = f"/{attempt}" if attempt else ""
        draws = {key: random.Random(f"{self.seed}/{index}/{key}{tail}").random() for key in drawn}
        return {key: drawn[key].place(u) for key, u in draws.items()}

    def draw(
        self, drawn: Mapping[str, Distribution], exclude: Sequence[Mapping[str, Any]], *, runs: int
    ) -> list[Combination]:
        """Return the combinations that some runs draw at random, each once.

        Raises:
            InputError: There are fewer.
        """
        found: list[Combination] = []
        for index in range(runs):
            for attempt in range(TRIES):
                values = values_at(drawn, self.point(index, drawn, attempt))
                if values not in found and not is_excluded(values, exclude):
                    found.append(values)
                    break
            else:
                raise InputError(
                    f"The search finds {len(found)} different combinations and run_cap is {self.runs}: lower it, or "
                    "use the method grid."
                )
        return found


def values_at(drawn: Mapping[str, Distribution], point: Mapping[str, int | float]) -> Combination:
    """Return the values at the places of a point."""
    return {key: drawn[key].at(place) for key, place in point.items()}


def space_of(search: Search, drawn: Mapping[str, Distribution], exclude: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return what a run needs to choose its values, in plain types."""
    entries = {key: distribution.plain() for key, distribution in drawn.items()}
    how = {key: value for key, value in vars(search).items() if key != "runs"}  # of which there may be more later
    found: dict[str, Any] = plain_values({"search": how, "parameters": entries, "exclude": exclude})
    return found


def read_search(where: str, content: Mapping[str, Any]) -> Search | None:
    """Read what makes a file a search; None for a grid.

    Raises:
        InputError: Another method, no number of runs, or a metric that is not of the validation.
    """
    method = content["method"]
    if method not in _METHODS:
        hint = nearest(str(method), _METHODS)
        raise InputError(f"The method of {where} is {method!r}: choose {', '.join(_METHODS)}.{hint}")
    if method == "grid":
        if "sampler_seed" in content:
            raise InputError(f"The sampler_seed of {where} is for searches: a grid draws nothing.")
        return None
    if content.get("run_cap") is None:
        raise InputError(f"{where} needs run_cap, the number of runs, for the method {method}.")
    seed = content.get("sampler_seed", 0)
    if type(seed) is not int:
        raise InputError(f"The sampler_seed of {where} is {seed!r}: give a whole number.")
    name, maximize = _metric(where, content, f"the method {method}")
    return Search(method=method, runs=content["run_cap"], seed=seed, metric=name, maximize=maximize)


def read_hyperband(where: str, content: Mapping[str, Any]) -> Hyperband | None:
    """Read the field `early_terminate`; None where there is none.

    Raises:
        InputError: Not what W&B takes.
    """
    given = content.get("early_terminate")
    if given is None:
        return None
    known = ("type", "min_iter", "max_iter", "s", "eta", "strict")
    example = "such as {type: hyperband, min_iter: 3, eta: 3}"
    if not isinstance(given, Mapping) or given.get("type") != "hyperband":
        raise InputError(f"The early_terminate of {where} must be of the type hyperband, {example}.")
    if unknown := [key for key in given if key not in known]:
        hint = nearest(unknown[0], known)
        raise InputError(f"The early_terminate of {where} has {unknown[0]!r}: known are {', '.join(known)}.{hint}")
    eta = given.get("eta", 3)
    numbers = [given[key] for key in ("min_iter", "max_iter", "s") if key in given]
    if (
        any(type(number) is not int or number < 1 for number in numbers)
        or isinstance(eta, bool)
        or not (isinstance(eta, int | float) and eta > 1)
    ):
        raise InputError(f"The early_terminate of {where} needs whole numbers from 1, and an eta above 1, {example}.")
    if "max_iter" in given and "s" in given:
        bands = [int(given["max_iter"] / eta**k) for k in range(1, given["s"] + 1)]
    elif "min_iter" in given and "max_iter" not in given:
        bands, band = [], float(given["min_iter"])
        while band <= _LONGEST:
            bands.append(int(band))
            band *= eta
    else:
        raise InputError(f"The early_terminate of {where} needs min_iter, or max_iter and s, {example}.")
    bands = sorted({band for band in bands if band >= 1})
    if not bands:
        raise InputError(f"The early_terminate of {where} compares runs after less than one epoch: raise max_iter.")
    name, maximize = _metric(where, content, "early_terminate")
    return Hyperband(
        metric=name, maximize=maximize, bands=tuple(bands), eta=eta, strict=bool(given.get("strict", True))
    )


def _metric(where: str, content: Mapping[str, Any], purpose: str) -> tuple[str, bool]:
    """Return the metric that decides, and whether more of it is better."""
    given = content.get("metric")
    example = f"such as {{name: {VAL_ACC}, goal: maximize}}"
    name = given.get("name") if isinstance(given, Mapping) else None
    if not isinstance(given, Mapping) or not isinstance(name, str):
        raise InputError(f"{where} needs a metric for {purpose}, {example}.")
    if not name.startswith("val/"):
        raise InputError(
            f"The metric of {where} is {name}: runs are chosen by a metric of the validation, {example}; the "
            "test images are for the one that is chosen."
        )
    known = [each for each in LOGGED if each.startswith("val/")]
    if name not in known:
        hint = nearest(name, known)
        raise InputError(f"The metric of {where} is {name}, which no run logs: choose {', '.join(known)}.{hint}")
    goal = given.get("goal", "minimize")  # W&B's default
    if goal != f"{metric(name).goal}imize":
        raise InputError(f"The metric of {where} has the goal {goal}: for {name} write goal: {metric(name).goal}imize.")
    return name, goal == "maximize"
