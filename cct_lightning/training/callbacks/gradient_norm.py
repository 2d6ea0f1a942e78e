"""The norm of the gradient, beside the loss of the same step."""

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback

from cct_lightning.training.sharding import is_sharded


class GradientNorm(Callback):
    """Log `train/grad_norm`, the L2 norm of all gradients before clipping, at every step that is logged."""

    def on_before_optimizer_step(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, optimizer: torch.optim.Optimizer
    ) -> None:
        """Compute the norm, of unscaled gradients."""
        if trainer.global_step % trainer.log_every_n_steps == 0:  # type: ignore[attr-defined]
            grads = [p.grad for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
            norm = torch.nn.utils.get_total_norm(grads)
            if is_sharded(trainer):
                # A device without a piece has no gradient, and its zero lies on the CPU.
                norm = trainer.strategy.reduce(norm.square().to(pl_module.device), reduce_op="sum").sqrt()
            pl_module.log("train/grad_norm", norm)
