"""The one reader of checkpoints: weights alone from any file, or a whole checkpoint of `cct fit`; no code in them runs.

It reads the published `.pth` files of the reference implementation, the checkpoints of Lightning that `cct fit` writes,
those of timm's, torchvision's and DeiT's training scripts, and `.safetensors`. Only tensors, plain values and
`argparse.Namespace` are unpickled (`torch.load(weights_only=True)`). What a checkpoint says of its model is checked
here; code that it names is imported elsewhere, after `cct_lightning.system.importing.check_imports`.
"""

import json
import logging
import re
import warnings
import zipfile
from argparse import Namespace
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from cct_lightning.compat import state_dict_metadata
from cct_lightning.errors import InputError
from cct_lightning.models.arch import BASELINES, is_compact
from cct_lightning.models.parts import Parts
from cct_lightning.models.weights.hub import weights_file
from cct_lightning.models.weights.reference import from_published
from cct_lightning.system.places import local_path

log = logging.getLogger(__name__)

HPARAMS = "cct_lightning"  # where `cct convert` keeps the hyperparameters in formats that have no place for them
# Where training scripts put the average of the weights (timm; torchvision and DeiT), and the state dict.
_AVERAGES = ("state_dict_ema", "model_ema", "ema_state_dict", "ema")
_NESTED = ("state_dict", "model", "model_state_dict")
_TIMM = ("img_size", "in_chans", "num_classes", "mean", "std")  # options of timm's that are hyperparameters of ours
# Hyperparameter -> its types.
_NUMBERS = {key: (int, float) if kind is float else (int,) for key, kind in Parts.__annotations__.items()
            if kind in (int, float)} | {"in_chans": (int,), "num_classes": (int,)}  # fmt: skip


@dataclass(frozen=True)
class StoredWeights:
    """What a file of weights holds."""

    path: Path
    state: dict[str, Tensor]  # by the names of our modules, without any prefix
    hparams: dict[str, Any]  # of `cct fit` (arch, img_size, classes, mean, ...); empty in published files
    prefix: str = ""  # what stood before every name in the file and is left out of `state`


def read_weights(path: str | Path) -> StoredWeights:
    """Read weights, on the CPU and under the names of our modules, and hyperparameters.

    Args:
        path: A published `.pth`, a Lightning checkpoint of `cct fit`, or `.safetensors`; a published model by its
            folder or as `hf-hub:USER/NAME`.

    Raises:
        InputError: No such file, not a checkpoint, damaged, or one that would run code to load.
    """
    path = _existing(weights_file(path))
    content, hparams = _read_safetensors(path) if path.suffix == ".safetensors" else _read_pickle(path)
    state, prefix = _unwrap(path, content)
    if any(name.startswith("classifier.") for name in state):  # what every published file has, and ours have not
        state = from_published(state)
    return StoredWeights(path, state, _checked_hparams(path, hparams), prefix)


def check_finite(state: Mapping[str, Any], parameters: Iterable[str], source: str) -> None:
    """Check that no weight is NaN, and no parameter infinite; a buffer may be (a mask of -inf).

    Args:
        state: The state dict of a checkpoint.
        parameters: The names of the model's parameters.
        source: The checkpoint, for the message.

    Raises:
        InputError: Some are; the message names them.
    """
    known = set(parameters)
    floats = {name: value for name, value in state.items() if isinstance(value, Tensor) and value.is_floating_point()}
    lost = [n for n, v in floats.items() if not (v.isfinite() if n in known else v.isnan().logical_not()).all()]
    if lost:
        raise InputError(
            f"{source} holds NaN or infinite values ({at_most_five(lost)}), so its training has failed: take an "
            "earlier checkpoint, or train again with a lower learning rate."
        )


def at_most_five(names: list[str]) -> str:
    """Return the first five names of a list and how many more there are."""
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")


def read_checkpoint(path: Path, *, verify: bool = False) -> dict[str, Any]:
    """Read a whole checkpoint of `cct fit` or `cct convert`; its tensors stay in the file until they are used.

    Args:
        path: The file.
        verify: Compare every checksum, which PyTorch does not do.

    Returns:
        Its content, with `hyper_parameters` and `state_dict` among others.

    Raises:
        InputError: No such file; damaged; of something else; one that would run code, or fill the memory.
    """
    path = _existing(path)
    content = None if path.suffix == ".safetensors" else _unpickle(path, verify=verify, mmap=zipfile.is_zipfile(path))
    if not isinstance(content, dict) or not {"hyper_parameters", "state_dict"} <= content.keys():
        raise InputError(f"{path} is no checkpoint of `cct fit`: make one of other weights with `cct convert`.")
    return content


def load_verified(path: Path) -> dict[str, Any]:
    """Read a checkpoint that training can continue from, with every checksum compared; see `read_checkpoint`.

    Raises:
        InputError: It cannot be read, is damaged, or holds nothing to continue from.
    """
    content = read_checkpoint(path, verify=True)
    if "loops" not in content:
        raise InputError(f"{path} is no checkpoint that `cct fit` could continue from: give a last.ckpt or best.ckpt.")
    return content


def _existing(path: Path) -> Path:
    path = local_path(path)
    if not path.is_file():
        what = "it is a folder without a published model" if path.is_dir() else "the file does not exist"
        raise InputError(f"No checkpoint at {path}: {what}, give the path of a .ckpt, .pth or .safetensors file.")
    if path.stat().st_size == 0:
        raise InputError(f"The checkpoint {path} is damaged (it is empty): copy or download it again.")
    return path


def _check_zip(path: Path, *, verify: bool) -> None:
    """Check what PyTorch does not check: that the checkpoint is no zip bomb and, to `verify` it, every checksum."""
    size, unpacked, damage = path.stat().st_size, 0, ""
    try:
        with zipfile.ZipFile(path) as archive:
            unpacked = sum(member.file_size for member in archive.infolist())
            if verify and unpacked <= size and (broken := archive.testzip()) is not None:
                damage = f"the checksum of {broken} is wrong"
    except (zipfile.BadZipFile, OSError, EOFError, ValueError, NotImplementedError) as error:
        damage = str(error) or type(error).__name__
    if unpacked > size:
        raise InputError(
            f"The checkpoint {path} is refused: {size:,} bytes would unpack to {unpacked:,}, and PyTorch compresses "
            "nothing."
        )
    if verify and damage:  # else the error of reading it says so
        raise InputError(f"The checkpoint {path} is damaged ({damage}).")


def _read_safetensors(path: Path) -> tuple[Mapping[str, Any], dict[str, Any]]:
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  # not a dict
    except (SafetensorError, OSError) as error:
        raise InputError(
            f"The checkpoint {path} is damaged or no safetensors file ({error}): copy it again."
        ) from error
    try:
        return state, json.loads(metadata.get(HPARAMS, "{}"))
    except ValueError as error:
        raise InputError(f"The checkpoint {path} is damaged (its metadata are no JSON): copy it again.") from error


def _unpickle(path: Path, *, verify: bool = False, mmap: bool = False) -> Any:
    _check_zip(path, verify=verify)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about what is then refused anyway: TorchScript, other pickle protocols
            # timm, torchvision and DeiT keep their options so; it holds attributes and runs nothing.
            with torch.serialization.safe_globals([Namespace]):
                return torch.load(path, map_location="cpu", weights_only=True, mmap=mmap)
    except Exception as error:  # torch raises EOFError, RuntimeError, KeyError, UnpicklingError, ...
        asked = re.search(r"GLOBAL (\S+)", str(error))
        if asked:
            raise InputError(
                f"The checkpoint {path} is refused, because loading it would run code ({asked[1]}): ask its author for "
                "the weights alone, best as .safetensors."
            ) from error
        what = "cannot be read safely, it is damaged or no checkpoint at all: copy or download it again."
        raise InputError(f"The checkpoint {path} {what}") from error


def _read_pickle(path: Path) -> tuple[Mapping[str, Any], dict[str, Any]]:
    content = _unpickle(path)
    if not isinstance(content, Mapping):
        kind = type(content).__name__
        raise InputError(f"The checkpoint {path} holds a {kind}, not a state dict: choose another file.")
    if "pytorch-lightning_version" in content and isinstance(content.get("state_dict"), Mapping):
        # Only the network: the module that trained it may also hold buffers of its metrics and augmentation.
        net = {name[4:]: value for name, value in content["state_dict"].items() if name.startswith("net.")}
        return net or content["state_dict"], content.get("hyper_parameters", {})
    return content, state_dict_metadata(content).get(HPARAMS) or _from_timm(content.get("args"))


def _from_timm(options: Any) -> dict[str, Any]:
    """Return what the options of timm's training script say of a model that we have, too."""
    given = vars(options) if isinstance(options, Namespace) else {}
    name = given.get("model", "")
    found = {"arch": name if is_compact(name) or name in BASELINES else None, **{key: given.get(key) for key in _TIMM}}
    return {key: value for key, value in found.items() if value is not None}


def _checked_hparams(path: Path, found: Any) -> dict[str, Any]:
    """Return hyperparameters with `img_size` as [H, W], after a check of what a model is built from."""
    hparams = dict(found) if isinstance(found, Mapping) else {"hyper_parameters": found}
    if isinstance(size := hparams.get("img_size"), int | tuple):
        hparams["img_size"] = [size] * 2 if isinstance(size, int) else list(size)
    for key, value in hparams.items():
        fits = type(value) in _NUMBERS[key] if key in _NUMBERS else key != "hyper_parameters"
        if key == "img_size":
            fits = isinstance(value, list) and [type(side) for side in value] == [int, int]
        if not (fits or value is None):
            raise InputError(f"The checkpoint {path} is damaged: it describes its model by {key}={value!r}.")
    return hparams


def _nested(content: Mapping[str, Any]) -> Mapping[str, Any]:
    return next((content[key] for key in _NESTED if isinstance(content.get(key), Mapping)), content)


def _is_plain(value: Any) -> bool:
    return isinstance(value, Tensor) and value.layout is torch.strided and not (value.is_meta or value.is_complex())


def _unwrap(path: Path, content: Mapping[str, Any]) -> tuple[dict[str, Tensor], str]:
    """Return the state dict in a file without what stands before every one of its names, and that prefix."""
    average = next((key for key in _AVERAGES if content.get(key) and isinstance(content[key], Mapping)), None)
    state = dict(_nested(content if average is None else content[average]))
    if state.pop("n_averaged", None) is not None:  # of torch.optim.swa_utils.AveragedModel
        average = average or "n_averaged"
    if average is not None:
        log.warning("%s holds an average of the weights (%s), which is used", path, average)
    prefix = ""
    if len(state) > 1 and all(isinstance(name, str) for name in state):
        # Of DataParallel (`module.`), torch.compile (`_orig_mod.`), or the module that held the model in training.
        # What the first and the last name in order begin with, all others do.
        pairs = zip(*(name.split(".")[:-1] for name in (min(state), max(state))), strict=False)
        prefix = "".join(f"{word}." for word, other in takewhile(lambda pair: pair[0] == pair[1], pairs))
        state = {name.removeprefix(prefix): value for name, value in state.items()}
    strange = [name for name, value in state.items() if not (isinstance(name, str) and _is_plain(value))]
    if strange or not state:
        what = f"{strange[0]!r} is not a tensor of real numbers" if strange else "it is empty"
        raise InputError(f"The checkpoint {path} holds no state dict ({what}): choose another file.")
    return state, prefix
