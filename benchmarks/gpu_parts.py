"""The parts of benchmarks/gpu.sh that no other script measures; each prints one line of JSON.

    python benchmarks/gpu_parts.py pixels       timm's policy on the device, beside the CPU, with TF32 off and on
    python benchmarks/gpu_parts.py waits        how often the CPU waits for the device in 60 steps of a fit, and where
    python benchmarks/gpu_parts.py attention    milliseconds of scaled_dot_product_attention by backend
    python benchmarks/gpu_parts.py busy         the share of a training step in which the device computes
    python benchmarks/gpu_parts.py tree DEST    not a measurement: a tree of small random images

--device cpu --tiny rehearses them.
"""

import argparse
import collections
import json
import sys
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))


def wait(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()


def pixels(device: str, tiny: bool) -> dict[str, Any]:
    """Return the share of normalized values that differ from the CPU's; all are to be 0."""
    from benchmarks.augment import MEAN, STD, photographs
    from cct_lightning.data.augment.augment import Augment
    from cct_lightning.data.augment.policies import POLICIES

    count = 8 if tiny else 512
    images, index = photographs(count, 32), torch.arange(count)
    policy: Any = POLICIES["timm"]
    differ: dict[str, Any] = {}
    for size in ((32, 32), (24, 24)):
        augment = Augment(policy, size=size, mean=MEAN, std=STD)
        expected = augment(images, index, 1), augment.normalize(images)
        for precision in ("highest", "high"):
            torch.set_float32_matmul_precision(precision)
            for compiled in (False, True)[: 1 if tiny else 2]:
                moved = Augment(policy, size=size, mean=MEAN, std=STD).to(device)
                if compiled:
                    moved.compile_transform()
                seen = moved(images.to(device), index, 1), moved.normalize(images.to(device))
                shares = [float((a != b.cpu()).float().mean()) for a, b in zip(expected, seen, strict=True)]
                differ[f"{size[0]} pixels, matmul {precision}{', compiled' if compiled else ''}"] = shares
    return {"differ, train and evaluation": differ}


def waits(device: str, tiny: bool) -> dict[str, Any]:
    """Return how often 60 steps after the first 20 wait for the device, and the lines where they do."""
    import pytorch_lightning as pl

    from cct_lightning.data.augment.mixup import MixingPolicy
    from cct_lightning.data.datamodule import ImageDataModule
    from cct_lightning.training.module import Classifier
    from cct_lightning.training.optim import Optim

    first, last = (1, 3) if tiny else (20, 80)
    seen: list[warnings.WarningMessage] = []
    catcher = warnings.catch_warnings(record=True)

    class Look(pl.Callback):
        def on_train_batch_start(self, trainer: pl.Trainer, pl_module: Any, batch: Any, batch_idx: int) -> None:
            if trainer.global_step == first:
                seen_here = catcher.__enter__()
                assert seen_here is not None
                self.seen = seen_here
                warnings.simplefilter("always")
                if device == "cuda":
                    torch.cuda.set_sync_debug_mode("warn")
            if trainer.global_step == last:
                if device == "cuda":
                    torch.cuda.set_sync_debug_mode("default")
                seen.extend(self.seen)
                catcher.__exit__(None, None, None)

    data = ImageDataModule(augment="timm", mixing=MixingPolicy(), batch_size=16, num_workers=0)
    optim = Optim(optimizer="muon", warmup_epochs=0)
    model = Classifier(
        arch="cct_2_3x2", img_size=data.img_size, in_chans=data.in_chans, ema_decay=0.99, optim=optim
    )  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        pl.Trainer(
            accelerator="cpu" if device == "cpu" else "gpu", devices=1, max_steps=last + 2, limit_val_batches=0,
            precision="bf16-mixed" if device == "cuda" else "32-true", logger=False, enable_checkpointing=False,
            enable_progress_bar=False, enable_model_summary=False, default_root_dir=folder, callbacks=[Look()],
        ).fit(model, datamodule=data)  # fmt: skip
    found = [f"{Path(one.filename).name}:{one.lineno}" for one in seen if "synchronizing" in str(one.message)]
    return {"steps": last - first, "waits": len(found), "where": dict(collections.Counter(found))}


def attention(device: str, tiny: bool) -> dict[str, Any]:
    """Return milliseconds of forward and backward of CCT-7/3x1's attention by backend and dropout."""
    from torch.nn.attention import SDPBackend, sdpa_kernel

    shape, repeats = ((2, 4, 64, 64), 1) if tiny else ((512, 4, 256, 64), 30)
    q, k, v = (torch.randn(shape, device=device, dtype=torch.bfloat16, requires_grad=True) for _ in range(3))
    found: dict[str, Any] = {}
    for backend in (
        SDPBackend.FLASH_ATTENTION,
        SDPBackend.EFFICIENT_ATTENTION,
        SDPBackend.CUDNN_ATTENTION,
        SDPBackend.MATH,
    ):
        for drop in (0.0, 0.1):
            try:
                with sdpa_kernel(backend):
                    for repeat in range(repeats + 3):
                        if repeat == 3:
                            wait(device)
                            began = time.perf_counter()
                        nn.functional.scaled_dot_product_attention(q, k, v, dropout_p=drop).sum().backward()
                    wait(device)
                found[f"{backend.name}, dropout {drop}"] = round(1e3 * (time.perf_counter() - began) / repeats, 3)
            except RuntimeError:
                found[f"{backend.name}, dropout {drop}"] = None  # there is no such kernel here
    return {"ms": found}


def busy(device: str, tiny: bool) -> dict[str, Any]:
    """Return of CCT-7/3x1's training step, eager and compiled, its time, that of the host, and the device's share."""
    from torch.profiler import ProfilerActivity, profile

    from cct_lightning.training.module import Classifier
    from cct_lightning.training.optim import Optim
    from cct_lightning.training.optim.optimizers import build_optimizer

    arch, size, steps = ("cct_2_3x2", 4, 1) if tiny else ("cct_7_3x1", 512, 20)
    images, labels = torch.randn(size, 3, 32, 32, device=device), torch.zeros(size, dtype=torch.int64, device=device)
    found: dict[str, Any] = {}
    for compiled in (False, True)[: 1 if tiny else 2]:
        net = Classifier(arch=arch).net.train().to(device)
        if compiled:
            net.compile(dynamic=False)
        optimizer = build_optimizer(net, Optim(optimizer="muon"), global_batch_size=size)

        def step(net: nn.Module = net, optimizer: Any = optimizer) -> None:
            optimizer.zero_grad()
            with torch.autocast(device, torch.bfloat16, cache_enabled=False):
                loss = nn.functional.cross_entropy(net(images), labels)
            loss.backward()
            optimizer.step()

        for _ in range(3):
            step()
        wait(device)
        began = time.perf_counter()
        for _ in range(steps):
            step()
        host = time.perf_counter() - began
        wait(device)
        took = time.perf_counter() - began
        with profile(activities=[ProfilerActivity.CUDA if device == "cuda" else ProfilerActivity.CPU]) as seen:
            step()
            wait(device)
        computing = sum(event.self_device_time_total for event in seen.key_averages()) / 1e6
        found["compiled" if compiled else "eager"] = {
            "ms": round(1e3 * took / steps, 2),
            "host ms": round(1e3 * host / steps, 2),
            "device computes": round(computing * steps / took, 3),
        }
    return found


def tree(root: Path) -> dict[str, Any]:
    """Write 2,000 training and 100 test images of 32 x 32 as train/CLASS/*.png and test/CLASS/*.png."""
    from PIL import Image

    rng = np.random.default_rng(0)
    for split, count in (("train", 200), ("test", 10)):
        for label in range(10):
            (root / split / str(label)).mkdir(parents=True, exist_ok=True)
            for i in range(count):
                pixels = rng.integers(0, 256, (32, 32, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(root / split / str(label) / f"{i}.png")
    return {"tree": str(root)}


PARTS = {"pixels": pixels, "waits": waits, "attention": attention, "busy": busy}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=[*PARTS, "tree"])
    parser.add_argument("dest", nargs="?", type=Path, help="of tree")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--tiny", action="store_true", help="sizes that only show that it runs")
    args = parser.parse_args()
    print(json.dumps(tree(args.dest) if args.part == "tree" else PARTS[args.part](args.device, args.tiny)))


if __name__ == "__main__":
    main()
