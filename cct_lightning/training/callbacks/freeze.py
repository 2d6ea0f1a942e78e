"""Train the head alone: the backbone gets no gradients and stays in evaluation mode."""

import pytorch_lightning as pl

from cct_lightning.models.weights.pretrained import head_of


class FreezeBackbone(pl.Callback):
    """Train the head of `pl_module.net` alone: the rest gets no gradients, moves no statistics and drops nothing."""

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Freeze before the optimizer is built."""
        head = f"{head_of(pl_module.get_submodule('net'))}."
        for name, parameter in pl_module.get_submodule("net").named_parameters():
            parameter.requires_grad_(name.startswith(head))

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Put what is frozen into evaluation mode, also in an epoch that is continued, which has no other hook."""
        head = head_of(pl_module.get_submodule("net"))
        for name, module in pl_module.get_submodule("net").named_modules():
            # Not `Module.eval`, which would take the head along with its parents.
            module.training = name == head or name.startswith(f"{head}.")

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Keep it there, whatever was done in between."""
        self.on_train_start(trainer, pl_module)
