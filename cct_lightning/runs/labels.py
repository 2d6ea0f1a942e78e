"""What a run is called and what it says of itself: name, tags, opening and closing lines."""

from pathlib import Path
from typing import Any

from cct_lightning.data.datamodule import ImageDataModule
from cct_lightning.models.complexity import summarize
from cct_lightning.runs.folder import tilde
from cct_lightning.training.module import Classifier


def run_name(model: Classifier, data: ImageDataModule) -> str:
    """Return data set, model and what differs from the model's name: `cifar10-cct_7_3x1-pool=class_token`."""
    # Dropout rates and the like are told from the configuration, not from the name.
    parts = [f"{key}={value}" for key, value in model.parts.items() if not key.endswith(("drop", "rate"))]
    return "-".join([str(data.name), str(model.hparams["arch"]), *parts])


def tags(model: Classifier, data: ImageDataModule) -> list[str]:
    """Return W&B's tags: data set, model and its parts."""
    arch = getattr(model.net, "arch", None)
    parts = [arch.tokenizer, arch.pool, f"position-{arch.position}"] if arch is not None else []
    return [str(data.name), str(model.hparams["arch"]), *parts]


def costs(model: Classifier) -> dict[str, Any]:
    """Return parameters and MACs of the model, for the summary."""
    cost = summarize(model.net, tuple(model.hparams["img_size"]), model.hparams["in_chans"])
    return {"params": cost.params, "macs": cost.macs, "tokens": cost.tokens}


def relative(path: Path) -> str:
    """Return a path as the user would type it: relative to the working directory when it lies below."""
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else tilde(str(path))


def start_message(model: Classifier, data: ImageDataModule, summary: dict[str, Any]) -> str:
    """Return the lines that say what is about to be trained, and on what.

    Args:
        model: The module.
        data: The data, prepared.
        summary: What `costs` returned.
    """
    images = ", ".join(f"{len(index):,} {split}" for split, index in data.index.items() if len(index))
    height, width = data.img_size
    tokens = f", {summary['tokens']} tokens" if summary["tokens"] else ""
    return (
        f"{model.hparams['arch']}: {summary['params']:,} parameters, {summary['macs'] / 1e6:,.1f} M MACs{tokens}\n"
        f"{data.name}: {images} images of {height}x{width}, {data.num_classes} classes"
    )


def report(summary: dict[str, Any], run_dir: Path, checkpoint: Path) -> str:
    """Return the closing lines of a run."""
    lines = []
    for key, title in (("test/acc", "test accuracy"), ("best_val/acc", "best validation accuracy")):
        if key in summary:
            lines.append((title, f"{100 * summary[key]:.2f} %"))
    offline = sorted((run_dir / "wandb").glob("*run-*"))
    lines += [("training", f"{summary['train_seconds']:.0f} s, {summary.get('images_per_s', 0):,.0f} images/s")]
    lines += [("run folder", relative(run_dir)), ("checkpoint", relative(checkpoint))]
    lines += [("W&B run", relative(offline[-1]))] if offline else []
    return "\n".join(f"{title:26}{value}" for title, value in lines)
