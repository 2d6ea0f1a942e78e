"""What a checkpoint says of the architecture that its weights were trained in, and whether a model is that one.

The number of heads and a pooling without weights show in no name and no shape: weights of 8 heads load into 4.
"""

import logging
from collections.abc import Collection, Mapping
from typing import Any

from cct_lightning.errors import InputError
from cct_lightning.models.arch import Arch, is_compact, resolve_arch
from cct_lightning.models.compact import PART_CLASSES
from cct_lightning.models.parts import Parts, complete_spec, split_spec

log = logging.getLogger(__name__)


def stored_parts(hparams: Mapping[str, Any]) -> dict[str, Any]:
    """Return what hyperparameters say of the parts of a model, by their options' names."""
    found = {**hparams, **(hparams.get("parts") or {})}  # version 0.1 kept them in a mapping of their own
    return {key: found[key] for key in Parts.__annotations__ if found.get(key) is not None}


def differing_parts(hparams: Mapping[str, Any], arch: Arch) -> dict[str, Any]:
    """Return the parts in which a model differs from the one that hyperparameters describe: part -> what they say.

    Dropout may differ, and so may learnable and sine positions: the embedding itself is in the checkpoint.
    """
    name = hparams.get("arch")
    if not isinstance(name, str) or not is_compact(name):
        return {}
    theirs: Arch = resolve_arch(name, **stored_parts(hparams))
    return {
        part: getattr(theirs, part)
        for part in Parts.__annotations__
        if not part.endswith(("drop", "rate")) and _comparable(part, theirs, arch) != _comparable(part, arch, arch)
    }


def _comparable(part: str, arch: Arch, ours: Arch) -> Any:
    value = getattr(arch, part)
    # A class of the user's is imported only where it is our model's own.
    if part in PART_CLASSES and split_spec(part, value)[0] == split_spec(part, getattr(ours, part))[0]:
        value = complete_spec(part, value, *PART_CLASSES[part])
    return "learnable" if part == "position" and value == "sine" else value


def check_architecture(hparams: Mapping[str, Any], arch: Arch, *, given: Collection[str], source: str) -> None:
    """Check that a model is the one that its weights were trained in, where shapes would not show it, as for heads.

    Args:
        hparams: The hyperparameters beside the weights.
        arch: The model's.
        given: Parts that the user has asked for: where those differ, a warning says so.
        source: The checkpoint, for messages.

    Raises:
        InputError: Other parts differ.
    """
    theirs = differing_parts(hparams, arch)
    for part in theirs.keys() & set(given):
        log.warning("%s was trained with %s=%r, and is used with %r", source, part, theirs[part], getattr(arch, part))
    if differ := {part: value for part, value in theirs.items() if part not in given}:
        ours = ", ".join(f"{part}={getattr(arch, part)!r}" for part in differ)
        wanted = ", ".join(f"{part}={value!r}" for part, value in differ.items())
        raise InputError(
            f"{source} holds {hparams['arch']} with {wanted} and does not fit {arch.name}, which has {ours}: choose "
            "the model and the parts that it was trained with."
        )
