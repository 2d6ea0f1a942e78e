"""Optimizers: parameter groups, rates by layer, Muon, the schedule."""

from cct_lightning.training.optim.options import Optim

__all__ = ["Optim"]
