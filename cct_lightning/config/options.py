"""Options of a run: which ones change results, which a name decides, how a value is compared and printed."""

import datetime
import os
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import yaml

from cct_lightning.errors import InputError
from cct_lightning.models.parts import Parts

SEED = "seed_everything"
CODE = "code"  # in a resolved configuration: the modules of the user's own and digests of their source
DEFAULT_SEED = 0

# Options that never change a result: where the data is, how it is loaded, on what it is computed, what is watched and
# kept. A dot at the end stands for all options below. The only such list.
NEVER_CHANGE_RESULTS = (
    "run_dir", "resume", "save_every_minutes", "test_best", "tracking.", "environment.",
    "data.root", "data.cache_dir", "data.download", "data.num_workers",
    "data.on_device",
    "data.batch_size",  # the global batch size counts, which is concrete in every resolved configuration
    "model.compile",
    "trainer.accelerator", "trainer.strategy", "trainer.devices", "trainer.num_nodes",
    "trainer.accumulate_grad_batches",  # likewise
    "trainer.logger", "trainer.log_every_n_steps", "trainer.enable_progress_bar",
    "trainer.enable_model_summary", "trainer.enable_autolog_hparams", "trainer.default_root_dir",
    "trainer.model_registry", "trainer.profiler", "trainer.detect_anomaly", "trainer.barebones",
    "trainer.num_sanity_val_steps", "trainer.inference_mode", "trainer.use_distributed_sampler",
    "trainer.deterministic", "trainer.benchmark", "trainer.fast_dev_run",
)  # fmt: skip

# Options of the Trainer that count batches as whole numbers and are a share of them as fractions: 1 is not 1.0.
WHOLE_OR_SHARE = (
    "trainer.limit_train_batches", "trainer.limit_val_batches", "trainer.limit_test_batches",
    "trainer.limit_predict_batches", "trainer.overfit_batches", "trainer.val_check_interval",
)  # fmt: skip

# What the data decides and the model needs: linked, no option of the model.
LINKS = ("img_size", "in_chans", "num_classes", "classes", "mean", "std", "preprocessing")
# Linked name, which nobody can set -> what to do in place of it.
LINKED = {
    "data.seed": f"give {SEED}",
    **{f"model.{name}": "the data decides it, leave it out" for name in LINKS},
    **{f"model.{name}": f"give data.{name}" for name in ("img_size", "mean", "std")},
}

# What a name decides, where nothing else is said: shown beside the name only where it differs from that.
PARTS = tuple(Parts.__annotations__)
DERIVED = {"model.arch": PARTS, "data.name": ("img_size", "stored_size", "mean", "std", "augment")}
# Options whose value may be a class with arguments: `my_lab.GemPool`, or {class_path: ..., init_args: {...}}.
CLASSES = (
    "model.arch", "model.tokenizer", "model.pool", "model.position", "model.loss", "model.optim.optimizer", "data.name",
)  # fmt: skip


def changes_results(key: str) -> bool:
    """Tell whether an option can change what a run computes."""
    return not any(key == name or (name[-1] == "." and key.startswith(name)) for name in NEVER_CHANGE_RESULTS)


def flatten(value: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield nested options as dotted key and value; an empty mapping is a value, and so is a class with arguments."""
    if isinstance(value, Mapping) and value and prefix not in CLASSES:
        for key, item in value.items():
            yield from flatten(item, f"{prefix}.{key}" if prefix else str(key))
    else:
        yield prefix, value


def normal(value: Any) -> Any:
    """Return a value so that equal ones compare equal: numbers as numbers, sequences as tuples, classes in one form."""
    if isinstance(value, Mapping):
        return tuple(sorted((str(key), normal(item)) for key, item in value.items()))
    if isinstance(value, list | tuple):
        return tuple(normal(item) for item in value) or None  # no callbacks are no callbacks
    if isinstance(value, str):
        try:  # W&B and grids hand numbers on as text
            return normal(float(value)) if value.strip()[-1:].isdigit() or "inf" in value else value
        except ValueError:
            return value
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value


def unify(found: dict[str, Any]) -> None:
    """Give options that compute the same the same values: mixing that never mixes, AdamW by its import path.

    An option that has no effect beside the others is left out.

    Args:
        found: Dotted option -> normal value of a whole run, changed in place.
    """
    mixing = {key: value for key, value in found.items() if key.startswith("data.mixing.")}
    off = (found.get("data.mixing.prob"), found.get("data.mixing.off_epoch"))
    if 0 in off or (mixing and not (mixing.get("data.mixing.mixup_alpha") or mixing.get("data.mixing.cutmix_alpha"))):
        for key in mixing:
            del found[key]
        found["data.mixing"] = None
    optimizer = found.get("model.optim.optimizer")
    spec = dict(optimizer) if isinstance(optimizer, tuple) else {"class_path": optimizer}
    if spec["class_path"] in ("torch.optim.AdamW", "torch.optim.adamw.AdamW"):
        arguments = {"betas": (0.9, 0.999), "eps": 1e-8, **dict(spec.get("init_args") or ())}  # its own defaults
        if arguments.keys() == {"betas", "eps"}:
            found["model.optim.optimizer"] = "adamw"
            found |= {f"model.optim.{key}": value for key, value in arguments.items()}
    for names, useless in _WITHOUT_EFFECT:
        if useless({key.removeprefix(_OPTIM): value for key, value in found.items() if key.startswith(_OPTIM)}):
            for name in names:
                found.pop(f"{_OPTIM}{name}", None)


_OPTIM = "model.optim."
# Options that change nothing beside the values that others have. The only such list.
_WITHOUT_EFFECT: tuple[tuple[tuple[str, ...], Callable[[Mapping[str, Any]], bool]], ...] = (
    (("muon_lr", "muon_momentum"), lambda optim: optim.get("optimizer", "muon") != "muon"),
    (("betas", "eps"), lambda optim: optim.get("optimizer", "muon") not in ("muon", "adamw")),
    (("base_batch_size",), lambda optim: optim.get("lr_scaling") == "none"),
    (("warmup_lr",), lambda optim: optim.get("warmup_epochs") == 0),
    (("min_lr",), lambda optim: optim.get("schedule") == "constant" and optim.get("cooldown_epochs") == 0),
)
# What only some runs have, because nothing in the others would use it: its absence is no difference between them.
SOMETIMES = tuple(f"{_OPTIM}{name}" for names, _ in _WITHOUT_EFFECT for name in names)


def text(value: Any) -> str:
    """Return a value as a person reads it: 0.0 is 0, a class with arguments is `my_lab.GemPool(p=3)`."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, Mapping):
        if "class_path" in value:
            arguments = ", ".join(f"{key}={text(item)}" for key, item in (value.get("init_args") or {}).items())
            return f"{value['class_path']}({arguments})" if arguments else str(value["class_path"])
        return "{" + ", ".join(f"{key}: {text(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(text, value)) + "]"
    found = normal(value)
    return f"{found:.12g}" if isinstance(found, float) else str(found)


def length_of(value: Any) -> float:
    """Return the length of a run in epochs, steps or seconds; 0 where it is not limited so.

    Args:
        value: The Trainer's max_epochs, max_steps or max_time (`DD:HH:MM:SS`, or a mapping such as {hours: 1}).

    Raises:
        InputError: A time of another form.
    """
    if isinstance(value, str) and value.startswith("{"):
        value = yaml.safe_load(value)
    if isinstance(value, str):
        if not re.fullmatch(r"\d+:\d+:\d+:\d+", value.strip()):
            raise InputError(f"trainer.max_time is {value!r}: give days, hours, minutes and seconds as DD:HH:MM:SS.")
        value = dict(zip(("days", "hours", "minutes", "seconds"), map(int, value.split(":")), strict=True))
    if isinstance(value, Mapping):
        return datetime.timedelta(**value).total_seconds()
    return max(0, value or 0)


def plain_values(value: Any) -> Any:
    """Return nested values as dicts and lists."""
    if isinstance(value, Mapping):
        return {key: plain_values(item) for key, item in value.items()}
    return [plain_values(item) for item in value] if isinstance(value, list | tuple) else value


def tilde(path: str) -> str:
    """Return a path below the home folder as ~/..., so that what is shared names no user; any other text as it is."""
    home = os.path.expanduser("~")
    inside = len(home) > 1 and (path + "/").startswith(home + "/")
    return "~" + path[len(home) :] if inside else path


def without_home(value: Any) -> Any:
    """Return nested plain values with `tilde` applied to every text."""
    if isinstance(value, dict):
        return {key: without_home(item) for key, item in value.items()}
    if isinstance(value, list):
        return [without_home(item) for item in value]
    return tilde(value) if isinstance(value, str) else value
