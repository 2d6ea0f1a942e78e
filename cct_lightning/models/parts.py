"""Parts by name and with arguments: `seqpool`, `my_lab.GemPool`, or a class with what its constructor takes.

The last form is jsonargparse's, `{"class_path": "my_lab.GemPool", "init_args": {"p": 3}}`. All three are plain data,
kept as they are in recipes, checkpoints and the metadata of other files. This file imports nothing heavy.
"""

import inspect
import json
from collections.abc import Mapping
from functools import partial
from typing import Any, NoReturn, TypedDict, TypeVar, cast

from cct_lightning.errors import InputError, nearest
from cct_lightning.system.importing import import_class

PartSpec = str | dict[str, Any]
Part = TypeVar("Part")


class Parts(TypedDict, total=False):
    """What can be swapped in a named model; what is left out comes from the name.

    Args:
        tokenizer: `conv`, `patch`, or the import path of a subclass of `cct_lightning.models.tokenizer.Tokenizer`, with
            class_path and init_args where it takes arguments.
        kernel_size: Kernel of the convolutions, or side of a patch, in pixels.
        conv_blocks: Convolution blocks of the tokenizer.
        position: `learnable`, `sine`, `none`, or the import path of a subclass of
            `cct_lightning.models.position.PositionEmbedding`, likewise.
        pool: `seqpool`, `class_token`, `mean`, `max`, or the import path of a subclass of
            `cct_lightning.models.pooling.Pooling`, likewise.
        depth: Encoder layers.
        embed_dim: Dimension of a token.
        num_heads: Attention heads, which must divide `embed_dim`.
        mlp_ratio: Hidden dimension of the MLP over `embed_dim`.
        attn_drop: Dropout probability of the attention weights (0.1).
        proj_drop: Dropout probability after projections, MLP layers and positions (0).
        drop_path_rate: Stochastic depth of the last layer, rising linearly from 0 at the first (0.1).
    """

    tokenizer: PartSpec
    kernel_size: int
    conv_blocks: int
    position: PartSpec
    pool: PartSpec
    depth: int
    embed_dim: int
    num_heads: int
    mlp_ratio: float
    attn_drop: float
    proj_drop: float
    drop_path_rate: float


# Options of a model whose value may be an import path; `optimizer` is below `optim`.
_SPECS = ("arch", "tokenizer", "position", "pool", "loss", "optimizer")

# Annotation of an argument -> types that are taken for it; any other is the constructor's to check.
_PLAIN = {"int": (int,), "float": (int, float), "bool": (bool,), "str": (str,)}


def split_spec(option: str, spec: PartSpec) -> tuple[str, dict[str, Any]]:
    """Return the name or import path of a part, and the arguments of its constructor.

    Args:
        option: The option's name, for messages: `pool`.
        spec: A name, an import path, or a dict of `class_path` and `init_args`. Arguments may also be beside
            `class_path`, where `--model.pool.p 3` puts them; those win.

    Raises:
        InputError: A dict of another form, or arguments that are not plain data.
    """
    if isinstance(spec, str):
        return spec, {}
    if not isinstance(spec, Mapping) or not isinstance(spec.get("class_path"), str):
        raise InputError(
            f"The {option} is {spec!r}: give a name, an import path such as my_lab.MyClass, or a dict of class_path "
            "and init_args."
        )
    beside = dict(spec)
    name, arguments = beside.pop("class_path"), beside.pop("init_args", None) or {}
    if not isinstance(arguments, Mapping):
        raise InputError(f"The init_args of the {option} are {arguments!r}: give a dict of names and values.")
    return name, {
        str(key): json.loads(json.dumps(value, default=partial(_refuse, option, key)))
        for key, value in {**arguments, **beside}.items()
    }


def _refuse(option: str, key: str, value: Any) -> NoReturn:
    raise InputError(
        f"The argument {key} of the {option} is a {type(value).__name__}: give numbers, texts, lists or dicts, which "
        "checkpoints can keep."
    )


def plain_spec(option: str, spec: PartSpec) -> PartSpec:
    """Return a part in its one form: its name or import path, as a dict only where it has arguments.

    Raises:
        InputError: See `split_spec`.
    """
    name, arguments = split_spec(option, spec)
    return {"class_path": name, "init_args": arguments} if arguments else name


def import_paths(model: Mapping[str, Any]) -> list[str]:
    """Return the import paths among the options of a model, as recipes and checkpoints' hyperparameters hold them.

    Raises:
        InputError: See `split_spec`.
    """
    optim = model.get("optim")
    # Version 0.1 kept parts in a mapping of their own.
    found = {**(model.get("parts") or {}), **model, **(optim if isinstance(optim, Mapping) else {})}
    specs = {key: found[key] for key in _SPECS if found.get(key) is not None}
    return [name for key, spec in specs.items() if "." in (name := split_spec(key, spec)[0])]


def complete_spec(option: str, spec: PartSpec, table: Mapping[str, type], base: type) -> PartSpec:
    """Return a class of the user's with all its arguments, the defaults too; a built-in part by its short name.

    Args:
        option: The option's name, for messages: `pool`.
        spec: See `split_spec`.
        table: The built-in parts by name.
        base: Its base class, whose constructor takes what the model itself gives.

    Raises:
        InputError: It cannot be imported, or is no such class.
    """
    name, arguments = split_spec(option, spec)
    if "." not in name:
        return plain_spec(option, spec)
    found = import_class(name, option, base)
    name = next((short for short, part in table.items() if part is found), name)
    given = inspect.signature(base).parameters
    defaults = {
        key: parameter.default
        for key, parameter in inspect.signature(found).parameters.items()
        if key not in given and isinstance(parameter.default, bool | int | float | str | None)
    }
    return plain_spec(option, {"class_path": name, "init_args": {**defaults, **arguments}})


def build_part(option: str, spec: PartSpec, table: Mapping[str, type[Part]], base: type[Part], **given: Any) -> Part:
    """Build a part from its name or import path, with its arguments.

    Args:
        option: The option's name, for messages: `pool`.
        spec: See `split_spec`.
        table: The built-in parts by name.
        base: What an imported class must subclass.
        **given: What the model itself hands to the constructor.

    Raises:
        InputError: No such part, not a subclass of `base`, or a constructor that does not take these arguments.
    """
    name, arguments = split_spec(option, spec)
    if name not in table and "." not in name:
        raise InputError(
            f"Unknown {option} {name!r}: choose {', '.join(table)}, or the import path of a class of yours."
            f"{nearest(name, table)}"
        )
    found = table[name] if name in table else cast(type[Part], import_class(name, option, base))
    _check_arguments(f"The {option} {name!r}", found, arguments, given)
    try:
        return found(**given, **arguments)
    except InputError:
        raise
    except (TypeError, ValueError) as error:
        raise InputError(f"The {option} {name!r} cannot be built: {error}.") from error


def _check_arguments(part: str, found: type, arguments: dict[str, Any], given: dict[str, Any]) -> None:
    parameters = inspect.signature(found).parameters
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values()):
        return  # what it takes is not said; the constructor complains
    if not given.keys() <= parameters.keys():
        *first, last = given
        wanted = f"{', '.join(first)} and {last}" if first else last
        raise InputError(f"{part} cannot be built: its constructor must take the keywords {wanted}.")
    own = {
        name: parameter.default is parameter.empty
        for name, parameter in parameters.items()
        if name not in given and parameter.kind is not parameter.VAR_POSITIONAL
    }
    for key in arguments:
        if key in given:
            raise InputError(f"{part} gets its {key} from the model: leave {key} out of init_args.")
        if key not in own:
            choice = f"it takes {', '.join(own)}" if own else "it takes none"
            raise InputError(f"{part} takes no argument {key!r}: {choice}.{nearest(key, own)}")
        wanted = getattr(parameters[key].annotation, "__name__", str(parameters[key].annotation))
        if wanted in _PLAIN and type(arguments[key]) not in _PLAIN[wanted]:
            raise InputError(f"{part} takes a {wanted} as {key}; got {arguments[key]!r}.")
    missing = [name for name, required in own.items() if required and name not in arguments]
    if missing:
        raise InputError(
            f"{part} needs the argument{'s' * (len(missing) > 1)} {', '.join(missing)}: give a dict of class_path and "
            "init_args."
        )
