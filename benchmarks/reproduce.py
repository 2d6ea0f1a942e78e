"""The published ladder from ViT-Lite to CCT, by the shipped recipes, in as many sittings as it takes.

    python benchmarks/reproduce.py --rows cct_2_3x2 cct_7_3x1 --seeds 0 1 2       (downloads CIFAR-10)
    python benchmarks/reproduce.py --minutes 9 --state ladder.tgz                  (again and again, anywhere)
    python benchmarks/reproduce.py --table                  (write results/ladder.md; rows run elsewhere stay in it)

Every run is a `cct fit` of its own below --work, which continues where it was. With --minutes the sitting ends in time:
the run that is on saves itself in mid-epoch and stops. With --state everything that the next sitting needs is in one
file, read at the start and written at the end: under 60 MB (56 of CCT-7/3x1), since finished runs leave their numbers
alone, and of the others there is one at a time. The best epoch is chosen on held-out training images, and tested once;
a run on all images tests its last.
"""  # fmt: skip

import argparse
import dataclasses
import json
import shlex
import signal
import statistics
import subprocess
import sys
import tarfile
import tempfile
import time
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.report import RESULTS, conditions, write

NUMBERS = ("config.yaml", "summary.json", "metrics.csv", "environment.json")


@dataclasses.dataclass(frozen=True)
class Row:
    """One line of the table.

    Attributes:
        model: As the paper calls it.
        options: Of `cct fit`, without data and seed.
        published: Top-1 accuracy in percent; None: of this recipe nothing is published.
        data: `cifar10` or `mnist`.
    """

    model: str
    options: tuple[str, ...]
    published: float | None
    data: str = "cifar10"


_BF16 = "--trainer.precision=bf16-mixed"


def _basic(arch: str, *more: str) -> tuple[str, ...]:
    return ("--config=cifar10_basic", f"--model.arch={arch}", _BF16, *more)


_50_EPOCHS = _basic("cct_2_3x2", "--trainer.max_epochs=50")
# The augmentation of the reference's early script.
_NO_CROP = "--data.augment={auto: autoaugment, auto_first: true, hflip: 0.5, fill: 128}"

ROWS = {
    "vit_7_4": Row("ViT-Lite-7/4", _basic("vit_7_4"), 91.38),
    "cvt_7_4": Row("CVT-7/4", _basic("cvt_7_4"), 92.43),
    "cct_2_3x2": Row("CCT-2/3x2", _basic("cct_2_3x2"), 89.17),
    "cct_2_3x2_all": Row("CCT-2/3x2, all 50,000 images", _basic("cct_2_3x2", "--data.val_fraction=0"), 89.17),
    "cct_2_3x2_no_crop": Row("CCT-2/3x2, no crop", _basic("cct_2_3x2", _NO_CROP), 89.17),
    "cct_7_3x2": Row("CCT-7/3x2", _basic("cct_7_3x2"), 93.83),
    "cct_7_3x1": Row("CCT-7/3x1", _basic("cct_7_3x1"), 94.78),
    "cct_7_3x1_300": Row("CCT-7/3x1", ("--config=cifar10", _BF16), 96.53),
    "cifar10_fast": Row("CCT-7/3x1", ("--config=cifar10_fast",), None),
    "cifar10_best": Row("CCT-7/3x1", ("--config=cifar10_best",), None),
    "cifar10_cpu": Row("CCT-2/3x2", ("--config=cifar10_cpu",), None),
    "cifar10_cpu_50": Row(
        "CCT-2/3x2, Muon", ("--config=cifar10_cpu", "--trainer.max_epochs=50", "--data.augment=basic"), None
    ),
    # What a CPU can give in about an hour each.
    "vit_2_4_cpu": Row("ViT-Lite-2/4, 50 epochs", _basic("vit_2_4", "--trainer.max_epochs=50"), None),
    "cct_2_3x2_cpu": Row("CCT-2/3x2, 50 epochs", _50_EPOCHS, None),
    # What may lie between a published value and ours, one by one.
    "cct_2_3x2_cpu_f32": Row(
        "CCT-2/3x2, 50 epochs, float32",
        ("--config=cifar10_basic", "--model.arch=cct_2_3x2", "--trainer.precision=32-true", "--trainer.max_epochs=50"),
        None,
    ),
    "cct_2_3x2_cpu_dropout": Row("CCT-2/3x2, 50 epochs, dropout", (*_50_EPOCHS, "--model.proj_drop=0.1"), None),
    "cct_2_3x2_cpu_no_crop": Row("CCT-2/3x2, 50 epochs, no crop", (*_50_EPOCHS, _NO_CROP), None),
    "mnist_cpu": Row("CCT-2/3x2", ("--config=mnist", _BF16), 99.7, "mnist"),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--root", type=Path, help="folder with cifar10/ and mnist/, each as downloaded or train/CLASS/*.png"
    )
    parser.add_argument("--work", type=Path, default=Path("runs/ladder"), help="where the run folders lie")
    parser.add_argument("--rows", nargs="+", choices=ROWS, default=[name for name in ROWS if "_cpu" not in name])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--minutes", type=float, default=float("inf"), help="length of the sitting")
    parser.add_argument("--state", type=Path, help="file that carries the runs from one sitting to the next")
    parser.add_argument("--set", nargs="+", default=[], metavar="KEY=VALUE", help="more options of cct fit")
    parser.add_argument("--table", action="store_true", help="train nothing, write results/ladder.md")
    options = parser.parse_args()
    deadline = time.monotonic() + 60 * options.minutes
    options.work.mkdir(parents=True, exist_ok=True)  # a short sitting may end before its run makes a folder
    if options.state and options.state.exists():
        unpack(options.state, options.work)
    plan = [(name, seed) for name in options.rows for seed in options.seeds]
    failed = False
    for name, seed in [] if options.table else plan:
        row = ROWS[name]
        data = [f"--data.root={(options.root / row.data).absolute()}"] if options.root else []
        if options.root and (options.root / row.data / "train").is_dir():
            data.append("--data.name=folder")
        folder = options.work / f"{name}-{seed}"
        if read(folder).get("status") == "finished":
            continue
        words = [*row.options, f"--seed_everything={seed}", *data, *(f"--{item}" for item in options.set)]
        code = train([*words, f"--run_dir={folder}"], deadline)
        # The signal may come before the run listens to it, or when it is done.
        failed = code not in (0, 128 + signal.SIGTERM, -signal.SIGTERM)
        if code:
            break
    if options.state and not options.table:
        size = pack(options.work, options.state)
        print(f"{options.state}: {size / 1e6:.1f} MB")
    if options.table:
        told = conditions("torch", "pytorch-lightning")
        rows = table(options.work, earlier(RESULTS / "ladder.json"))
        print(write("ladder", "The published ladder, by the shipped recipes", NOTES, rows, told))
    else:
        for found in table(options.work, {}):
            print(f"{found['model']}, {found['data']}: {found['ours, %']}")
    sys.exit(1 if failed else 0)


def train(words: list[str], deadline: float) -> int:
    """Run `cct fit` until it ends or the time is up; return its exit code."""
    print("cct fit", *words, flush=True)
    process = subprocess.Popen([sys.executable, "-m", "cct_lightning", "fit", "--tracking.mode=disabled", *words])
    try:
        return process.wait(None if deadline == float("inf") else max(1.0, deadline - time.monotonic()))
    except (subprocess.TimeoutExpired, KeyboardInterrupt):
        process.send_signal(signal.SIGTERM)
        return process.wait() or 128 + signal.SIGTERM


def read(folder: Path) -> dict[str, Any]:
    """Return a run's summary; empty where there is none."""
    path = folder / "summary.json"
    return json.loads(path.read_text()) if path.is_file() else {}


def pack(work: Path, state: Path) -> int:
    """Write the runs into one file: the numbers of all, and of those that are not finished what they continue from.

    Returns:
        Its size in bytes.
    """
    partial = state.with_name(f".{state.name}.part")
    with tarfile.open(partial, "w:gz") as archive, tempfile.TemporaryDirectory() as scratch:
        for folder in sorted(path for path in work.iterdir() if path.is_dir()):
            for name in NUMBERS:
                if (folder / name).is_file():
                    archive.add(folder / name, f"{folder.name}/{name}")
            if read(folder).get("status") == "finished":
                continue
            if (folder / "last.ckpt").is_file():
                archive.add(folder / "last.ckpt", f"{folder.name}/last.ckpt")
            if (folder / "best.ckpt").is_file():
                # It is tested, never continued: the moments of the optimizer, and what an average is of, stay behind.
                best = torch.load(folder / "best.ckpt", weights_only=True, map_location="cpu")
                best["optimizer_states"] = []
                best.pop("current_model_state", None)
                torch.save(best, Path(scratch) / "best.ckpt")
                archive.add(Path(scratch) / "best.ckpt", f"{folder.name}/best.ckpt")
    partial.replace(state)
    return state.stat().st_size


def unpack(state: Path, work: Path) -> None:
    """Lay the runs of a file below a folder; a run that has gone further there is left alone."""
    with tarfile.open(state) as archive:
        members = archive.getmembers()
        for run in sorted({member.name.split("/")[0] for member in members}):
            if not (work / run).exists():
                mine = [member for member in members if member.name.startswith(f"{run}/")]
                archive.extractall(work, members=mine, filter="data")


NOTES = (
    "Test accuracy of the epoch that was best on held-out training images (10 %), or, where all images are trained on, "
    "of the last; tested once; mean ± standard deviation over n seeds. Published: Hassani et al., arXiv 2104.05704, "
    "which trains on all images and gives the best of four runs (its repository's issue 3). What is not run is said to "
    "be, nothing is estimated. Minutes and images/s are those of the clock: tests ran beside some runs, or paused them."
)


def earlier(path: Path) -> dict[str, dict[str, Any]]:
    """Return the rows of a table that was written before, by their commands."""
    return {row["command"]: row for row in json.loads(path.read_text())["rows"]} if path.is_file() else {}


def table(work: Path, before: dict[str, dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the rows of the table; of what has not been run below `work`, those that were written before."""
    rows = []
    for name, row in ROWS.items():
        folders = [path for path in sorted(work.glob(f"{name}-[0-9]*")) if read(path).get("status") == "finished"]
        runs = [read(folder) for folder in folders]
        command = f"`cct fit {shlex.join(row.options)}`"
        if not runs and command in before:
            rows.append(before[command])
            continue
        accuracy = [100 * run["test/acc"] for run in runs]
        spread = f" ± {statistics.stdev(accuracy):.2f}" if len(accuracy) > 1 else ""
        rows.append(
            {
                "model": row.model,
                "data": row.data,
                "published, %": "" if row.published is None else row.published,
                "ours, %": f"{statistics.mean(accuracy):.2f}{spread} (n={len(accuracy)})" if runs else "not run",
                "epochs": runs[0]["epochs"] if runs else "",
                "minutes a run": round(statistics.mean(run["seconds"] for run in runs) / 60, 1) if runs else "",
                "images/s": round(statistics.mean(run["images_per_s"] for run in runs)) if runs else "",
                "machine": machine(folders[0]) if runs else "",
                "date": written(folders[-1] / "summary.json") if runs else "",
                "command": command,
            }
        )
    return rows


def written(path: Path) -> str:
    """Return the day when a file was written; a state file keeps it."""
    return datetime.fromtimestamp(path.stat().st_mtime, timezone.utc).date().isoformat()


def machine(folder: Path) -> str:
    """Say what a run ran on."""
    where = json.loads((folder / "environment.json").read_text())
    device = ", ".join(where["gpus"]) or f"{where['cpu']}, {where['cpu_threads']} threads"
    return f"{device}, torch {where['torch']}"


if __name__ == "__main__":
    main()
