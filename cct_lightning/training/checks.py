"""What a run needs of the machine and of its options, asked before the first step."""

import os
import platform
import shutil
import sysconfig
from pathlib import Path

import torch

from cct_lightning.errors import InputError
from cct_lightning.training.optim import Optim
from cct_lightning.training.schedule import check_epochs

_ALIASES = {"16": "16-mixed", "bf16": "bf16-mixed", "32": "32-true", "64": "64-true"}


def has_bf16(device_type: str) -> bool:
    """Tell whether a kind of device computes in bfloat16 by itself; emulated, it is slower than float32.

    Args:
        device_type: `cpu`, `cuda` or `mps`.
    """
    if device_type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if device_type == "cpu":
        arm = platform.machine() in ("aarch64", "arm64") and torch.ops.mkldnn._is_mkldnn_bf16_supported()
        return arm or torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    return True


def best_precision(device_type: str) -> str:
    """Return the fastest precision that trains as well as float32: `bf16-mixed` where the device has it."""
    return "bf16-mixed" if has_bf16(device_type) else "32-true"


def check_precision(precision: str | int, *, device_type: str) -> None:
    """Check that a device has a precision.

    Args:
        precision: One of Lightning's: `32-true`, `bf16-mixed`, `16-mixed`, ...
        device_type: `cpu`, `cuda` or `mps`.

    Raises:
        InputError: It does not.
    """
    name = _ALIASES.get(str(precision), str(precision))
    where = {"cpu": "This CPU", "cuda": "This GPU", "mps": "Apple's GPU"}.get(device_type, f"The device {device_type}")
    if name.startswith("bf16") and not has_bf16(device_type):
        instead = "16-mixed" if device_type == "cuda" else "32-true"
        raise InputError(f"{where} does not compute in bfloat16: use --trainer.precision {instead} in place of {name}.")
    if name.startswith("16") and device_type == "cpu":
        raise InputError(
            f"{where} trains in no float16: use --trainer.precision {best_precision('cpu')} in place of {name}."
        )
    if name.startswith("64") and device_type == "mps":
        raise InputError(f"{where} has no float64: use --trainer.precision 32-true in place of {name}.")


def check_devices(devices: int, device_type: str) -> None:
    """Check that a machine without GPUs has a core for each process.

    Args:
        devices: Processes on this machine.
        device_type: `cpu`, `cuda` or `mps`; Lightning counts GPUs itself.

    Raises:
        InputError: It has not.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if device_type == "cpu" and devices > cores:
        raise InputError(
            f"{devices} devices are asked for and this machine has no GPU and {cores} CPU cores: lower "
            "--trainer.devices."
        )


def check_compiler(device_type: str) -> None:
    """Check that torch.compile finds what it builds its kernels with.

    Args:
        device_type: `cpu` needs a C++ compiler, others a C compiler; all need Python's headers.

    Raises:
        InputError: Something is missing.
    """
    variable, names = ("CXX", ("c++", "g++", "clang++")) if device_type == "cpu" else ("CC", ("cc", "gcc", "clang"))
    asked = os.environ.get(variable)
    if not any(shutil.which(name) for name in ([asked] if asked else names)):
        found = f"the one that {variable} names ({asked}) is not there" if asked else f"{', '.join(names)} are not"
        raise InputError(
            f"--model.compile needs a {'C++' if device_type == 'cpu' else 'C'} compiler and {found} on the PATH: "
            "install one (such as the package gcc or build-essential) or leave --model.compile out."
        )
    if not (Path(sysconfig.get_path("include")) / "Python.h").exists():
        raise InputError(
            "--model.compile needs Python's headers (Python.h) and they are not installed: install them (such as the "
            "package python3-dev) or leave --model.compile out."
        )


def check_training(
    optim: Optim, *, epochs: int, precision: str | int, device_type: str, compile: bool, accumulate: int = 1
) -> None:
    """Check everything about a run that can be known before data or model are touched.

    Args:
        optim: Optimizer and schedule.
        epochs: Epochs of the whole run.
        precision: One of Lightning's.
        device_type: `cpu`, `cuda` or `mps`.
        compile: Whether torch.compile is asked for.
        accumulate: Batches that are accumulated before an optimizer step; that a global batch divides by devices and
            accumulation is the data's to check.

    Raises:
        InputError: The first thing that is wrong.
    """
    check_epochs(optim, epochs=epochs)
    if accumulate < 1:
        raise InputError(f"accumulate_grad_batches is {accumulate}: it must be at least 1.")
    check_precision(precision, device_type=device_type)
    if compile:
        check_compiler(device_type)
