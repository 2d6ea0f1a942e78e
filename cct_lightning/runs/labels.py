"""The lines that a run prints first and last."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytorch_lightning as pl

from cct_lightning.config.options import tilde
from cct_lightning.data.datamodule import ImageDataModule
from cct_lightning.models.complexity import summarize
from cct_lightning.runs.folder import RunFolder
from cct_lightning.runs.metrics import BEST_VAL_ACC, TEST_ACC
from cct_lightning.training.module import Classifier
from cct_lightning.training.optim import Optim


def costs(model: Classifier) -> dict[str, Any]:
    """Return parameters and MACs of the model, for the summary."""
    cost = summarize(model.net, tuple(model.hparams["img_size"]), model.hparams["in_chans"])
    return {"params": cost.params, "macs": cost.macs, "tokens": cost.tokens}


def relative(path: Path) -> str:
    """Return a path as the user would type it: relative to the working directory when it lies below."""
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else tilde(str(path))


def start_message(model: Classifier, data: ImageDataModule, trainer: pl.Trainer, summary: dict[str, Any]) -> str:
    """Return the lines that say what is about to be trained, on what prepared data, and in what batches.

    `summary` is of `costs`.
    """
    images = ", ".join(f"{len(index):,} {split}" for split, index in data.index.items() if len(index))
    height, width = data.img_size
    tokens = f", {summary['tokens']} tokens" if summary["tokens"] else ""
    return (
        f"{model.hparams['arch']}: {summary['params']:,} parameters, {summary['macs'] / 1e6:,.1f} M MACs{tokens}\n"
        f"{data.name}: {images} images of {height}x{width}, {data.num_classes} classes\n"
        f"{_batch(data, trainer, model.optim)}"
    )


def _batch(data: ImageDataModule, trainer: pl.Trainer, optim: Optim) -> str:
    devices, accumulated = trainer.world_size, trainer.accumulate_grad_batches
    local = data.local_batch_size(devices, accumulated)
    images = local * devices * accumulated
    parts = [f"{devices} device{'s' * (devices > 1)}", *([f"{accumulated} accumulated batches"] * (accumulated > 1))]
    scaled = f"{optim.lr_scaling} scaling of {optim.lr:g} for {optim.base_batch_size} images"
    return (
        f"{images} images a step: {' x '.join([*parts, str(local)])}; learning rate {optim.scaled(images).lr:g} "
        f"({'not scaled' if optim.lr_scaling == 'none' else scaled})"
    )


def nothing_left(summary: dict[str, Any]) -> str:
    """Return the line that says why a finished run is not trained any more, and how it would be."""
    stopped_by = summary.get("stopped_by", "max_epochs")
    if stopped_by == "callback":
        why, more = "a callback stopped it", "another --trainer.callbacks, or a larger --trainer.max_epochs"
    elif stopped_by == "early_terminate":
        why, more = "it was worse than most others of its ablation", "a larger --trainer.max_epochs"
    else:
        why, more = f"it has reached trainer.{stopped_by}", f"a larger --trainer.{stopped_by}"
    return f"The run is finished ({why}): nothing is left to do. Train longer with {more}."


def closing_lines(summary: dict[str, Any], folder: RunFolder, tracked: Sequence[tuple[str, str]] = ()) -> str:
    """Return the last lines of a run: what it reached, and where everything is; `tracked` are those of its loggers."""
    reached = {"test accuracy": summary.get(TEST_ACC), "best validation accuracy": summary.get(BEST_VAL_ACC)}
    lines = [(title, f"{100 * value:.2f} %") for title, value in reached.items() if value is not None]
    lines += [("training", f"{summary['train_seconds']:.0f} s, {summary.get('images_per_s', 0):,.0f} images/s")]
    lines += [("run folder", relative(folder.path))]
    lines += [("checkpoint", relative(folder.to_test))] if folder.to_test.is_file() else []
    lines += tracked
    return "\n".join(f"{title:26}{value}" for title, value in lines)
