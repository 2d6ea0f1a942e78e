"""CIFAR-10 from disk to the first batch, and one epoch of batches: this package and torchvision's CIFAR10 + DataLoader.

    python unpack.py cifar10 DEST --npz                      (or have torchvision's cifar-10-batches-py in ROOT)
    python benchmarks/data_loading.py --npz DEST/cifar10.npz
    python benchmarks/data_loading.py --root ROOT

Every measurement is a fresh process; its clock starts after the imports and stops when the first batch (or the last of
the epoch) is augmented (crop with padding 4, flip) and normalized. Both sides make batches of 128 of 50,000 images.
"""

import argparse
import json
import pickle
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

BATCH = 128
MEAN, STD = (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)


def ours(root: str, cache_dir: str, epoch: bool) -> float:
    from cct_lightning.data import ImageDataModule

    start = time.perf_counter()
    data = ImageDataModule(
        name="cifar10",
        root=root,
        cache_dir=cache_dir,
        download=False,
        batch_size=BATCH,
        val_fraction=0,
        augment="light",
    )
    data.prepare()
    for step, batch in enumerate(data.train_dataloader()):
        data.transform.train_batch(batch, epoch=0, step=step)
        if not epoch:
            break
    return time.perf_counter() - start


def torchvisions(root: str, workers: int, epoch: bool, trusted: bool) -> float:
    import torch
    from torch.utils.data import DataLoader
    from torchvision.datasets import CIFAR10
    from torchvision.transforms import v2

    class Unchecked(CIFAR10):
        """Files that were packed again have other md5 sums. Not checking them saves the peer time."""

        def _check_integrity(self) -> bool:
            return True

        def _load_meta(self) -> None:
            pass

    start = time.perf_counter()
    crop_flip = [v2.RandomCrop(32, padding=4), v2.RandomHorizontalFlip()]
    transform = v2.Compose([v2.ToImage(), *crop_flip, v2.ToDtype(torch.float32, scale=True), v2.Normalize(MEAN, STD)])
    data = (CIFAR10 if trusted else Unchecked)(root, train=True, transform=transform)
    persistent = workers > 0
    loader = DataLoader(
        data, batch_size=BATCH, shuffle=True, drop_last=True, num_workers=workers, persistent_workers=persistent
    )
    for _ in loader:
        if not epoch:
            break
    return time.perf_counter() - start


def pack(npz: Path, root: Path) -> None:
    """Write torchvision's layout, batches pickled with protocol 2 as the published ones."""
    folder = root / "cifar-10-batches-py"
    folder.mkdir(parents=True)
    with np.load(npz) as data:
        order = np.random.RandomState(0).permutation(len(data["x_train"]))  # stored class by class
        sets = {f"data_batch_{i + 1}": (data["x_train"][part], data["y_train"][part]) for i, part in
                enumerate(np.split(order, 5))}  # fmt: skip
        sets["test_batch"] = (data["x_test"], data["y_test"])
    for name, (image, label) in sets.items():
        batch = {"data": image.transpose(0, 3, 1, 2).reshape(len(image), -1), "labels": label.tolist()}
        (folder / name).write_bytes(pickle.dumps(batch, protocol=2))


def measure(which: str, root: Path, cache: Path, *, workers: int, epoch: bool, trusted: bool) -> float:
    """Run one measurement in a fresh process and return its seconds."""
    options = {"root": str(root), "cache": str(cache), "workers": workers, "epoch": epoch, "trusted": trusted}
    command = [sys.executable, __file__, "--child", which, "--options", json.dumps(options)]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()[-1])


def child(which: str, options: dict[str, Any]) -> float:
    import torch

    torch.set_num_threads(1)
    if which == "ours":
        return ours(options["root"], options["cache"], options["epoch"])
    return torchvisions(options["root"], options["workers"], options["epoch"], options["trusted"])


def row(what: str, ours_s: list[float], theirs_s: list[float], workers: int) -> dict[str, Any]:
    mine, peer = statistics.median(ours_s), statistics.median(theirs_s)
    return {
        "what": what,
        "cct_lightning, s": round(mine, 4),
        f"torchvision, {workers} workers, s": round(peer, 3),
        "times faster": round(peer / mine, 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--npz", type=Path, help="cifar10.npz, from which torchvision's layout is written")
    parser.add_argument("--root", type=Path, help="folder that holds the published cifar-10-batches-py")
    parser.add_argument("--workers", type=int, default=2, help="torchvision's DataLoader workers")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--child", help=argparse.SUPPRESS)
    parser.add_argument("--options", type=json.loads, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        print(child(args.child, args.options))
        return
    if (args.npz is None) == (args.root is None):
        parser.error("give --npz or --root")
    from benchmarks.report import conditions, write

    told = conditions("torch", "torchvision", "numpy", "safetensors")
    with tempfile.TemporaryDirectory() as temporary:
        root, cache = args.root, Path(temporary) / "cache"
        if root is None:
            root = Path(temporary) / "root"
            pack(args.npz, root)
        options = {"workers": args.workers, "trusted": args.root is not None}
        building = measure("ours", root, cache, epoch=False, **options)
        rows = []
        for what, epoch in (("CIFAR-10 from cache to first batch", False), ("CIFAR-10, one epoch of batches", True)):
            mine, theirs = [], []
            for _ in range(args.repeats):
                mine.append(measure("ours", root, cache, epoch=epoch, **options))
                theirs.append(measure("torchvision", root, cache, epoch=epoch, **options))
            rows.append(row(what, mine, theirs, args.workers))
    checked = "checks its md5 sums" if args.root else "is spared its md5 check, since the files were packed again"
    notes = (
        f"CIFAR-10, batches of {BATCH}, crop with padding 4, flip, normalize. From the cache of decoded images, which "
        f"the very first start builds once in {building:.1f} s, against torchvision's CIFAR10 and DataLoader, which "
        f"{checked}. Every measurement is a fresh process with one thread (and torchvision's workers), imports "
        f"excluded; interleaved; medians of {args.repeats}."
    )
    print(write("data_loading", "From disk to batches", notes, rows, told))


if __name__ == "__main__":
    main()
