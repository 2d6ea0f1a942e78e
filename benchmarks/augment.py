"""Augmented, normalized images per second: this package, torchvision v2 per image, and kornia on the batch.

    python benchmarks/augment.py                                  one thread, batch 128, 32 x 32
    python benchmarks/augment.py --size 224 --batch 32 --repeats 5
    python benchmarks/augment.py --device cuda --batch 1024       (torchvision stays on the CPU, as in a data loader)

All three start from the same uint8 photographs and end with float32, in one process; their rounds are interleaved and
the median round counts. Results go to benchmarks/results/augment.md and .json, or under --name.
"""

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks import report
from cct_lightning.data.augment.augment import Augment
from cct_lightning.data.augment.policies import POLICIES
from cct_lightning.training.memory import keep_freed_memory

MEAN, STD = (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)
CROP = "crop, flip, normalize"
TIMM = "timm recipe: resized crop, flip, RandAugment 2 ops, normalize, erasing"


def photographs(count: int, size: int) -> Tensor:
    """Cut uint8 images (count, 3, size, size) from the two photographs that scikit-learn ships."""
    from sklearn.datasets import load_sample_images

    pictures = load_sample_images().images
    rng = np.random.default_rng(0)
    cuts = []
    for i in range(count):
        picture = pictures[i % len(pictures)]
        top, left = (rng.integers(side - size + 1) for side in picture.shape[:2])
        cuts.append(picture[top : top + size, left : left + size])
    return torch.from_numpy(np.stack(cuts)).permute(0, 3, 1, 2).contiguous()


def ours(images: Tensor, device: str, compiled: bool) -> dict[str, Callable[[], Any]]:
    size, index = (images.shape[2], images.shape[3]), torch.arange(len(images))
    images = images.to(device)
    policies = {CROP: POLICIES["light"], TIMM: replace(POLICIES["timm"], erasing=0.25)}
    epochs = iter(range(10**9))

    def bind(policy: Any) -> Callable[[], Tensor]:
        augment: Any = Augment(policy, size=size, mean=MEAN, std=STD).to(device)
        if compiled:
            augment.transform = torch.compile(augment.transform, fullgraph=True)
        return lambda: augment(images, index, next(epochs))

    return {what: bind(policy) for what, policy in policies.items()}


def torchvisions(images: Tensor) -> dict[str, Callable[[], Any]]:
    from torchvision.transforms import v2

    side = images.shape[-1]
    finish = [v2.ToDtype(torch.float32, scale=True), v2.Normalize(MEAN, STD)]
    recipes = {
        CROP: v2.Compose([v2.RandomCrop(side, padding=side // 8), v2.RandomHorizontalFlip(), *finish]),
        TIMM: v2.Compose(
            [
                v2.RandomResizedCrop(side, scale=(0.8, 1.0), antialias=True),
                v2.RandomHorizontalFlip(),
                v2.RandAugment(num_ops=2, magnitude=9, interpolation=v2.InterpolationMode.BILINEAR),
                *finish,
                v2.RandomErasing(p=0.25),
            ]
        ),
    }
    return {
        what: lambda recipe=recipe: torch.stack([recipe(image) for image in images]) for what, recipe in recipes.items()
    }


def kornias(images: Tensor, device: str) -> dict[str, Callable[[], Any]]:
    import kornia.augmentation as kornia
    from kornia.augmentation.auto import RandAugment

    side, images = images.shape[-1], images.to(device)
    mean, std = torch.tensor(MEAN), torch.tensor(STD)
    recipes = {
        CROP: torch.nn.Sequential(
            kornia.RandomCrop((side, side), padding=side // 8),
            kornia.RandomHorizontalFlip(),
            kornia.Normalize(mean, std),
        ),
        # One draw of RandAugment's operations serves the whole batch here; the others draw for every image.
        TIMM: torch.nn.Sequential(
            kornia.RandomResizedCrop((side, side), scale=(0.8, 1.0)),
            kornia.RandomHorizontalFlip(),
            RandAugment(n=2, m=9),
            kornia.Normalize(mean, std),
            kornia.RandomErasing(p=0.25),
        ),
    }
    for recipe in recipes.values():
        recipe.to(device)
    return {what: lambda recipe=recipe: recipe(images.float() / 255) for what, recipe in recipes.items()}


def measure(jobs: dict[str, Callable[[], Any]], repeats: int, device: str) -> dict[str, float]:
    """Median seconds of every job, the jobs taking turns."""
    seconds: dict[str, list[float]] = {who: [] for who in jobs}
    for turn in range(repeats + 2):  # two rounds of warm-up
        for who, job in jobs.items():
            start = time.perf_counter()
            job()
            if device == "cuda":
                torch.cuda.synchronize()
            if turn >= 2:
                seconds[who].append(time.perf_counter() - start)
    return {who: statistics.median(values) for who, values in seconds.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=1, help="torch threads (default 1)")
    parser.add_argument("--batch", type=int, default=128, help="images per batch (default 128)")
    parser.add_argument("--size", type=int, default=32, help="side of the images in pixels (default 32)")
    parser.add_argument("--repeats", type=int, default=15, help="rounds (default 15)")
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"), help="for this package and kornia")
    parser.add_argument("--compile", action="store_true", help="measure this package compiled as well")
    parser.add_argument("--json", action="store_true", help="print the rows as JSON instead of the table")
    parser.add_argument("--name", default="augment", help="of the files under results (default augment)")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    keep_freed_memory()
    told = report.conditions("torch", "torchvision", "kornia", "numpy", device=args.device)
    images = photographs(args.batch, args.size)
    sides = {
        "cct_lightning": ours(images, args.device, False),
        "torchvision v2": torchvisions(images),
        "kornia": kornias(images, args.device),
    }
    if args.compile:
        sides["cct_lightning compiled"] = ours(images, args.device, True)
    rows = []
    for what in (CROP, TIMM):
        seconds = measure({who: jobs[what] for who, jobs in sides.items()}, args.repeats, args.device)
        row: dict[str, Any] = {"images/s": what}
        row |= {who: round(args.batch / value) for who, value in seconds.items()}
        for peer in ("torchvision v2", "kornia"):
            row[f"times {peer}"] = round(seconds[peer] / seconds["cct_lightning"], 2)
        rows.append(row)
    notes = (
        f"uint8 photographs of {args.size} x {args.size} in, normalized float32 out; batches of {args.batch} on "
        f"{args.device}, {args.threads} thread(s); medians of {args.repeats} interleaved rounds, eager unless it says "
        "compiled. torchvision takes image after image; kornia takes the batch, and draws RandAugment's two operations "
        "once for all of it, where the other two draw for every image. The process keeps freed memory, as `cct fit` "
        "does, which helps all three."
    )
    text = report.write(args.name, "Augmentation", notes, rows, told)
    print(json.dumps(rows, indent=2) if args.json else text)


if __name__ == "__main__":
    main()
