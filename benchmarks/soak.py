"""Train for many short epochs on a CPU and watch memory and open files of the process: both must stay flat.

    python benchmarks/soak.py --epochs 200

A real `cct fit` on digits, with validation, checkpoints, metrics.csv and an offline W&B run; another process looks at
it after every epoch. The process that W&B keeps beside it is counted apart.
"""  # fmt: skip

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil
from report import conditions, write

_WARM_UP = 100  # epochs before those that count: allocators and caches fill, pictures are drawn for the first times
_BATCHES = 4  # an epoch: what leaks, leaks between epochs


def main() -> None:
    """Run, watch, and write the result."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--epochs", type=int, default=200, help="epochs that count, after the warm-up")
    parser.add_argument("--name", default="soak", help="name of the result's files")
    options = parser.parse_args()
    told = conditions("torch", "pytorch-lightning", "wandb")
    with tempfile.TemporaryDirectory() as folder:
        process, samples = watch(Path(folder), _WARM_UP + options.epochs)
    if process != 0 or len(samples) <= _WARM_UP + 20:
        sys.exit(f"the run ended with {process} after {len(samples)} samples")
    text = write(
        options.name, "Soak: memory and open files over many epochs", notes(options.epochs), rows(samples), told
    )
    print(text)
    if growth(samples, "rss") >= 1.0 or growth(samples, "files") > 0:
        sys.exit("memory or open files grow")


def watch(folder: Path, epochs: int) -> tuple[int, list[dict[str, float]]]:
    """Train, and take a sample after each epoch's checkpoint; return exit code and samples."""
    words = [
        "fit",
        "--config",
        "digits",
        "--run_dir",
        "run",
        f"--trainer.max_epochs={epochs}",
        "--tracking.mode=offline",
    ]
    words += [f"--trainer.limit_train_batches={_BATCHES}", "--model.ema_decay=0.99"]
    with (folder / "log.txt").open("w") as log:
        child = subprocess.Popen([sys.executable, "-m", "cct_lightning", *words], cwd=folder, stdout=log, stderr=log)
    process, last, samples = psutil.Process(child.pid), folder / "run" / "last.ckpt", list[dict[str, float]]()
    seen = 0
    while child.poll() is None:
        written = last.stat().st_mtime_ns if last.exists() else 0
        if written != seen:
            seen = written
            samples.append(sample(process))
        time.sleep(0.005)
    if child.returncode:
        print((folder / "log.txt").read_text()[-3000:], file=sys.stderr)
    return child.returncode, samples[:-1]  # the last may have come while the process ended


def sample(process: psutil.Process) -> dict[str, float]:
    """Return memory in MB and the numbers of open files and threads."""
    children = sum(child.memory_info().rss for child in process.children(recursive=True))
    return {
        "rss": process.memory_info().rss / 1e6,
        "files": len(os.listdir(f"/proc/{process.pid}/fd")),
        "threads": process.num_threads(),
        "wandb": children / 1e6,
    }


def settled(samples: list[dict[str, float]]) -> list[dict[str, float]]:
    """Return the samples after the warm-up."""
    return samples[_WARM_UP:]


def _quarters(samples: list[dict[str, float]]) -> list[list[dict[str, float]]]:
    samples = settled(samples)
    size = len(samples) // 4
    return [samples[i * size : (i + 1) * size] for i in range(4)]


def growth(samples: list[dict[str, float]], what: str) -> float:
    """Return the growth in percent, from the first to the last tenth after the warm-up (medians)."""
    after = settled(samples)
    tenth = max(1, len(after) // 10)
    first, last = (statistics.median(s[what] for s in part) for part in (after[:tenth], after[-tenth:]))
    return 100 * (last / first - 1)


def rows(samples: list[dict[str, float]]) -> list[dict[str, object]]:
    """Return a row for each quarter of the run, and one for the growth."""
    table: list[dict[str, object]] = []
    named = {"warm-up": samples[:_WARM_UP]} | {
        f"quarter {i}": part for i, part in enumerate(_quarters(samples), start=1)
    }
    for name, part in named.items():
        files = sorted({int(s["files"]) for s in part})
        table.append(
            {
                "part of the run": name,
                "memory, median MB": round(statistics.median(s["rss"] for s in part), 1),
                "memory, largest MB": round(max(s["rss"] for s in part), 1),
                "open files": f"{files[0]} to {files[-1]}",
                "threads, largest": int(max(s["threads"] for s in part)),
                "W&B's service, median MB": round(statistics.median(s["wandb"] for s in part), 1),
            }
        )
    grown = dict.fromkeys(table[0], "") | {
        "part of the run": "growth",
        "memory, median MB": f"{growth(samples, 'rss'):+.2f} %",
        "open files": f"{growth(samples, 'files'):+.2f} %",
        "W&B's service, median MB": f"{growth(samples, 'wandb'):+.2f} %",
    }
    return [*table, grown]


def notes(epochs: int) -> str:
    """Say what was done."""
    return (
        f"`cct fit --config digits` for {_WARM_UP} + {epochs} epochs of {_BATCHES} batches with validation, EMA, a "
        "checkpoint after each epoch and an offline W&B run, watched from outside after each checkpoint. Growth is "
        f"that of the median from the first to the last tenth of the {epochs} epochs after the warm-up."
    )


if __name__ == "__main__":
    main()
