"""Train the head alone: the backbone gets no gradients and stays in evaluation mode."""

import pytorch_lightning as pl
from torch import nn

from cct_lightning.models.weights.pretrained import head_of


class FreezeBackbone(pl.Callback):
    """Train the head alone: the rest neither gets gradients nor moves its statistics nor drops anything.

    Args:
        net: Name of the attribute of the LightningModule that holds the model.
    """

    def __init__(self, *, net: str = "net") -> None:
        self.net = net

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Freeze before the optimizer is built."""
        freeze_backbone(getattr(pl_module, self.net))

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Put what is frozen into evaluation mode; Lightning calls no other hook in an epoch that is continued."""
        set_eval_except_head(getattr(pl_module, self.net))

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Keep it there, whatever a callback did in between."""
        set_eval_except_head(getattr(pl_module, self.net))


def freeze_backbone(net: nn.Module) -> None:
    """Take the gradients from every parameter that is not the head's; see `head_of` for what the head is."""
    head = f"{head_of(net)}."
    for name, parameter in net.named_parameters():
        parameter.requires_grad_(name.startswith(head))


def set_eval_except_head(net: nn.Module) -> None:
    """Put the modules outside the head into evaluation mode: no dropout, no statistics of batch norms."""
    head = head_of(net)
    for name, module in net.named_modules():
        # Not `Module.eval`, which would take the head along with its parents.
        module.training = name == head or name.startswith(f"{head}.")
