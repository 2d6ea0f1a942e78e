"""Every callback of ours in short runs, undisturbed and interrupted in every way; run by test_matrix.py.

    python matrix.py FOLDER                                            in one process
    python -m torch.distributed.run --nproc_per_node 2 matrix.py FOLDER   in two (gloo)

Each run has its folder, FOLDER/KIND/INTERRUPTION.
"""  # fmt: skip

import os
import signal
import sys
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback

from cct_lightning.config.resolved import ResolvedConfig
from cct_lightning.data.datamodule import ImageDataModule
from cct_lightning.runs.checkpoint_io import AtomicCheckpointIO
from cct_lightning.runs.checkpoints import checkpoints
from cct_lightning.runs.folder import RunFolder
from cct_lightning.runs.interrupts import Stopped
from cct_lightning.runs.metrics_csv import MetricsCsv
from cct_lightning.runs.record import RunRecord
from cct_lightning.training.callbacks.gradient_norm import GradientNorm
from cct_lightning.training.callbacks.learning_rate import LearningRate
from cct_lightning.training.callbacks.nan_guard import StopOnNonFiniteLoss
from cct_lightning.training.callbacks.seeding import StepSeed
from cct_lightning.training.module import Classifier
from cct_lightning.training.optim import Optim
from cct_lightning.training.optim.finetune import FineTune

PROCESSES = int(os.environ.get("WORLD_SIZE", "1"))
BATCHES = 7  # an epoch, of which the first and the sixth are those where several processes talk about signals

# What differs between two kinds of runs, for callbacks that do not fit into one.
KINDS: dict[str, dict[str, Any]] = {
    "averaged": {"ema_decay": 0.9},
    "frozen": {"finetune": FineTune(freeze_backbone=True), "ema_decay": 0.9},
    "limited by steps": {"max_steps": 17, "longer_than": 12},
    "accumulated": {"optim": Optim(optimizer="muon", warmup_epochs=0.5, schedule="constant"), "accumulate": 2},
}
# The moment of the interruption: epoch, and batch in training, or None for the validation.
INTERRUPTIONS: dict[str, tuple[int, int | None, bool]] = {
    "at epoch end": (0, BATCHES - 1, False),
    "in mid-epoch": (1, 2, False),
    "in validation": (0, None, False),
    "after an exception": (1, 4, True),
    "after an exception in validation": (1, None, True),
}


class Broken(RuntimeError):
    """What a fault of a user's code raises."""


class Interrupt(Callback):
    """Send SIGTERM to this process, or raise, once."""

    def __init__(self, epoch: int, batch: int | None, fails: bool) -> None:
        self.epoch, self.batch, self.fails, self.done = epoch, batch, fails, False

    def _now(self, trainer: pl.Trainer, batch: int | None) -> None:
        if self.done or trainer.sanity_checking or (trainer.current_epoch, batch) != (self.epoch, self.batch):
            return
        self.done = True
        if self.fails:
            raise Broken
        signal.raise_signal(signal.SIGTERM)

    def on_before_backward(self, trainer: pl.Trainer, pl_module: pl.LightningModule, loss: torch.Tensor) -> None:
        self._now(trainer, trainer.fit_loop.batch_idx)

    def on_validation_batch_end(self, trainer: pl.Trainer, *_: Any) -> None:
        self._now(trainer, None)


class Modes(Callback):
    """See before every step that what is frozen is in evaluation mode, and nothing else."""

    def on_before_backward(self, trainer: pl.Trainer, pl_module: pl.LightningModule, loss: torch.Tensor) -> None:
        training = {name for name, module in pl_module.net.named_modules() if module.training}
        frozen = pl_module.finetune.freeze_backbone
        assert training == ({"head"} if frozen else {name for name, _ in pl_module.net.named_modules()}), training


def fit(
    folder: Path,
    interrupt: Callback | None,
    *,
    accumulate: int = 1,
    max_epochs: int = 3,
    max_steps: int = -1,
    **options: Any,
) -> None:
    """Train, from last.ckpt where there is one."""
    torch.manual_seed(0)
    data = ImageDataModule(name="digits", batch_size=16, num_workers=0, augment="light", mixing=None)
    model = Classifier(
        arch="cct_2_3x1",
        embed_dim=16,
        img_size=data.img_size,
        in_chans=data.in_chans,
        attn_drop=0.2,
        proj_drop=0.2,
        drop_path_rate=0.2,
        **{"optim": Optim(lr=1e-3, warmup_epochs=0, schedule="constant"), **options},
    )
    callbacks: list[Callback] = [
        *([interrupt] if interrupt else []),
        Modes(),
        StepSeed(seed=0),
        GradientNorm(),
        LearningRate(),
        StopOnNonFiniteLoss(run_dir=folder, every_n_batches=3),
        RunRecord(folder=RunFolder(folder), config=ResolvedConfig({}), costs={}),
        *checkpoints(folder, monitor="val/acc", every_minutes=0),
    ]
    trainer = pl.Trainer(
        accelerator="cpu",
        devices=PROCESSES,
        strategy="ddp" if PROCESSES > 1 else "auto",
        max_epochs=max_epochs if max_steps == -1 else -1,
        max_steps=max_steps,
        limit_train_batches=BATCHES,
        limit_val_batches=3,
        accumulate_grad_batches=accumulate,
        gradient_clip_val=0.5,
        logger=MetricsCsv(folder),
        callbacks=callbacks,
        plugins=[AtomicCheckpointIO()],
        log_every_n_steps=2,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    last = folder / "last.ckpt"
    trainer.fit(model, datamodule=data, ckpt_path=last if last.exists() else None, weights_only=True)


def main(folder: Path) -> None:
    """Train every run of the matrix."""
    for kind, chosen in KINDS.items():
        options, shorter = dict(chosen), {"max_epochs": 2}
        if "longer_than" in options:
            shorter = {"max_steps": options.pop("longer_than")}
        fit(folder / kind / "undisturbed", None, **options)
        for name, moment in INTERRUPTIONS.items():
            interrupt = Interrupt(*moment)
            try:
                fit(folder / kind / name, interrupt, **options)
            except (Stopped, Broken):
                fit(folder / kind / name, interrupt, **options)
            else:
                raise AssertionError(f"{kind}, {name}: nothing was interrupted")
        # The same command with a greater length.
        fit(folder / kind / "trained longer", None, **{**options, **shorter})
        fit(folder / kind / "trained longer", None, **options)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
