"""What `cct ablate` costs beside the same runs started by hand, as many at a time: wall time, all included.

    python benchmarks/ablate.py [--epochs 10] [--repeats 3]
"""  # fmt: skip

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.report import conditions, write
from cct_lightning.ablation.engine import cores, divide
from cct_lightning.ablation.grid import expand, find_grid, override, read_grid

CCT = [sys.executable, "-m", "cct_lightning"]


def by_hand(commands: list[list[str]], *, concurrency: int, threads: int) -> float:
    """Run commands, some at a time.

    Args:
        commands: Words of each.
        concurrency: How many at a time.
        threads: CPU threads of each.

    Returns:
        Wall time in seconds.
    """
    variables = {**os.environ, "OMP_NUM_THREADS": str(threads)}
    began = time.perf_counter()
    with ThreadPoolExecutor(concurrency) as pool:
        list(pool.map(lambda words: subprocess.run(words, env=variables, check=True, capture_output=True), commands))
    return time.perf_counter() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--grid", default="digits")
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    told = conditions("torch", "pytorch-lightning", "ray")
    settings = [f"trainer.max_epochs={options.epochs}", "model.optim.warmup_epochs=1", "tracking.mode=offline"]
    runs = expand(override(read_grid(find_grid(options.grid)), settings))
    share = divide(cpus=cores(), gpus=0, runs=len(runs))
    plain, engine = [], []
    for repeat in range(options.repeats):
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            commands = [[*CCT, "fit", *run.arguments, f"--run_dir={folder / 'plain' / run.name}"] for run in runs]
            ours = [*CCT, "ablate", options.grid, f"--out={folder}", "--set", *settings, "--gpus_per_run=0"]
            plain.append(by_hand(commands, concurrency=share.concurrency, threads=share.cpus))
            engine.append(by_hand([ours], concurrency=1, threads=share.cpus))
        print(f"repeat {repeat + 1}: by hand {plain[-1]:.1f} s, cct ablate {engine[-1]:.1f} s", flush=True)
    cost = statistics.median(e - p for e, p in zip(engine, plain, strict=True))
    row = {
        "what": f"{len(runs)} runs of {options.epochs} epochs, {share.concurrency} at a time",
        "by hand, s": round(statistics.median(plain), 1),
        "cct ablate, s": round(statistics.median(engine), 1),
        "difference, s": round(cost, 1),
        "asked": "below 15",
    }
    notes = (
        f"The grid `{options.grid}`: each run is a `cct fit` in a process of its own, started by hand or by "
        f"`cct ablate`; wall time, everything included; in turns, medians of {options.repeats}."
    )
    print(write("ablate", "What the engine costs", notes, [row], told))


if __name__ == "__main__":
    main()
