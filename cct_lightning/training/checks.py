"""What a run needs of the machine and of its options, asked before the first step."""

import os
import shutil
import sysconfig
from pathlib import Path

import torch

from cct_lightning.data.arguments import at_least, per_device_batch_size
from cct_lightning.errors import InputError
from cct_lightning.system.machine import cores
from cct_lightning.training.optim import Optim
from cct_lightning.training.optim.schedule import check_epochs
from cct_lightning.training.precision import check_precision


def device_type(accelerator: object) -> str:
    """Return the kind of device that the Trainer will take: `cpu`, `cuda` or `mps`.

    Args:
        accelerator: The Trainer's option, such as `auto`, `cpu` or `gpu`.

    Raises:
        InputError: A GPU is asked for and PyTorch finds none.
    """
    found = torch.accelerator.current_accelerator(check_available=True)
    if found is None and accelerator in ("gpu", "cuda", "mps"):
        raise InputError(
            f"--trainer.accelerator {accelerator} is asked for and PyTorch finds no GPU here: use auto or cpu, or "
            "install a PyTorch built for your GPU and its driver."
        )
    return "cpu" if found is None or accelerator == "cpu" else found.type


def devices_asked_for(devices: int | str | list[int]) -> int:
    """Return the number of devices that the Trainer's option asks for; 1 where it is the machine that decides."""
    text = str(devices)
    return int(text) if text.isdecimal() else 1


def check_devices(devices: int, device_type: str) -> None:
    """Check that a machine without GPUs has a core for each process.

    Args:
        devices: Processes on this machine.
        device_type: `cpu`, `cuda` or `mps`; Lightning counts GPUs itself.

    Raises:
        InputError: It has not.
    """
    if device_type == "cpu" and devices > cores():
        raise InputError(
            f"{devices} devices are asked for and this machine has no GPU and {cores()} CPU cores: lower "
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
    optim: Optim,
    *,
    epochs: int | None,
    precision: str | int,
    device_type: str,
    compile: bool,
    accumulate: int = 1,
    devices: int = 1,
    num_nodes: int = 1,
    global_batch_size: int | None = None,
) -> None:
    """Check everything about a run that can be known before data or model are touched.

    Args:
        optim: Optimizer and schedule.
        epochs: Epochs of the whole run; None: nobody gave them.
        precision: One of Lightning's.
        device_type: `cpu`, `cuda` or `mps`.
        compile: Whether torch.compile is asked for.
        accumulate: Batches that are accumulated before an optimizer step.
        devices: Of one machine, as many as are known before the Trainer counts them.
        num_nodes: Machines.
        global_batch_size: Images per optimizer step; None: it follows from the others.

    Raises:
        InputError: The first thing that is wrong.
    """
    if epochs is None:
        raise InputError("A run needs a length: give --trainer.max_epochs, or a recipe that has it with --config.")
    check_epochs(optim, epochs=epochs)
    if accumulate < 1:
        raise InputError(f"accumulate_grad_batches is {accumulate}: it must be at least 1.")
    check_devices(at_least(1, "trainer.devices", devices), device_type)
    at_least(1, "trainer.num_nodes", num_nodes)
    if global_batch_size is not None:
        per_device_batch_size(global_batch_size, devices * num_nodes, accumulate)
    check_precision(precision, device_type=device_type)
    if compile:
        check_compiler(device_type)
