"""`cct convert`: weights between the published files, our Lightning checkpoints and safetensors, without loss.

Every weight is kept, bit by bit, and so are the hyperparameters that describe a checkpoint (model, sizes, classes,
mean, std). What else a Lightning checkpoint holds (optimizer, progress of the run) has no place in the other formats.
"""

import dataclasses
import json
from collections import OrderedDict
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from torch import Tensor

from cct_lightning.commands.output import output_file
from cct_lightning.compat import set_state_dict_metadata
from cct_lightning.errors import InputError
from cct_lightning.models.arch import is_compact, parse_arch
from cct_lightning.models.compact import CompactTransformer
from cct_lightning.models.factory import model_of
from cct_lightning.models.parts import PartSpec
from cct_lightning.models.weights.pretrained import named_for, stored_channels, stored_classes
from cct_lightning.models.weights.reader import HPARAMS, StoredWeights, read_weights
from cct_lightning.models.weights.reference import from_published, to_published
from cct_lightning.system.places import local_path

_FORMATS = {".ckpt": "lightning", ".pth": "published", ".pt": "published", ".safetensors": "safetensors"}


def convert(
    src: Path, dst: Path, *, arch: str | None = None, allow_import: Sequence[str] = (), overwrite: bool = False
) -> Path:
    """Convert a checkpoint; the ending of the destination decides the format.

    Args:
        src: A published `.pth`, a checkpoint of `cct fit`, or `.safetensors`.
        dst: `.pth` for the published names, `.ckpt` for a Lightning checkpoint that `cct test` and `cct fit` read,
            `.safetensors` for our names and nothing that could run code.
        arch: The model's name, such as `cct_7_3x1_32`, where the checkpoint does not say.
        allow_import: Import paths of your own model and parts that the checkpoint may name, such as my_lab.GemPool.
        overwrite: Replace `dst` where it exists.

    Returns:
        `dst`.

    Raises:
        InputError: A file that cannot be read, does not fit its model, or would be overwritten.
    """
    src, dst = local_path(src), local_path(dst)
    kind = _FORMATS.get(dst.suffix)
    if kind is None:
        raise InputError(f"The ending of {dst} is none of {', '.join(_FORMATS)}: it decides the format.")
    with output_file(dst, overwrite=overwrite) as part:
        stored = read_weights(src)
        name, stored, hparams = _describe(stored, arch, allow_import)
        if kind == "lightning":
            # What Lightning expects in a checkpoint that was saved before the first step.
            content = {
                "epoch": 0,
                "global_step": 0,
                "pytorch-lightning_version": version("pytorch-lightning"),
                "state_dict": {f"net.{key}": value for key, value in stored.state.items()},
                "hyper_parameters": hparams,
            }
            torch.save(content, part)
        elif kind == "safetensors":
            state = {key: value.contiguous().clone() for key, value in stored.state.items()}
            # `save_file` gives the file to its owner alone, whatever the user's umask.
            part.write_bytes(save(state, metadata={"format": "pt", HPARAMS: json.dumps(hparams)}))
        else:
            names: OrderedDict[str, Tensor] = OrderedDict(to_published(stored.state))
            if not is_compact(name) or from_published(names).keys() != stored.state.keys():
                names = OrderedDict(stored.state)  # of models and parts that the reference does not have
            set_state_dict_metadata(names, {HPARAMS: hparams})
            torch.save(names, part)
    return dst


def _describe(
    stored: StoredWeights, arch: str | None, allow_import: Sequence[str]
) -> tuple[PartSpec, StoredWeights, dict[str, Any]]:
    """Return the model's name, weights by its names, and what describes it, after checking that the weights fit it."""
    with torch.device("meta"):  # names and shapes alone: nothing is initialized
        name, model = model_of(stored, arch, allow_import=allow_import)
    sizes = {"in_chans": stored_channels(stored), "num_classes": stored_classes(stored)}
    hparams = {"arch": name, **sizes, **stored.hparams}
    if isinstance(model, CompactTransformer):
        hparams.setdefault("img_size", list(model.arch.img_size))
        if model.arch.position != parse_arch(model.arch.name).position and not hparams.get("parts"):
            hparams["position"] = model.arch.position  # what the checkpoint holds
    return name, dataclasses.replace(stored, state=named_for(model.state_dict(), stored)), hparams
