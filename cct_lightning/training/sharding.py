"""FSDP: while a model trains, each device holds a piece of every weight.

A piece is one-dimensional, and empty where a weight lies on other devices. What asks a weight for its shape asks
before (`remember_shapes`); what runs the model beside the training step must know that it cannot (`is_sharded`).
"""

import pytorch_lightning as pl
import torch
from pytorch_lightning.strategies import FSDPStrategy
from torch import nn

from cct_lightning.errors import InputError


def is_sharded(trainer: pl.Trainer) -> bool:
    """Tell whether the weights lie in pieces on several devices."""
    return isinstance(trainer.strategy, FSDPStrategy)


def check_sharding(trainer: pl.Trainer, *, optimizer: str, ema_decay: float | None) -> None:
    """Check that nothing is asked for that needs whole weights in training.

    Args:
        trainer: Of the run.
        optimizer: `adamw` or `muon`.
        ema_decay: Of the average of the weights; None: none is kept.

    Raises:
        InputError: Something is, and the weights lie in pieces.
    """
    if not is_sharded(trainer):
        return
    if optimizer == "muon":
        raise InputError(
            "Muon needs whole matrices, and FSDP keeps pieces of them on each device: use --trainer.strategy ddp, or "
            "--model.optim.optimizer adamw."
        )
    if ema_decay is not None:
        raise InputError(
            "The average of the weights needs whole weights, and FSDP keeps pieces of them on each device: use "
            "--trainer.strategy ddp, or --model.ema_decay null."
        )


def remember_shapes(net: nn.Module) -> None:
    """Note the shape of every parameter at the parameter, for `shape_of`."""
    for parameter in net.parameters():
        if not hasattr(parameter, "whole_shape"):  # of a net that is trained once more it is a piece by now
            parameter.whole_shape = parameter.shape  # type: ignore[attr-defined]


def shape_of(parameter: nn.Parameter) -> torch.Size:
    """Return the shape of a parameter, of which this device may hold a piece."""
    return getattr(parameter, "whole_shape", parameter.shape)
