"""Weights from a file, whatever wrote it, and never by running what is in it.

Read are the published `.pth` files of the reference implementation, the checkpoints of Lightning that `cct fit` writes,
and `.safetensors`. Only tensors and plain values are unpickled (`torch.load(weights_only=True)`).
"""

import json
import re
import warnings
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from cct_lightning.errors import InputError
from cct_lightning.models.weights.reference import from_published

HPARAMS = "cct_lightning"  # where convert.py keeps the hyperparameters in formats that have no place for them
_NESTED = ("state_dict", "model", "model_state_dict")  # where training scripts put the state dict
# What DataParallel and torch.compile put before every name, in either order.
_WRAPPERS = ("module.", "_orig_mod.", "module.")


@dataclass(frozen=True)
class StoredWeights:
    """What a file of weights holds.

    Attributes:
        path: The file.
        state: Tensors by the names of our modules, without any prefix.
        hparams: The hyperparameters of `cct fit` (arch, img_size, classes, mean, ...); empty in published files.
    """

    path: Path
    state: dict[str, Tensor]
    hparams: dict[str, Any] = field(default_factory=dict)


def read_checkpoint(path: Path) -> StoredWeights:
    """Read weights and hyperparameters.

    Args:
        path: A published `.pth`, a Lightning checkpoint of `cct fit`, or `.safetensors`.

    Returns:
        The weights on the CPU, under the names of our modules.

    Raises:
        InputError: No such file, not a checkpoint, damaged, or one that would run code to load.
    """
    path = Path(path).expanduser()
    if not path.is_file():
        what = "is a folder" if path.is_dir() else "does not exist"
        raise InputError(f"The checkpoint {path} {what}: give the path of a .ckpt, .pth or .safetensors file.")
    if path.stat().st_size == 0:
        raise InputError(f"The checkpoint {path} is empty: copy or download it again.")
    content, hparams = _read_safetensors(path) if path.suffix == ".safetensors" else _read_pickle(path)
    state = _unwrap(path, content)
    if any(name.startswith(("classifier.", "tokenizer.conv_layers.")) for name in state):
        state = from_published(state)
    return StoredWeights(path, state, hparams)


def check_size(path: Path) -> None:
    """Check that a checkpoint takes no more memory than it has bytes, before PyTorch unpacks it: it may be a zip bomb.

    Raises:
        InputError: It would; PyTorch itself never compresses.
    """
    if not zipfile.is_zipfile(path):
        return
    try:
        with zipfile.ZipFile(path) as archive:
            unpacked = sum(member.file_size for member in archive.infolist())
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError):
        return  # damaged, which who reads it says
    if unpacked > path.stat().st_size:
        raise InputError(
            f"The checkpoint {path} is refused: {path.stat().st_size:,} bytes would unpack to {unpacked:,}, and "
            "PyTorch compresses nothing."
        )


def _read_safetensors(path: Path) -> tuple[Mapping[str, Any], dict[str, Any]]:
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  # not a dict
    except (SafetensorError, OSError) as error:
        raise InputError(
            f"The checkpoint {path} is damaged or no safetensors file ({error}): copy it again."
        ) from error
    return state, json.loads(metadata.get(HPARAMS, "{}"))


def _read_pickle(path: Path) -> tuple[Mapping[str, Any], dict[str, Any]]:
    check_size(path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about what is then refused anyway: TorchScript, other pickle protocols
            content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises EOFError, RuntimeError, KeyError, UnpicklingError, ...
        asked = re.search(r"GLOBAL (\S+)", str(error))
        if asked:
            raise InputError(
                f"The checkpoint {path} is refused, because loading it would run code ({asked[1]}): ask its author for "
                "the weights alone, best as .safetensors."
            ) from error
        raise InputError(
            f"The checkpoint {path} is damaged or no checkpoint at all: copy or download it again."
        ) from error
    if not isinstance(content, Mapping):
        raise InputError(
            f"The checkpoint {path} holds a {type(content).__name__}, not a state dict: choose another file."
        )
    if "pytorch-lightning_version" in content and isinstance(content.get("state_dict"), Mapping):
        # Only the network: the module that trained it may also hold buffers of its metrics and augmentation.
        net = {name[4:]: value for name, value in content["state_dict"].items() if name.startswith("net.")}
        return net or content["state_dict"], dict(content.get("hyper_parameters", {}))
    return content, getattr(content, "_metadata", {}).get(HPARAMS, {})


def _unwrap(path: Path, content: Mapping[str, Any]) -> dict[str, Tensor]:
    nested = next((content[key] for key in _NESTED if isinstance(content.get(key), Mapping)), content)
    state = dict(nested)
    for wrapper in _WRAPPERS:
        if state and all(isinstance(name, str) and name.startswith(wrapper) for name in state):
            state = {name.removeprefix(wrapper): value for name, value in state.items()}
    strange = [name for name, value in state.items() if not isinstance(value, Tensor)]
    if strange or not state:
        what = f"{strange[0]!r} is not a tensor" if strange else "it is empty"
        raise InputError(f"The checkpoint {path} holds no state dict ({what}): choose another file.")
    return state
