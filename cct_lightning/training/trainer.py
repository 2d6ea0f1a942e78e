"""Lightning's Trainer: how it is built, and what a run needs of its options, callbacks and plugins.

Every check comes before the first step and raises InputError; Lightning itself finds most of this after an epoch, with
a traceback, or never.
"""

from collections.abc import Collection, Sequence
from importlib.util import find_spec
from typing import Any

import pytorch_lightning as pl
import torch
from jsonargparse import Namespace
from lightning_fabric.plugins import CheckpointIO
from pytorch_lightning import Callback
from pytorch_lightning.callbacks import (
    BackboneFinetuning,
    BaseFinetuning,
    BatchSizeFinder,
    EarlyStopping,
    LearningRateFinder,
    ModelCheckpoint,
    SpikeDetection,
    WeightAveraging,
)
from pytorch_lightning.strategies import DDPStrategy

from cct_lightning.compat import share_gradients_with_buckets
from cct_lightning.data.arguments import at_least
from cct_lightning.data.datamodule import ImageDataModule
from cct_lightning.errors import InputError, nearest

# Options that Lightning takes below these values, and then divides by zero, or does something else than it seems.
_LEAST = {
    "check_val_every_n_epoch": 1,
    "gradient_clip_val": 0,
    "log_every_n_steps": 0,
    "min_epochs": 0,
    "num_sanity_val_steps": -1,
}

# Lightning's callbacks that do not fit a run, and what to use instead.
_INSTEAD: dict[type[Callback], str] = {
    BackboneFinetuning: "needs a model with `backbone`: use --model.finetune.freeze_backbone true",
    BatchSizeFinder: "would train with another batch size than config.yaml says: give --data.batch_size",
    LearningRateFinder: "would train with another learning rate than config.yaml says: give --model.optim.lr",
    SpikeDetection: "cannot be restored from a checkpoint: a run stops by itself when its loss becomes NaN",
    # Within one Trainer, the test after fit would be of the weights that are not averaged.
    WeightAveraging: "would have the weights tested that it does not average: use --model.ema_decay 0.9998",
}


def build_trainer(options: Namespace, **ours: Any) -> pl.Trainer:
    """Build the Trainer; `ours` win over the user's options.

    Raises:
        InputError: Options, or a combination of them, that Lightning refuses.
    """
    try:
        trainer = pl.Trainer(**{**options.as_dict(), **ours})
    except Exception as error:  # of many classes: what Lightning refuses, or a package that it lacks
        raise InputError(f"Lightning's Trainer refuses its options: {' '.join(str(error).split())}") from error
    if isinstance(trainer.strategy, DDPStrategy):
        share_gradients_with_buckets(trainer.strategy)
    if trainer.strategy.root_device.type == "cuda":
        # TF32 where a run is in float32, as PyTorch has it for convolutions anyway, and timm's training for all.
        torch.set_float32_matmul_precision("high")
    return trainer


def check_trainer(trainer: Namespace, *, test_best: bool) -> None:
    """Check the Trainer's options that need no data: their ranges, and what a run cannot do without.

    Args:
        trainer: The options, as parsed.
        test_best: Whether the best epoch is tested at the end.
    """
    for name, least in _LEAST.items():
        if trainer[name] is not None:
            at_least(least, f"trainer.{name}", trainer[name])
    if trainer.val_check_interval == 0:
        raise InputError("trainer.val_check_interval is 0: give batches, a share of an epoch, or leave it out.")
    if "xla" in str(trainer.profiler).lower() and find_spec("torch_xla") is None:  # Lightning's fails once more at exit
        raise InputError("trainer.profiler xla needs the package torch_xla, which is not installed.")
    if trainer.barebones:
        raise InputError(
            "trainer.barebones turns off the metrics and checkpoints that a run consists of: leave it out, and measure "
            "speed with `cct benchmark`."
        )
    if trainer.enable_checkpointing is False and test_best and not trainer.fast_dev_run:
        raise InputError(
            "trainer.enable_checkpointing false keeps no checkpoint of the best epoch to test: add --test_best false."
        )


def check_callbacks(callbacks: Sequence[Callback], *, logged: Collection[str]) -> None:
    """Check the user's callbacks: that they fit a run, and that what they monitor is logged.

    Args:
        callbacks: Those of the user.
        logged: The metrics that every run logs. A callback or an optimizer that is not Lightning's may log others.
    """
    for callback in callbacks:
        name = type(callback).__name__
        for kind, text in _INSTEAD.items():
            if isinstance(callback, kind):
                raise InputError(f"Lightning's {name} {text}.")
        if type(callback) is BaseFinetuning:
            raise InputError(f"{name} is a base class: use --model.finetune.freeze_backbone true, or a class of yours.")
    if not all(type(callback).__module__.startswith("pytorch_lightning.") for callback in callbacks):
        return
    for callback in callbacks:
        if isinstance(callback, EarlyStopping | ModelCheckpoint) and getattr(callback, "strict", True):
            monitor = callback.monitor
            if monitor is not None and monitor not in logged and not monitor.startswith("lr/"):
                raise InputError(
                    f"{type(callback).__name__} monitors {monitor!r}, which no run logs: choose {', '.join(logged)}."
                    f"{nearest(monitor, logged)}"
                )


def check_plugins(plugins: Sequence[object]) -> None:
    """Check that no plugin of the user's writes checkpoints: a run writes its own, so that a crash loses none."""
    for plugin in plugins:
        if isinstance(plugin, CheckpointIO):
            raise InputError(f"A run writes its checkpoints itself: leave {type(plugin).__name__} out.")


def check_batches(trainer: pl.Trainer, data: ImageDataModule) -> None:
    """Check the Trainer's options that count batches, or shares of them, against the prepared data."""
    data.trainer = trainer
    loaders: dict[str, Any] = {"train": data.train_dataloader()}
    loaders |= {"val": data.val_dataloader()} if data.has_val else {}
    loaders |= {"test": data.test_dataloader()} if data.has_test else {}
    found: dict[str, int] = {}
    for split, loader in loaders.items():
        there, limit = len(loader), getattr(trainer, f"limit_{split}_batches")
        found[split] = min(there, limit) if isinstance(limit, int) else int(there * limit)
        if limit and not found[split]:
            overfit: float = trainer.overfit_batches  # type: ignore[attr-defined]
            name = "overfit_batches" if limit == overfit else f"limit_{split}_batches"
            raise InputError(f"trainer.{name} {limit} of {there} batches is less than one: give 1, or a larger share.")
    interval, batches = trainer.val_check_interval, found["train"]
    if not batches:
        raise InputError("trainer.limit_train_batches 0 trains nothing: give at least 1.")
    if isinstance(interval, int) and interval > batches and trainer.check_val_every_n_epoch is not None:
        raise InputError(
            f"trainer.val_check_interval is {interval} and an epoch has {batches} batches: give at most {batches}, or "
            "count over the epochs with --trainer.check_val_every_n_epoch null."
        )
