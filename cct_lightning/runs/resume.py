"""What a run folder says of the run in it: whether it is the same as the one asked for, and whether it is done."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from cct_lightning.errors import InputError

# Where the data lies and how it is loaded and computed changes no result.
_FREE = {"data.root", "data.cache_dir", "data.download", "data.num_workers", "model.compile"}
_SHOWN = 4  # differences in the message


def _leaves(value: Any, key: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict) and value:
        for name, item in value.items():
            yield from _leaves(item, f"{key}.{name}" if key else str(name))
    else:
        yield key, value


def read_config(run_dir: Path) -> dict[str, Any]:
    """Return the configuration of the run in a folder; empty where there is none."""
    path = run_dir / "config.yaml"
    if not path.is_file():
        return {}
    try:
        config = yaml.safe_load(path.read_text())
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InputError(f"{path} is damaged: restore it, or choose another --run_dir.") from error
    return config if isinstance(config, dict) else {}


def read_summary(run_dir: Path) -> dict[str, Any]:
    """Return what the run in a folder has reached; empty where there is none."""
    try:
        summary = json.loads((run_dir / "summary.json").read_text())
    except (OSError, ValueError):
        return {}
    return summary if isinstance(summary, dict) else {}


def check_same_run(run_dir: Path, config: dict[str, Any]) -> None:
    """Check that a run folder holds no other run: model, data and seed must be the same.

    The Trainer's options may differ, so that a run can be trained longer or go on with other devices.

    Args:
        run_dir: Run folder.
        config: The resolved configuration of the run to start.

    Raises:
        InputError: It does; the message lists what differs.
    """
    stored = read_config(run_dir)
    before, now = (
        {key: value for part in ("model", "data", "seed_everything") for key, value in _leaves(given.get(part), part)}
        for given in (stored, config)
    )
    differ = [
        f"{key} was {before[key]} and is {now.get(key)}"
        for key in before
        if key in now and before[key] != now[key] and key not in _FREE
    ]
    if stored and differ:
        more = f" and {len(differ) - _SHOWN} more" if len(differ) > _SHOWN else ""
        raise InputError(
            f"The run folder {run_dir} holds a run of another configuration ({'; '.join(differ[:_SHOWN])}{more}): "
            "choose another --run_dir."
        )


def is_finished(run_dir: Path, config: dict[str, Any]) -> bool:
    """Tell whether the run in a folder is done: trained for as many epochs, and tested where that is asked for.

    Args:
        run_dir: Run folder.
        config: The resolved configuration of the run to start.
    """
    summary, stored = read_summary(run_dir), read_config(run_dir)
    if summary.get("status") != "finished" or "train_seconds" not in summary:
        return False
    enough = (stored.get("trainer") or {}).get("max_epochs") or 0
    tested = "test/acc" in summary or not config.get("test_best")
    return enough >= (config["trainer"]["max_epochs"] or 0) and tested
