"""What `cct fit` costs over the bare training step on a batch in memory: loader, augmentation, metrics, checkpoints.

python benchmarks/fit_overhead.py --root CIFAR10   (a folder train/CLASS/*.png of 32x32 color images)
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))


def bare(arch: str, batch: int, steps: int) -> float:
    """Return images per second of forward, backward and optimizer step on one batch that stays in memory."""
    import torch

    from cct_lightning.training.memory import keep_freed_memory
    from cct_lightning.training.module import Classifier
    from cct_lightning.training.optim import Optim, build_optimizer

    keep_freed_memory()
    torch.manual_seed(0)
    net = Classifier(arch=arch).net.train()
    optimizer = build_optimizer(net, Optim(), global_batch_size=batch)
    images, labels = torch.randn(batch, 3, 32, 32), torch.randint(10, (batch,))
    began = time.perf_counter()
    for step in range(steps + 5):
        if step == 5:  # the first steps fill caches
            began = time.perf_counter()
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(net(images), labels, label_smoothing=0.1).backward()
        optimizer.step()
    return steps * batch / (time.perf_counter() - began)


def fit(arch: str, batch: int, steps: int, root: Path, augment: str) -> float:
    """Return images per second that `cct fit` writes into its summary."""
    with tempfile.TemporaryDirectory() as folder:
        words = f"--data.name folder --data.batch_size {batch} --data.augment {augment} --model.arch {arch}".split()
        words += f"--trainer.max_epochs 1 --trainer.limit_train_batches {steps} --trainer.limit_val_batches 1".split()
        words += f"--model.optim.warmup_epochs 0 --test_best false --data.root {root} --run_dir {folder}/run".split()
        subprocess.run([sys.executable, "-m", "cct_lightning", "fit", *words], check=True, stdout=subprocess.DEVNULL)
        return float(json.loads((Path(folder) / "run" / "summary.json").read_text())["images_per_s"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=Path, help="folder of images, train/CLASS/*.png", required=True)
    parser.add_argument("--arch", default="cct_2_3x2")
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--bare", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.bare:
        print(bare(args.arch, args.batch, args.steps))
        return
    from benchmarks.report import conditions, write

    told = conditions("torch", "pytorch-lightning", "wandb")
    steps: list[float] = []
    fits: dict[str, list[float]] = {"light": [], "timm": []}
    for _ in range(args.repeats):
        done = subprocess.run([sys.executable, *sys.argv, "--bare"], check=True, capture_output=True, text=True)
        steps.append(float(done.stdout.split()[-1]))
        for augment, speeds in fits.items():
            speeds.append(fit(args.arch, args.batch, args.steps, args.root, augment))
    peer = statistics.median(steps)
    rows = [
        {
            "what": f"cct fit with augmentation {augment}",
            "cct fit, images/s": round(statistics.median(speeds)),
            "bare step, images/s": round(peer),
            "ratio": round(statistics.median(speeds) / peer, 3),
        }
        for augment, speeds in fits.items()
    ]
    notes = (
        f"{args.arch}, batch {args.batch}, float32, W&B offline; {args.steps} steps of `cct fit`, "
        "timed from the start of the epoch to its last batch, beside the bare step of the same model and optimizer on "
        f"one batch in memory; each in its own process, interleaved, medians of {args.repeats}."
    )
    print(write("fit_overhead", "cct fit over the bare step", notes, rows, told))


if __name__ == "__main__":
    main()
