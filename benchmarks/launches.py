"""What a training step asks a GPU to do, counted without one: kernels launched, and copies between the devices.

    python benchmarks/launches.py            (half a minute; no GPU is needed, or used)

A GPU is idle where the CPU cannot launch its kernels as fast as it does them: some microseconds each in eager PyTorch,
whatever the batch. Counted in eager, of tests/pretended_gpu.py, so torch.compile needs fewer. tests/test_launches.py
holds the code to results/launches.json.
"""

import argparse
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

from pretended_gpu import DEVICE, Watch, autocast, backward, pretended_gpu, to_gpu

from cct_lightning.data.augment.mixup import MixingPolicy
from cct_lightning.data.augment.policies import POLICIES
from cct_lightning.data.augment.transform import BatchTransform
from cct_lightning.data.batch import Batch
from cct_lightning.data.input_spec import InputSpec
from cct_lightning.training.callbacks.ema import EMA
from cct_lightning.training.module import Classifier
from cct_lightning.training.optim import Optim
from cct_lightning.training.optim.optimizers import OPTIMIZERS, build_optimizer

ARCH, BATCH, CLASSES, SIDE = "cct_7_3x1", 512, 10, 32
Part = tuple[str, Callable[[], Any]]


def zeros(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.zeros(shape, dtype=dtype, device=DEVICE)


def training(model: Classifier) -> Iterator[Part]:
    """Yield the parts of a step of a model, in their order."""
    to_gpu(model)
    for metric in (model.train_loss, model.train_acc, *model.val_metrics.values()):
        metric.to(DEVICE)
    images, labels = zeros(BATCH, 3, SIDE, SIDE), zeros(BATCH, dtype=torch.int64)
    state: dict[str, Any] = {}

    def forward() -> None:
        with autocast():
            state["logits"] = model(images)
            state["loss"] = model.loss(state["logits"], labels)

    yield "forward and loss", forward
    yield "backward", lambda: backward(state["loss"])
    for name in OPTIMIZERS:
        optimizer = build_optimizer(model.net, Optim(optimizer=name), global_batch_size=BATCH)
        optimizer.step()  # makes its state
        yield f"step of {name}", optimizer.step
    yield "clipping by the norm", lambda: torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0, foreach=True)
    average: Any = EMA()
    average.on_fit_start(None, model)
    steps = iter(range(1, 9))

    def ema() -> None:
        average.on_train_batch_end(SimpleNamespace(global_step=next(steps)), model)

    ema()  # the first copies
    yield "EMA", ema
    model.log = lambda *_, **__: None
    batch = Batch(images, labels, labels)
    model.forward = lambda _: state["logits"]
    yield "loss, and metrics of training", lambda: model.training_step(batch, 0)
    yield "metrics of evaluation", lambda: model.validation_step(batch, 0)


def batches(_: Classifier) -> Iterator[Part]:
    """Yield what happens to a batch on the device, for every policy."""
    spec = InputSpec(
        in_chans=3, img_size=(SIDE, SIDE), stored_size=(SIDE, SIDE), fit="resize",
        mean=(0.5,) * 3, std=(0.25,) * 3, classes=("a",) * CLASSES,
    )  # fmt: skip
    index = torch.zeros(BATCH, dtype=torch.int64)
    batch = Batch(zeros(BATCH, 3, SIDE, SIDE, dtype=torch.uint8), zeros(BATCH, dtype=torch.int64), index)
    for name in POLICIES:
        for mixing in (None, MixingPolicy()):
            transform = BatchTransform(spec, policy=name, mixing=mixing).on(DEVICE)
            train = lambda transform=transform: transform.train_batch(batch, epoch=0, step=0)  # noqa: E731
            train()  # brings the tables
            yield f"policy {name}{', mixing' if mixing else ''}", train
    yield "batch of evaluation", lambda: transform.eval_batch(batch)


def count() -> Iterator[dict[str, Any]]:
    """Yield a row for each part."""
    model = Classifier(arch=ARCH)  # whose initialization looks at values
    for parts in (training, batches):
        with pretended_gpu() as watch:
            for name, part in parts(model):
                yield {"part": name, **counted(watch, part)}


def counted(watch: Watch, part: Callable[[], Any]) -> dict[str, int]:
    """Count what one call launches and copies."""
    before = watch.launches, watch.wide, watch.copies, watch.waits
    part()
    after = watch.launches, watch.wide, watch.copies, watch.waits
    names = ("kernels", "of them with int64", "copies to the device", "waits")
    return {name: b - a for name, a, b in zip(names, before, after, strict=True)}


def main() -> None:
    from benchmarks.report import conditions, write

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--before", type=Path, help="a JSON of an earlier count, to stand beside this one")
    args = parser.parse_args()
    rows = list(count())
    if args.before:
        earlier = {row["part"]: row for row in json.loads(args.before.read_text())["rows"]}
        for row in rows:
            row |= {f"{what} before": earlier[row["part"]][what] for what in ("kernels", "copies to the device")}
    notes = (
        f"{ARCH}, {BATCH} images of {SIDE} x {SIDE}, bfloat16 autocast, eager, counted on a pretended GPU: operations "
        "that launch a kernel at least (one over a list of tensors counts as one), those among them that read or write "
        "int64, copies of a tensor to the device, and those of them that the CPU waits for. A copy from the device, a "
        "number read from it or a mixture of devices would have ended the count. Counts, not times, and of no GPU."
    )
    print(write("launches", "Kernels of a training step", notes, rows, conditions("torch", "torchvision")))


if __name__ == "__main__":
    main()
