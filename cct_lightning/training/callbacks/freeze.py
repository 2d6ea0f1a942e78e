"""Train the head alone: the backbone gets no gradients and stays in evaluation mode."""

import pytorch_lightning as pl

from cct_lightning.models.weights.pretrained import head_of


class FreezeBackbone(pl.Callback):
    """Train the head of `pl_module.net` alone: the rest gets no gradients, moves no statistics and drops nothing."""

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Freeze before the optimizer is built."""
        net = pl_module.get_submodule("net")
        head = f"{head_of(net)}."
        for name, parameter in net.named_parameters():
            parameter.requires_grad_(name.startswith(head))

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Put what is frozen into evaluation mode, also in an epoch that is continued, which has no other hook."""
        net = pl_module.get_submodule("net")
        head = f"{head_of(net)}."
        for name, module in net.named_modules():
            # Not `Module.eval`, which would take the head along with its parents.
            module.training = f"{name}.".startswith(head)

    on_train_epoch_start = on_train_start  # keep it there, whatever was done in between
