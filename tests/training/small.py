"""Real runs of a few steps on scikit-learn's digits."""

from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback, ModelCheckpoint

from cct_lightning.data.datamodule import ImageDataModule
from cct_lightning.training.module import Classifier
from cct_lightning.training.optim import Optim


def digits(batch_size: int = 64) -> ImageDataModule:
    """Return the data set without augmentation."""
    return ImageDataModule(name="digits", batch_size=batch_size, augment="none", num_workers=0)


def classifier(data: ImageDataModule, *, lr: float = 1e-3, **options: Any) -> Classifier:
    """Return a tiny model without dropout, always the same."""
    torch.manual_seed(0)
    chosen: dict[str, Any] = {"arch": "cct_2_3x2", "optim": Optim(lr=lr, warmup_epochs=0), **options}
    return Classifier(
        img_size=data.img_size,
        in_chans=data.in_chans,
        num_classes=data.num_classes,
        **{"attn_drop": 0.0, "drop_path_rate": 0.0, **chosen},
    )


def trainer(folder: Path, *callbacks: Callback, batches: int = 4, **options: Any) -> pl.Trainer:
    """Return a Trainer of two short epochs that prints nothing."""
    chosen = {"max_epochs": 2, "limit_val_batches": 1, "logger": False, "log_every_n_steps": 1, **options}
    return pl.Trainer(
        accelerator="cpu",
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=folder,
        callbacks=list(callbacks),
        limit_train_batches=batches,
        num_sanity_val_steps=0,
        **chosen,
    )


def last(folder: Path) -> ModelCheckpoint:
    """Return Lightning's own checkpoint of every epoch."""
    return ModelCheckpoint(
        dirpath=folder,
        filename="last",
        every_n_epochs=1,
        save_on_train_epoch_end=True,
        save_on_exception=True,
        enable_version_counter=False,
    )


def load(path: Path) -> dict[str, Any]:
    """Load a checkpoint."""
    return torch.load(path, weights_only=True)
