"""Histograms of gradients and parameters in W&B, as `wandb.watch` logs them.

Its own hooks call W&B from within the backward pass, where a service that dies would end the training.
"""

from typing import Any, Literal

import numpy as np
import pytorch_lightning as pl
import wandb
from pytorch_lightning.callbacks import Callback
from pytorch_lightning.loggers import WandbLogger
from torch.optim import Optimizer

from cct_lightning.training.callbacks.gradient_norm import is_logged
from cct_lightning.training.sharding import is_sharded


class Watch(Callback):
    """Log `gradients/NAME` and `parameters/NAME` of every trained parameter, at every step that is logged.

    Gradients are those before clipping. Under FSDP, where no device has a whole parameter, nothing is logged.

    Args:
        log: `gradients`, `parameters` or `all`.
    """

    def __init__(self, *, log: Literal["gradients", "parameters", "all"]) -> None:
        self.kinds = ("gradients", "parameters") if log == "all" else (log,)

    def on_before_optimizer_step(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, optimizer: Optimizer
    ) -> None:
        """Log the histograms of the step."""
        loggers = [logger for logger in trainer.loggers if isinstance(logger, WandbLogger)]
        if not loggers or not trainer.is_global_zero or not is_logged(trainer) or is_sharded(trainer):
            return
        row: dict[str, Any] = {"trainer/global_step": trainer.global_step}
        for name, parameter in pl_module.named_parameters():
            for kind in self.kinds if parameter.requires_grad else ():
                values = parameter.grad if kind == "gradients" else parameter.detach()
                if values is not None:
                    found = values.cpu().double().numpy()  # float32 has no 64 bins between two close numbers
                    counts = np.histogram(found[np.isfinite(found)], bins=64)
                    row[f"{kind}/{name.removeprefix('net.')}"] = wandb.Histogram(np_histogram=counts)
        for logger in loggers:
            logger.experiment.log(dict(row))
