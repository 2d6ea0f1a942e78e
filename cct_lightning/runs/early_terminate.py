"""`EarlyTerminate`: stop a run of an ablation that is worse than most others were, by the rule in `hyperband.py`.

What the other runs have reached is read from their folders after each validation: that survives whatever is killed, and
is the same on one machine, on a cluster of Ray and in a job array. Ray's own scheduler would forget them when killed.
"""

from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Callback

from cct_lightning.runs.folder import RunFolder
from cct_lightning.runs.hyperband import Hyperband
from cct_lightning.runs.metrics_table import history


class EarlyTerminate(Callback):
    """Stop a run by `Hyperband`; its metrics and checkpoints stay.

    Args:
        run_dir: Its folder, beside those of the other runs of the ablation.
        rule: What it is compared by.
    """

    stopped = False

    def __init__(self, *, run_dir: Path, rule: Hyperband) -> None:
        self.run_dir, self.rule = run_dir, rule

    @classmethod
    def of(cls, folder: RunFolder) -> list["EarlyTerminate"]:
        """Return the callback of a run whose ablation has such a rule, which is in its record; else nothing."""
        rule: dict[str, Any] | None = folder.record().get("early_terminate")
        return [cls(run_dir=folder.path, rule=Hyperband(**{**rule, "bands": tuple(rule["bands"])}))] if rule else []

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Compare the run with the others after its validation, which is logged by now; not after its last epoch."""
        stop = False
        if trainer.is_global_zero and trainer.current_epoch + 1 != trainer.max_epochs:
            others = [path.parent for path in self.run_dir.parent.glob(f"*/{RunFolder.RECORD}")]
            values = [history(path / RunFolder.METRICS, self.rule.metric) for path in others if path != self.run_dir]
            stop = self.rule.stops(history(self.run_dir / RunFolder.METRICS, self.rule.metric), values)
        if trainer.strategy.reduce_boolean_decision(stop, all=False):
            self.stopped = trainer.should_stop = True
