"""How long `cct compare` takes for many run folders: a real run's files, copied with other seeds, options and scores.

    cct fit --config digits --run_dir RUN --trainer.max_epochs 2 --model.optim.warmup_epochs 1
    python benchmarks/compare.py RUN [--runs 1000]
"""  # fmt: skip

import argparse
import json
import random
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import yaml

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.report import conditions, write


def write_runs(source: Path, target: Path, count: int) -> None:
    """Write run folders of 50 variants that differ in three options.

    Args:
        source: A run folder with config.yaml and summary.json.
        target: Where to write.
        count: How many.
    """
    config = yaml.safe_load((source / "config.yaml").read_text())
    summary = json.loads((source / "summary.json").read_text())
    chance = random.Random(0)
    for i in range(count):
        seed, variant = divmod(i, 50)
        config["seed_everything"] = seed
        config["model"]["arch"] = ("cct_2_3x1", "cct_2_3x2", "cvt_2_2", "vit_2_2", "cct_4_3x1")[variant % 5]
        config["model"]["attn_drop"] = (0.0, 0.1, 0.2, 0.3, 0.4)[variant // 5 % 5]
        config["data"]["batch_size"] = (32, 64)[variant // 25]
        summary["test/acc"] = chance.gauss(0.9 + variant / 1000, 0.01)
        folder = target / f"{variant}" / f"{seed}"
        folder.mkdir(parents=True)
        (folder / "config.yaml").write_text(yaml.safe_dump(config, sort_keys=False))
        (folder / "summary.json").write_text(json.dumps(summary, indent=2))
        (folder / "metrics.csv").write_text("epoch,step,val/acc\n0,9,0.5\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path, help="a finished run folder")
    parser.add_argument("--runs", type=int, default=1000)
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    told = conditions("pandas", "pyyaml")
    with tempfile.TemporaryDirectory() as folder:
        write_runs(options.run, Path(folder), options.runs)
        seconds = []
        for _ in range(options.repeats):
            began = time.perf_counter()
            command = [sys.executable, "-m", "cct_lightning", "compare", folder, "--format=csv"]
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            seconds.append(time.perf_counter() - began)
        variants = len(done.stdout.splitlines()) - 1
    row = {
        "what": f"{options.runs} runs of {variants} variants",
        "cct compare, s": round(statistics.median(seconds), 2),
        "asked": "below 5",
    }
    notes = f"The whole command, start of Python included; median of {options.repeats}."
    print(write("compare", "Comparing many runs", notes, [row], told))


if __name__ == "__main__":
    main()
