"""The learning rate, under one name whatever the optimizer."""

from pytorch_lightning import Callback, LightningModule, Trainer
from torch.optim import Optimizer

from cct_lightning.training.callbacks.gradient_norm import is_logged


class LearningRate(Callback):
    """Log `lr`, that of `model.optim.lr`, at every step that is logged, and `lr/GROUP` where a group has another one.

    Lightning's LearningRateMonitor names it after the optimizer's class, so that no two optimizers share a curve.
    """

    def on_before_optimizer_step(self, trainer: Trainer, pl_module: LightningModule, optimizer: Optimizer) -> None:
        """Log the rates of the step."""
        if not is_logged(trainer):
            return
        rates = {str(group.get("name", i)): float(group["lr"]) for i, group in enumerate(optimizer.param_groups)}
        # A schedule scales all groups alike; what they began with tells which has the option's rate.
        begin = optimizer.defaults.get("lr")
        common = [group["lr"] for group in optimizer.param_groups if group.get("initial_lr", group["lr"]) == begin]
        lr = float(common[0] if common else max(rates.values()))
        pl_module.log_dict({"lr": lr, **{f"lr/{name}": rate for name, rate in rates.items() if rate != lr}})
