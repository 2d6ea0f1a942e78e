"""What run is this? Every option with its concrete value, and which options can change a result.

A run is known by its options alone: no data and no weights are read. config.yaml, W&B's config, the check before a run
continues, `cct compare`, run names and the detection of finished runs all ask here, so that `pool` left out and
`pool: seqpool`, 0.0 and 0, or a policy by name and by its parts are one answer everywhere.

This file imports neither torch nor Lightning, unless an option is missing that only they know the default of.
"""

import copy
import dataclasses
import hashlib
import json
import re
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml

from cct_lightning.config.options import (
    CLASSES,
    CODE,
    DEFAULT_SEED,
    PARTS,
    SEED,
    WHOLE_OR_SHARE,
    changes_results,
    flatten,
    length_of,
    normal,
    plain_values,
    text,
    unify,
    without_home,
)
from cct_lightning.config.own_code import own_code
from cct_lightning.config.yaml_file import read_yaml
from cct_lightning.errors import InputError
from cct_lightning.models.arch import is_compact, parse_arch
from cct_lightning.models.parts import plain_spec
from cct_lightning.training.precision import precision_name

_ARCH = re.compile(r"(cct|cvt|vit)_\d+_\d+(x\d+)?")  # the part of a name that decides the model's parts
_LAUNCH = {"run_dir": None, "resume": "auto"}
_SHOWN = 4  # differences in a message


@dataclasses.dataclass(frozen=True)
class ResolvedConfig:
    """The options of a run, all concrete.

    Attributes:
        options: Nested plain values, as config.yaml and W&B's config hold them; `cct fit --config` takes them back.
    """

    options: dict[str, Any]

    @classmethod
    def resolve(
        cls, options: Mapping[str, Any], *, world_size: int | None = None, stored: bool = False
    ) -> "ResolvedConfig":
        """Fill in what names, data sets and defaults decide.

        Args:
            options: Nested options of `cct fit`; those of version 0.1 and of a run that failed early are completed.
                The user's own code is as it is now, unless they hold its digests.
            world_size: Processes over all machines; None: what `trainer.devices` and `num_nodes` say, else 1.
            stored: They come from a file or W&B, which may be anybody's: code that they name is not imported.

        Raises:
            InputError: An unknown model, data set or augmentation.
        """
        found = copy.deepcopy({key: plain_values(value) for key, value in options.items() if key != "base"})
        found.setdefault(SEED, DEFAULT_SEED)
        # What belongs to one launch alone.
        found |= {key: value for key, value in _LAUNCH.items() if key in found}
        for part in ("model", "data", "trainer"):
            found[part] = dict(found.get(part) or {})
        for key in CLASSES:
            group, _, name = key.partition(".")
            if found[group].get(name) is not None:
                found[group][name] = plain_spec(key, found[group][name])
        _fill(found["trainer"], "trainer")
        if (length := found["trainer"].get("max_time")) is not None:
            minutes, seconds = divmod(int(length_of(length)), 60)
            hours, minutes = divmod(minutes, 60)
            found["trainer"]["max_time"] = f"{hours // 24:02}:{hours % 24:02}:{minutes:02}:{seconds:02}"
        _resolve_model(found["model"])
        _resolve_data(found["data"], found["trainer"], world_size, stored)
        if CODE not in found and (code := own_code(found)):
            found[CODE] = code
        return cls(without_home(found))

    @classmethod
    def read(cls, path: Path) -> "ResolvedConfig | None":
        """Read a config.yaml; None where there is none.

        Raises:
            InputError: It is damaged.
        """
        if not path.is_file():
            return None
        try:
            content = read_yaml(path)
        except InputError as error:
            raise InputError(f"{path} is damaged: restore it, or choose another --run_dir.") from error
        return cls.resolve(content, stored=True) if isinstance(content, dict) else None

    @cached_property
    def flat(self) -> dict[str, Any]:
        """Dotted option -> value."""
        return dict(flatten(self.options))

    @cached_property
    def results(self) -> dict[str, Any]:
        """Dotted option -> normal value, of those that can change a result; what is equal here computes the same."""
        found = {key: normal(value) for key, value in self.flat.items() if changes_results(key)}
        unify(found)
        if found.get("model.optim.muon_lr") == found.get("model.optim.lr"):
            found["model.optim.muon_lr"] = None  # which is `lr`
        for key in WHOLE_OR_SHARE:
            if found.get(key) is not None:
                value = self.flat[key]
                whole = value == 1 and isinstance(value, float) and key != "trainer.overfit_batches"
                found[key] = None if whole else (type(value).__name__, value)
        # Without a limit, all images are evaluated, in whatever batches. Version 0.1 did not have the option.
        whole = all(found.get(f"trainer.limit_{stage}_batches") is None for stage in ("val", "test"))
        if whole or found.get("data.eval_batch_size") is None:
            found.pop("data.eval_batch_size", None)
        if not found.get("trainer.gradient_clip_val"):
            found |= {key: None for key in found if key.startswith("trainer.gradient_clip")}
        elif found.get("trainer.gradient_clip_algorithm") is None:
            found["trainer.gradient_clip_algorithm"] = "norm"
        if found.get("data.fraction") == 1:
            found["data.fraction"] = None
        for key, spelled in (("trainer.precision", precision_name), ("trainer.max_time", length_of)):
            if key in found:
                found[key] = spelled(self.flat[key])
        if self._known_by_parts:
            found["model.arch"] = "compact"
        return found

    @cached_property
    def _known_by_parts(self) -> bool:
        # A Compact Transformer's parts say all that its name does; which published weights it has, its name alone does.
        arch, weights = self.flat.get("model.arch"), self.flat.get("model.pretrained")
        path = isinstance(weights, str) and ("/" in weights or bool(Path(weights).suffix))  # or hf-hub:USER/NAME
        named = weights is True or (isinstance(weights, str) and not path)
        return isinstance(arch, str) and is_compact(arch) and not named

    @property
    def arch(self) -> str:
        """The model's name without what other options say anyway: position, image size, classes."""
        arch = text(self.flat.get("model.arch"))
        short = _ARCH.match(arch) if self._known_by_parts else None
        return short[0] if short else arch

    @cached_property
    def results_key(self) -> frozenset[tuple[str, Any]]:
        """What two runs share that compute the same."""
        return frozenset(self.results.items())

    def identity(self) -> dict[str, Any]:
        """Return what must be the same for a run to go on: model, data, seed, own code; not the Trainer's options."""
        return {key: value for key, value in self.results.items() if key.split(".")[0] in ("model", "data", SEED, CODE)}

    @property
    def seed(self) -> int | None:
        """The run's seed."""
        found = self.options.get(SEED)
        return found if isinstance(found, int) else None

    @property
    def digest(self) -> str:
        """Six characters that differ between runs of different options, whatever the state of the user's own code."""
        options = [item for item in sorted(self.results.items()) if item[0].split(".")[0] != CODE]
        return hashlib.sha256(json.dumps(options, default=str).encode()).hexdigest()[:6]

    @property
    def name(self) -> str:
        """Data set, model and what differs from the model's name: `cifar10-cct_7_3x1-pool=class_token`."""
        model, data = self.options["model"], self.options["data"]
        # Dropout rates and the like are read from the configuration, not from the name.
        parts = [key for key in _differing_parts({**model, "arch": self.arch}) if not key.endswith(("drop", "rate"))]
        return "-".join([text(data.get("name")), self.arch, *(f"{key}={text(model[key])}" for key in parts)])

    @property
    def tags(self) -> list[str]:
        """W&B's tags: data set, model and its parts."""
        model, data = self.options["model"], self.options["data"]
        parts = [text(model[key]) for key in ("tokenizer", "pool") if model.get(key) is not None]
        position = [f"position-{text(model['position'])}"] if model.get("position") is not None else []
        return [text(data.get("name")), self.arch, *parts, *position]

    def differences(self, other: "ResolvedConfig") -> list[str]:
        """Return what must be the same for a run to go on and is not: `model.pool was mean and is seqpool`."""
        before, now = self.identity(), other.identity()
        lost = object()
        keys = [key for key in {**before, **now} if before.get(key, lost) != now.get(key, lost)]
        found: dict[str, str] = {}
        for key in keys:
            # A tree against a single value, such as a mixing policy against null, is one difference.
            branch = next((k for k in (*before, *now) if key.startswith(f"{k}.")), key)
            if key.startswith(f"{CODE}."):
                if key in before and key in now:  # else another part is named, which says so itself
                    found[key] = f"the code of {key.removeprefix(f'{CODE}.')} has changed"
                continue
            found[branch] = f"{branch} was {_shown(self, branch)} and is {_shown(other, branch)}"
        if found and self.flat.get("model.arch") != other.flat.get("model.arch"):
            # The names say what follows from them.
            own = {*_differing_parts(self.options["model"]), *_differing_parts(other.options["model"])}
            said = {f"model.{part}" for part in PARTS if part not in own}
            if said & set(found) or "model.arch" in found:
                arch = f"model.arch was {_shown(self, 'model.arch')} and is {_shown(other, 'model.arch')}"
                return [arch, *(line for key, line in found.items() if key not in {*said, "model.arch"})]
        return list(found.values())

    def check_same_run(self, other: "ResolvedConfig", run_dir: Path) -> None:
        """Check that a run folder holds the run that is asked for.

        Args:
            other: The run that is asked for.
            run_dir: The folder that holds this one.

        Raises:
            InputError: It holds another one; the message lists what differs.
        """
        differ = self.differences(other)
        if differ:
            more = f" and {len(differ) - _SHOWN} more" if len(differ) > _SHOWN else ""
            own = all(line.startswith("the code of ") for line in differ)
            go_on = f"; --resume {run_dir / 'last.ckpt'} goes on there with the code as it is now" if own else ""
            raise InputError(
                f"The run folder {run_dir} holds a run of another configuration ({'; '.join(differ[:_SHOWN])}{more}): "
                f"choose another --run_dir{go_on}."
            )

    def to_yaml(self) -> str:
        """Return the options as `cct fit --config` reads them."""
        return yaml.safe_dump(self.options, sort_keys=False, allow_unicode=True)


def _shown(config: ResolvedConfig, key: str) -> str:
    found: Any = config.options
    for word in key.split("."):
        found = found.get(word) if isinstance(found, Mapping) else None
    return text(found)


def _differing_parts(model: Mapping[str, Any]) -> list[str]:
    arch = model.get("arch")
    own = dataclasses.asdict(parse_arch(arch)) if isinstance(arch, str) and is_compact(arch) else {}
    return [key for key in PARTS if model.get(key) is not None and normal(model[key]) != normal(own.get(key))]


def _resolve_model(model: dict[str, Any]) -> None:
    _fill(model, "model")
    arch = model.get("arch")
    if isinstance(arch, str) and is_compact(arch):
        own = dataclasses.asdict(parse_arch(arch))
        # In the order of the name's parts, so that config.yaml reads alike whatever was given.
        given = {key: model.pop(key, None) for key in PARTS}
        model |= {key: own[key] if value is None else value for key, value in given.items()}


def _resolve_data(data: dict[str, Any], trainer: dict[str, Any], world_size: int | None, stored: bool) -> None:
    _fill(data, "data")
    data.pop("seed", None)  # it is the run's
    if isinstance(data.get("img_size"), int):
        data["img_size"] = [data["img_size"]] * 2
    if isinstance(data.get("stored_size"), int):
        data["stored_size"] = [data["stored_size"]] * 2
    name, augment = data.get("name"), data.get("augment")
    followed = name is not None and not (stored and "." in text(name))
    if followed and any(data.get(key) is None for key in ("img_size", "mean", "std", "augment")):
        _from_data_set(data)
    if isinstance(augment, Mapping) and not (stored and any("." in text(op) for op in augment.get("extra_ops") or ())):
        from cct_lightning.data.augment.policies import named_or_whole

        data["augment"] = plain_values(named_or_whole(augment))
    if data.get("global_batch_size") is None and data.get("batch_size") is not None:
        if world_size is None:
            known = [str(trainer.get(key)) for key in ("devices", "num_nodes")]
            world_size = int(known[0] if known[0].isdecimal() else 1) * int(known[1] if known[1].isdecimal() else 1)
        data["global_batch_size"] = data["batch_size"] * world_size * (trainer.get("accumulate_grad_batches") or 1)


def _from_data_set(data: dict[str, Any]) -> None:
    from cct_lightning.data.datasets.sources import source_named
    from cct_lightning.data.storage.store import stored_size_of

    source = source_named(data["name"])
    size = data.get("img_size") or source.size
    if source.made_of_images and data.get("stored_size") is None:
        held = stored_size_of(source, tuple(size) if size else None, None)
        data["stored_size"] = list(held) if held else None
    # What only the files know (their size, their mean) stays null: it is the files' own.
    decided = {"img_size": size, "mean": source.mean, "std": source.std, "augment": source.augment}
    for key, value in decided.items():
        if data.get(key) is None and value:
            data[key] = list(value) if isinstance(value, tuple) else value


def _fill(options: dict[str, Any], group: str) -> None:
    """Give options that are missing their defaults: a run of version 0.1 does not name what came later."""
    missing = [key for key in REQUIRED[group] if key not in options]
    if missing:
        from cct_lightning.config.parser import defaults

        for key, value in defaults(group).items():
            options.setdefault(key, copy.deepcopy(value))
            if isinstance(value, Mapping) and isinstance(options[key], Mapping):
                options[key] = {**copy.deepcopy(value), **options[key]}


# Options that every resolved configuration names; one without them is completed from the signatures.
REQUIRED = {
    "model": ("arch", "label_smoothing", "loss", "optim", "finetune"),
    "data": ("name", "augment", "mixing"),
    "trainer": ("max_epochs", "max_steps", "max_time", "precision", "gradient_clip_val"),
}
