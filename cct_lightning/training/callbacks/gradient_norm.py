"""The norm of the gradient, beside the loss of the same step."""

import torch
from pytorch_lightning import Callback, LightningModule, Trainer
from pytorch_lightning.callbacks import Timer
from torch.optim import Optimizer

from cct_lightning.training.sharding import is_sharded


def is_logged(trainer: Trainer) -> bool:
    """Tell, before an optimizer step, whether Lightning will log it.

    It logs the steps n - 1, 2n - 1, ..., and the last one of a run that stops early; what was logged at another step
    would be in its row. A Timer may decide after this hook that the step was the last.
    """
    every: int = trainer.log_every_n_steps  # type: ignore[attr-defined]
    may_be_last = trainer.should_stop or any(isinstance(callback, Timer) for callback in trainer.callbacks)  # type: ignore[attr-defined]
    return bool(every) and ((trainer.global_step + 1) % every == 0 or may_be_last)


class GradientNorm(Callback):
    """Log `train/grad_norm`, the L2 norm of all gradients before clipping, at every step that is logged."""

    def on_before_optimizer_step(self, trainer: Trainer, pl_module: LightningModule, optimizer: Optimizer) -> None:
        """Compute the norm, of unscaled gradients."""
        if is_logged(trainer):
            grads = [p.grad for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
            norm = torch.nn.utils.get_total_norm(grads)
            if is_sharded(trainer):
                # A device without a piece has no gradient, and its zero is on the CPU.
                norm = trainer.strategy.reduce(norm.square().to(pl_module.device), reduce_op="sum").sqrt()
            pl_module.log("train/grad_norm", norm)
