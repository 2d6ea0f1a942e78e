"""What `cct fit` costs over the bare training step on a batch in memory: loader, augmentation, metrics, checkpoints.

    python benchmarks/fit_overhead.py --root CIFAR10      (a folder train/CLASS/*.png of 32x32 color images)
    python benchmarks/fit_overhead.py --root CIFAR10 --device cuda --arch cct_7_3x1 --batch 512 --steps 80

On a CPU in float32; on a GPU in bfloat16 and compiled, the step and `cct fit` alike.
"""  # fmt: skip

import argparse
import csv
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

RATE = "train/images_per_s"


def bare(arch: str, batch: int, steps: int, device: str) -> float:
    """Return images per second of forward, backward and optimizer step on one batch that stays in memory."""
    from cct_lightning.training.memory import keep_freed_memory
    from cct_lightning.training.module import Classifier
    from cct_lightning.training.optim import Optim
    from cct_lightning.training.optim.optimizers import build_optimizer

    keep_freed_memory()
    torch.manual_seed(0)
    net = Classifier(arch=arch).net.train().to(device)
    if device == "cuda":
        net.compile()
    optimizer = build_optimizer(net, Optim(), global_batch_size=batch)
    images, labels = torch.randn(batch, 3, 32, 32, device=device), torch.randint(10, (batch,), device=device)
    began = time.perf_counter()
    for step in range(steps + 5):
        if step == 5:  # the first steps compile, and fill caches
            wait(device)
            began = time.perf_counter()
        optimizer.zero_grad()
        with torch.autocast(device, torch.bfloat16, enabled=device == "cuda", cache_enabled=False):
            loss = torch.nn.functional.cross_entropy(net(images), labels, label_smoothing=0.1)
        loss.backward()
        optimizer.step()
    wait(device)
    return steps * batch / (time.perf_counter() - began)


def wait(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()


def fit(arch: str, batch: int, steps: int, root: Path, augment: str, device: str) -> float:
    """Return images per second of the second epoch of `cct fit`."""
    with tempfile.TemporaryDirectory() as folder:
        words = f"--data.name folder --data.batch_size {batch} --data.augment {augment} --model.arch {arch}".split()
        words += f"--trainer.max_epochs 2 --trainer.limit_train_batches {steps} --trainer.limit_val_batches 1".split()
        words += f"--model.optim.warmup_epochs 0 --test_best false --data.root {root} --run_dir {folder}/run".split()
        words += ["--trainer.accelerator", device]
        words += ["--trainer.precision=bf16-mixed", "--model.compile=true"] if device == "cuda" else []
        subprocess.run([sys.executable, "-m", "cct_lightning", "fit", *words], check=True, stdout=subprocess.DEVNULL)
        with (Path(folder) / "run" / "metrics.csv").open(newline="") as file:
            return [float(row[RATE]) for row in csv.DictReader(file) if row[RATE]][-1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=Path, help="folder of images, train/CLASS/*.png", required=True)
    parser.add_argument("--arch", default="cct_2_3x2")
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--bare", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.bare:
        print(bare(args.arch, args.batch, args.steps, args.device))
        return
    from benchmarks.report import conditions, write

    told = conditions("torch", "pytorch-lightning", "wandb", device=args.device)
    steps: list[float] = []
    fits: dict[str, list[float]] = {"light": [], "timm": []}
    for _ in range(args.repeats):
        done = subprocess.run([sys.executable, *sys.argv, "--bare"], check=True, capture_output=True, text=True)
        steps.append(float(done.stdout.split()[-1]))
        for augment, speeds in fits.items():
            speeds.append(fit(args.arch, args.batch, args.steps, args.root, augment, args.device))
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
        f"{args.arch}, batch {args.batch}, {'bf16-mixed, compiled' if args.device == 'cuda' else 'float32'}, W&B "
        f"offline; the second epoch of `cct fit`, of {args.steps} steps, timed from its start to its last batch, "
        "beside the bare step of the same model and optimizer on one batch in memory; each in its own process, "
        f"interleaved, medians of {args.repeats}."
    )
    print(write("fit_overhead", "cct fit over the bare step", notes, rows, told))


if __name__ == "__main__":
    main()
