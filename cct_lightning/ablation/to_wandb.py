"""Writes a grid as a sweep that W&B runs, for fields that W&B does not know: exclude, design, seeds.

W&B's grids are full: what is left out of one becomes a single parameter whose values are linked choices, one for each
combination, which `cct fit` takes apart. W&B's agents run the same commands as the engine.
"""

from pathlib import Path
from typing import Any

import yaml

from cct_lightning.ablation.combine import combinations, variant_name
from cct_lightning.ablation.grid import OURS, Grid, varied
from cct_lightning.ablation.values import Linked, options_in
from cct_lightning.config.options import SEED
from cct_lightning.config.yaml_file import read_yaml
from cct_lightning.errors import InputError
from cct_lightning.system.atomic import write_text
from cct_lightning.system.places import local_path


def write_sweep(grid: Grid, source: Path, target: str) -> None:
    """Write a file for `wandb sweep`.

    Args:
        grid: The grid.
        source: Its file.
        target: The file to write.

    Raises:
        InputError: A search that excludes combinations, which W&B cannot, or a file that cannot be written.
    """
    if grid.search is not None and grid.exclude:
        raise InputError("W&B cannot exclude combinations of a search: run it by `cct ablate`, or leave exclude out.")
    content = {key: value for key, value in read_yaml(source).items() if key not in OURS}
    content["parameters"] = _parameters(grid)
    if grid.search is not None:
        content["parameters"].setdefault("test_best", {"value": False})
    path = local_path(target)
    try:
        write_text(path, yaml.safe_dump(content, sort_keys=False, allow_unicode=True))
    except OSError as error:
        raise InputError(f"Cannot write {target}: {error.strerror}.") from error
    print(f"Wrote {target}: start it with `wandb sweep {target}`, then `wandb agent` on every GPU.")


def _parameters(grid: Grid) -> dict[str, Any]:
    entries = {key: {"values": [_plain(value) for value in values]} for key, values in grid.parameters.items()}
    entries |= {key: found.plain() for key, found in grid.drawn.items()}
    if grid.search is not None or (not grid.exclude and grid.design == "full"):
        return entries
    keys = varied(grid)
    # An exclusion that names a seed makes the seed part of the combination.
    seeded = any(SEED in entry for entry in grid.exclude)
    chosen = {key: values for key, values in grid.parameters.items() if key in keys or (seeded and key == SEED)}
    found = combinations(chosen, design=grid.design, exclude=grid.exclude)
    variants = [{"name": variant_name(values, list(values), alone=grid.name), **options_in(values)} for values in found]
    rest = {key: entry for key, entry in entries.items() if key not in chosen}
    return {"variant": {"values": variants}, **rest}


def _plain(value: Any) -> Any:
    return {"name": value.name, **value.options} if isinstance(value, Linked) else value
