"""Recipes: YAML files of options, shipped ones by name, each of which may build on another (`base: cifar10`)."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from cct_lightning.config.options import CLASSES, CODE, LINKED, PARTS, flatten, text
from cct_lightning.config.yaml_file import read_yaml
from cct_lightning.errors import InputError, nearest
from cct_lightning.system.places import local_path

# Group of options -> one of them.
_GROUPS = {
    "model": "arch: cct_7_3x1", "data": "name: digits", "trainer": "max_epochs: 3", "tracking": "mode: offline",
    "model.optim": "lr: 0.001", "model.finetune": "layer_decay: 0.7",
}  # fmt: skip
CONFIGS = Path(__file__).parents[1] / "configs"


def recipes() -> dict[str, Path]:
    """Return the shipped recipes by name."""
    return {path.stem: path for path in sorted(CONFIGS.glob("*.yaml"))}


def find_config(name: str, *, beside: Path | None = None) -> Path:
    """Return the path of a recipe: a file as it is, or a shipped one by its name.

    Args:
        name: Path or name.
        beside: The file that names it, in whose folder it is looked for first.

    Raises:
        InputError: Neither.
    """
    if not name:
        raise InputError("--config needs a value: the name of a recipe, or a YAML file.")
    local_path(name)  # an address is refused
    for path in ([beside.parent / name] if beside is not None else []) + [Path(name)]:
        if path.is_file():
            return path
    known = recipes()
    if name in known:
        return known[name]
    if Path(name).is_dir() or Path(name).suffix in (".yaml", ".yml", ".json") or "/" in name:
        raise InputError(f"No config file {name}: give a YAML file, or one of the recipes {', '.join(known)}.")
    raise InputError(f"No recipe {name!r}: choose {', '.join(known)}, or a YAML file.{nearest(name, known)}")


def layers(name: str) -> list[Path]:
    """Return the paths of a recipe and of those it builds on (its key `base`), the base first.

    Raises:
        InputError: No such recipe, or recipes that build on each other in a circle.
    """
    paths = [find_config(name)]
    while (base := read_recipe(paths[0]).get("base")) is not None:
        paths.insert(0, find_config(str(base), beside=paths[0]))
        if paths[0] in paths[1:]:
            raise InputError(f"The recipe {base!r} builds on itself: correct the key `base` in {paths[0]}.")
    return paths


def read_recipe(path: Path) -> dict[str, Any]:
    """Return the options of a YAML file.

    Raises:
        InputError: It is no YAML, no mapping of options by group, or sets what is linked to another option.
    """
    content = read_yaml(path)
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise InputError(
            f"Unexpected config {path}: it must hold options by name, such as `trainer: {{max_epochs: 3}}`."
        )
    _check_groups(content, path)
    model = content.get("model")
    if isinstance(model, dict) and all(part in model for part in PARTS):
        # The resolved configuration of a run: what its model's name says anyway is left to the name, so that another
        # `--model.arch` on top of it brings its own parts.
        from cct_lightning.models.arch import is_compact, parse_arch

        if isinstance(model.get("arch"), str) and is_compact(model["arch"]):
            own = vars(parse_arch(model["arch"]))
            content["model"] = {key: v for key, v in model.items() if not (key in PARTS and own[key] == v)}
    return content


def _check_groups(content: dict[str, Any], path: Path) -> None:
    """Check that groups hold options by name that can be set; empty groups are left out of `content`."""
    for group, example in _GROUPS.items():
        *above, name = group.split(".")
        inside = content.get(above[0]) if above else content
        if not inside or name not in inside:
            continue
        if inside[name] is None:
            del inside[name]
        elif not isinstance(inside[name], dict):
            raise InputError(
                f"{group} in {path} is {text(inside[name])}: give its options by name, such as {group}: {{{example}}}."
            )
    if "config" in content:
        raise InputError(f"{path} has the key `config`: a recipe builds on another by `base: {content['config']}`.")
    for key, _ in flatten(content):
        if key in LINKED:
            raise InputError(f"{key} in {path} cannot be set: {LINKED[key]}.")


def _options_in(path: Path) -> dict[str, Any]:
    # Without the base, whose options are there already, and without the state of a run's own code: it may be another.
    return {key: value for key, value in read_recipe(path).items() if key not in ("base", CODE)}


def expand_configs(args: Sequence[str], *, base: Mapping[str, Any] | None = None) -> list[str]:
    """Return the words of a command with each `--config NAME` replaced by the options of that recipe and its bases.

    Recipes come first, whatever their place, so that options always win.

    Args:
        args: The words.
        base: Options below all recipes: those of the run that a checkpoint comes from.

    Raises:
        InputError: No such recipe.
    """
    words, configs, rest = iter([plain for word in args for plain in _unlinked(word)]), [dict(base or {})], list[str]()
    for word in words:
        given = re.fullmatch(r"(?:--config|-c)(?:=(.*))?|-c([^=].*)", word, re.DOTALL)  # -cNAME is argparse's, too
        if given is None:
            rest.append(word)
        else:
            name = given[2] or (next(words, "") if given[1] is None else given[1])
            configs += [_options_in(path) for path in layers(name)]
    _let_batch_size_win(rest, configs)
    rest = _with_arguments(rest, configs)
    return [*(f"--config={yaml.safe_dump(config, sort_keys=False)}" for config in configs if config), *rest]


def linked_options(key: str, value: Any) -> dict[str, Any] | None:
    """Return the options that a linked choice of a grid stands for; None where a value is none.

    `size: {name: big, model.embed_dim: 256, model.depth: 7}` sets two options, and its name is what tables show.

    Args:
        key: What the grid calls the choice: any word that is no option and no group of them.
        value: One of its values.

    Raises:
        InputError: An option without a dot.
    """
    if "." in key or key in _GROUPS or not isinstance(value, Mapping) or "name" not in value:
        return None
    found = {str(option): item for option, item in value.items() if option != "name"}
    if not found:
        return None
    if wrong := [option for option in found if "." not in option]:
        raise InputError(
            f"The choice {value['name']} of {key} sets {wrong[0]!r}: give options by their whole names, such as "
            "model.depth."
        )
    return found


def _unlinked(word: str) -> list[str]:
    """Return a word as the parser takes it: the options of a linked choice, and null where W&B's agent writes None."""
    key, equals, value = word.partition("=")
    if value == "None":
        return [f"{key}=null"]
    if not equals or not value.startswith("{") or not re.search(r"\bname\b", value):
        return [word]
    try:
        options = linked_options(key.removeprefix("--"), yaml.safe_load(value))
    except yaml.YAMLError:
        return [word]
    return [word] if options is None else [plain for name, v in options.items() for plain in _unlinked(f"--{name}={v}")]


def _let_batch_size_win(words: Sequence[str], configs: list[dict[str, Any]]) -> None:
    # Each resolved configuration has a `global_batch_size`, which would win over a `batch_size` given above it.
    above = any(word.partition("=")[0] == "--data.batch_size" for word in words)
    for config in reversed(configs):
        data = config.get("data")
        if isinstance(data, Mapping):
            if above:
                config["data"] = {key: value for key, value in data.items() if key != "global_batch_size"}
            above = above or ("batch_size" in data and "global_batch_size" not in data)


def _with_arguments(words: list[str], configs: list[dict[str, Any]]) -> list[str]:
    # `--model.pool my_lab.GemPool --model.pool.p 3`: where arguments are given, the class becomes a mapping, to which
    # the parser then adds them.
    found = list(words)
    for key in CLASSES:
        if not any(word.startswith(f"--{key}.") for word in found):
            continue
        *groups, name = key.split(".")
        for part in configs:
            for group in groups:
                if isinstance(part.get(group), Mapping):
                    part[group] = dict(part[group])  # the recipe's own mapping stays as it is
                part = part.get(group) or {}
            if isinstance(part.get(name), str):
                part[name] = {"class_path": part[name]}
        for i, word in enumerate(found):
            option, equals, value = word.partition("=")
            if option == f"--{key}":
                value = value if equals else found[i + 1] if i + 1 < len(found) else ""
                if value and not value.startswith("{"):
                    del found[i : i + (1 if equals else 2)]
                    found.insert(0, f'--{key}={{"class_path": "{value}"}}')  # before its arguments
                    break
    return found


def options_of(words: Sequence[str]) -> dict[str, Any]:
    """Return the options of a command line as nested values, without the parser and its imports.

    Args:
        words: `--config=NAME` and `--key=value`, as grids write them.

    Raises:
        InputError: No such recipe.
    """
    found: dict[str, Any] = {}
    for word in expand_configs(words):
        key, _, value = word.removeprefix("--").partition("=")
        content = yaml.safe_load(value)
        found = merged(found, content if key == "config" else nested(key, content))
    return found


def nested(key: str, value: Any) -> dict[str, Any]:
    """Return an option by its dotted name as nested mappings."""
    for part in reversed(key.split(".")):
        value = {part: value}
    return value


def merged(below: Any, above: Any) -> Any:
    """Return nested mappings as one, in which the values above win."""
    if isinstance(below, Mapping) and isinstance(above, Mapping):
        return {**below, **{key: merged(below.get(key), value) for key, value in above.items()}}
    return above
