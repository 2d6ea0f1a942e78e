"""FSDP: while a model trains, each device holds a piece of every weight.

A piece is one-dimensional, and empty where a weight lies on other devices. What asks a weight for its shape asks
before (`remember_shapes`); what runs the model beside the training step must know that it cannot (`is_sharded`).
"""

import pytorch_lightning as pl
import torch
from pytorch_lightning.strategies import FSDPStrategy
from torch import nn


def is_sharded(trainer: pl.Trainer) -> bool:
    """Tell whether each device holds a piece of every weight."""
    return isinstance(trainer.strategy, FSDPStrategy)


def remember_shapes(net: nn.Module) -> None:
    """Note the shape of every parameter at the parameter, for `shape_of`."""
    for parameter in net.parameters():
        parameter.full_shape = shape_of(parameter)  # type: ignore[attr-defined]  # noted before, it stays


def shape_of(parameter: nn.Parameter) -> torch.Size:
    """Return the shape of a parameter, of which this device may hold a piece."""
    return getattr(parameter, "full_shape", parameter.shape)
