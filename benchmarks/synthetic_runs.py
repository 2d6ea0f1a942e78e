"""Run folders as `cct fit` and `cct ablate` leave them, but without training: for benchmarks and tests."""

import copy
import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from cct_lightning.config.recipes import options_of
from cct_lightning.config.resolved import ResolvedConfig

GRID = {
    "model.tokenizer": ("conv", "patch"),
    "model.pool": ("seqpool", "class_token", "mean", "max", "my_lab.GemPool"),
    "model.optim.lr": (0.0005, 0.001, 0.002, 0.004, 0.008),
}
CLASSES = ("plane", "car", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
_EFFECTS = {"conv": 0.04, "seqpool": 0.02, "max": -0.03, 0.002: 0.02, 0.008: -0.02}


def write_runs(target: Path, *, count: int, epochs: int = 100, images: int = 10_000, samples: int = 12) -> None:
    """Write run folders of 50 variants that differ in tokenizer, pooling and learning rate, seed after seed.

    Args:
        target: Where to write: the folder of the ablation.
        count: How many runs; 150 have three seeds of each variant. Every 37th has failed.
        epochs: Epochs in each metrics.csv.
        images: Test images in each test_predictions.npz; 0 writes none.
        samples: Images among them that are kept as pixels.
    """
    words = ["--config=cifar10_cpu", f"--trainer.max_epochs={epochs}"]
    base = ResolvedConfig.resolve(options_of(words))
    chance, numbers = random.Random(0), np.random.default_rng(0)
    label, pixels = numbers.integers(0, 10, images), numbers.integers(0, 256, (samples, 3, 32, 32), dtype=np.uint8)
    axes = list(GRID.values())
    for i in range(count):
        seed, variant = divmod(i, 50)
        values = (axes[0][variant % 2], axes[1][variant // 2 % 5], axes[2][variant // 10])
        parameters = {**dict(zip(GRID, values, strict=True)), "seed_everything": seed}
        folder = target / f"{'-'.join(map(str, values))}-seed{seed}"
        folder.mkdir(parents=True)
        options = copy.deepcopy(base.options)
        options["model"] |= {"tokenizer": values[0], "pool": values[1]}
        options["model"]["optim"]["lr"], options["seed_everything"] = values[2], seed
        (folder / "config.yaml").write_text(yaml.dump(options, Dumper=yaml.CSafeDumper, sort_keys=False))
        record: dict[str, Any] = {"ablation": target.name, "index": variant * 3 + seed, "command": words}
        record |= {"parameters": parameters, "began": 1.8e9 + 1000 * i}
        top = 0.85 + sum(_EFFECTS.get(value, 0.0) for value in values) + chance.gauss(0, 0.004)
        if i % 37 == 36:
            record["reason"] = "ValueError: loss is NaN (exit code 1)"
            summary: dict[str, Any] = {"status": "failed", "reason": record["reason"]}
        else:
            summary = {"status": "finished", "params": 283_723 + 256 * (values[1] == "class_token")}
            summary |= {"macs": 33_000_000 if values[0] == "conv" else 21_000_000, "epochs": epochs, "seconds": 700.0}
            summary |= {"train_seconds": 660.0, "images_per_s": chance.gauss(800, 20), "memory_gb": 1.2}
            summary |= {"best_val/acc": top + 0.003, "test/acc": top, "test/loss": 1.2 - top}
            _write_predictions(folder, label, pixels, top, numbers)
        (folder / "summary.json").write_text(json.dumps(summary, indent=2))
        (folder / "ablation.json").write_text(json.dumps(record, indent=2))
        where = {"python": "3.11", "torch": "2.14.1", "cpu": "AMD EPYC", "cpu_threads": 2, "gpus": []}
        (folder / "environment.json").write_text(json.dumps({**where, "git_commit": f"{variant % 2:040x}"}))
        _write_metrics(folder, top, values[2], epochs, numbers)


def _write_metrics(folder: Path, top: float, lr: float, epochs: int, numbers: np.random.Generator) -> None:
    keys = ("epoch", "lr-MuonAdamW/decay", "step", "train/images_per_s", "train/loss", "val/acc", "val/loss")
    lines, noise = [",".join(keys)], numbers.normal(0, 0.004, epochs)
    for epoch in range(epochs):
        done = (epoch + 1) / epochs
        accuracy = top * (1 - 0.8 * np.exp(-6 * done)) + noise[epoch]
        step = 390 * (epoch + 1) - 1
        lines += [f",{lr * (1 + np.cos(np.pi * done)) / 2:.6g},{step},,,,"]
        lines += [f"{epoch},,{step},800,{2.3 - 1.4 * accuracy:.6g},,", f"{epoch},,{step},,,{accuracy:.6g},"]
        lines += [f"{epoch},,{step},,,,{2 - 1.1 * accuracy:.6g}"]
    (folder / "metrics.csv").write_text("\n".join(lines) + "\n")


def _write_predictions(
    folder: Path, label: np.ndarray, pixels: np.ndarray, accuracy: float, numbers: np.random.Generator
) -> None:
    if not len(label):
        return
    wrong = numbers.random(len(label)) > accuracy
    top = (label[:, None] + np.arange(5) + wrong[:, None] * numbers.integers(1, 5, (len(label), 1))) % 10
    weight = numbers.random((len(pixels), 8, 8)).astype(np.float16)
    np.savez_compressed(
        folder / "test_predictions.npz",
        label=label.astype(np.int32),
        index=np.arange(len(label), dtype=np.int32),
        top=top.astype(np.int32),
        prob=np.full(top.shape, 0.2, np.float16),
        classes=np.array(CLASSES),
        image=pixels,
        row=np.arange(len(pixels), dtype=np.int32),
        weight=weight / weight.sum((1, 2), keepdims=True),
    )
