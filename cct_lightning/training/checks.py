"""What a run needs of the machine and of its options, asked before the first step.

Every check raises InputError: one sentence about the first thing that is wrong.
"""

import os
import shutil
import sysconfig
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Timer
from pytorch_lightning.utilities.exceptions import MisconfigurationException

from cct_lightning.data.arguments import at_least, per_device_batch_size
from cct_lightning.data.datamodule import ImageDataModule
from cct_lightning.errors import InputError
from cct_lightning.models.compact import CompactTransformer
from cct_lightning.models.parts import PartSpec, split_spec
from cct_lightning.models.weights.architecture import check_architecture
from cct_lightning.models.weights.reader import check_finite
from cct_lightning.system.machine import cores
from cct_lightning.training.optim import Optim
from cct_lightning.training.optim.optimizers import find_optimizer
from cct_lightning.training.optim.schedule import check_epochs
from cct_lightning.training.precision import check_precision
from cct_lightning.training.sharding import is_sharded


def device_type(accelerator: object) -> str:
    """Return the kind of device (`cpu`, `cuda`, `mps`) that the Trainer takes for its option (`auto`, `cpu`, `gpu`).

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
    """Return the number of devices that the Trainer's option asks for; 1 where the machine decides."""
    text = str(devices)
    return int(text) if text.isdecimal() else 1


def check_devices(devices: int, device_type: str) -> None:
    """Check that a machine without GPUs has a core for each process on it; Lightning counts GPUs itself."""
    if device_type == "cpu" and devices > cores():
        raise InputError(
            f"{devices} devices are asked for and this machine has no GPU and {cores()} CPU cores: lower "
            "--trainer.devices."
        )


def check_compiler(device_type: str) -> None:
    """Check that torch.compile finds what it builds kernels with: a C++ compiler for `cpu`, C for others, Python.h."""
    language, variable, names = (
        ("C++", "CXX", ("c++", "g++", "clang++")) if device_type == "cpu" else ("C", "CC", ("cc", "gcc", "clang"))
    )
    asked = os.environ.get(variable)
    if not any(shutil.which(name) for name in ([asked] if asked else names)):
        found = f"the one that {variable} names ({asked}) is not there" if asked else f"{', '.join(names)} are not"
        raise InputError(
            f"--model.compile needs a {language} compiler and {found} on the PATH: install one (such as the package "
            "gcc or build-essential) or leave --model.compile out."
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
    max_steps: int = -1,
    max_time: str | timedelta | dict[str, int] | None = None,
    precision: str | int,
    device_type: str,
    compile: bool,
    accumulate: int = 1,
    devices: int = 1,
    num_nodes: int = 1,
    global_batch_size: int | None = None,
) -> None:
    """Check everything about a run that can be known before data or model are touched.

    `epochs`, `max_steps` (of the optimizer) and `max_time` (Lightning's `DD:HH:MM:SS`) are those of the whole run; None
    or -1: no limit. `precision` is one of Lightning's, `device_type` is `cpu`, `cuda` or `mps`. `devices` are those of
    each of `num_nodes` machines, as many as are known before the Trainer counts them. An optimizer step takes
    `accumulate` batches, together `global_batch_size` images; None: it follows from the others.
    """
    check_length(optim, epochs=epochs, max_steps=max_steps, max_time=max_time)
    find_optimizer(optim.optimizer)
    if accumulate < 1:
        raise InputError(f"accumulate_grad_batches is {accumulate}: it must be at least 1.")
    check_devices(at_least(1, "trainer.devices", devices), device_type)
    at_least(1, "trainer.num_nodes", num_nodes)
    if global_batch_size is not None:
        per_device_batch_size(global_batch_size, devices * num_nodes, accumulate)
    check_precision(precision, device_type=device_type)
    if compile:
        check_compiler(device_type)


def check_length(
    optim: Optim, *, epochs: int | None, max_steps: int, max_time: str | timedelta | dict[str, int] | None
) -> None:
    """Check that a run has a length, and that its schedule fits in; the arguments are those of `check_training`.

    Raises:
        InputError: It has none, or not all of the schedule fits.
    """
    if max_steps == 0 or max_steps < -1:
        raise InputError(f"trainer.max_steps is {max_steps}: it must be at least 1, or -1 for no limit.")
    if max_time is not None:
        try:
            left = Timer(max_time).time_remaining() or 0
        except (MisconfigurationException, TypeError):
            left = 0
        if left <= 0:
            raise InputError(
                f"trainer.max_time is {max_time!r}: give a time in days, hours, minutes and seconds, as 00:01:30:00."
            )
    limited = max_steps > 0 or max_time is not None
    if epochs is None and not limited:
        raise InputError(
            "A run needs a length: give --trainer.max_epochs, max_steps or max_time, or a recipe that has it with "
            "--config."
        )
    if epochs is not None and not (epochs == -1 and limited):
        check_epochs(optim, epochs=epochs)


def check_sharding(trainer: pl.Trainer, *, optimizer: PartSpec, ema_decay: float | None) -> None:
    """Check that no optimizer and no average needs full weights in training, where each device holds pieces."""
    if not is_sharded(trainer):
        return
    if find_optimizer(optimizer).needs_full_weights:
        what, instead = f"{str(optimizer).capitalize()} needs full matrices", "--model.optim.optimizer adamw"
    elif ema_decay is not None:
        what, instead = "The average of the weights needs full weights", "--model.ema_decay null"
    else:
        return
    raise InputError(f"{what}, and FSDP keeps pieces of them on each device: use --trainer.strategy ddp, or {instead}.")


def check_fits(model: pl.LightningModule, checkpoint: dict[str, Any]) -> None:
    """Check that the weights in a checkpoint of `cct fit` are those of such a `Classifier`, and not NaN."""
    _check_shapes(model, checkpoint)
    check_described(model, checkpoint)
    parameters = [name for name, _ in model.named_parameters()]
    # With averaged weights, training continues from others than those that are evaluated.
    for state in ("state_dict", "current_model_state"):
        check_finite(checkpoint.get(state, {}), parameters, "The checkpoint")


def check_described(model: pl.LightningModule, checkpoint: dict[str, Any]) -> None:
    """Check that a model has the architecture that a checkpoint describes, also where the weights' shapes fit."""
    if isinstance(model.net, CompactTransformer):
        described = checkpoint.get("hyper_parameters", {})
        check_architecture(described, model.net.arch, given=(), source="The checkpoint")


def _check_shapes(model: pl.LightningModule, checkpoint: dict[str, Any]) -> None:
    ours, theirs = (
        {(name, getattr(value, "shape", None)) for name, value in state.items()}
        for state in (model.state_dict(), checkpoint["state_dict"])
    )
    wrong = sorted({name for name, _ in ours ^ theirs})
    if wrong:
        raise InputError(
            f"The checkpoint is of another model ({checkpoint['hyper_parameters']['arch']}): {len(wrong)} of its "
            f"weights do not fit {model.hparams['arch']}, such as {', '.join(wrong[:3])}."
        )


def match_classes(model: pl.LightningModule, data: ImageDataModule, checkpoint: dict[str, Any]) -> None:
    """Number the classes of model and data as a checkpoint does, or refuse one of other classes."""
    if names := checkpoint["hyper_parameters"].get("classes"):
        data.match_classes(names, of="the checkpoint")
        model.hparams["classes"] = data.classes


def check_continues(model: pl.LightningModule, data: ImageDataModule, checkpoint: dict[str, Any]) -> None:
    """Check that a checkpoint is of this model and these classes, and that its optimizer trains the same parts."""
    match_classes(model, data, checkpoint)
    check_fits(model, checkpoint)
    theirs, ours = checkpoint["hyper_parameters"], model.hparams
    optimizers = [split_spec("optimizer", given["optim"]["optimizer"])[0] for given in (theirs, ours)]
    if optimizers[0] != optimizers[1] or theirs.get("finetune", ours["finetune"]) != ours["finetune"]:
        raise InputError(
            "The checkpoint was trained with another model.optim.optimizer or model.finetune, and its state does "
            "not fit these: keep them, or start from its weights alone with --model.pretrained."
        )
