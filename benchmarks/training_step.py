"""Training step and forward pass of CCT beside vit-pytorch's, whose user runs eager float32.

    python benchmarks/training_step.py                   (about 10 minutes on 2 cores)
    python benchmarks/training_step.py --repeats 3

Every model has its own process with its own memory; all are measured in turns, and medians are compared. Both sides
have the same numbers and the same dropout (attention 0.1, stochastic depth 0.1). A training step is forward,
cross-entropy, backward and AdamW, on a batch in memory. What each part brings: benchmarks/cpu_parts.py.
"""

import argparse
import dataclasses
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.report import conditions, write
from cct_lightning.benchmark import measure
from cct_lightning.benchmark_case import Case
from cct_lightning.training.precision import best_precision

# Issue 5: what is asked of our float32 step, our best step and our best forward pass, in times of the peer's.
ASKED = {("cct_2_3x2", 128): (1.5, 3.0, None), ("cct_7_3x1", 64): (None, 2.0, 2.0)}


def compare(arch: str, batch_size: int, *, device: str, repeats: int) -> list[dict[str, Any]]:
    """Measure float32 and the best precision against the peer's float32, and return the rows of the table."""
    peer = Case(
        maker="vit-pytorch",
        arch=arch,
        img_size=32,
        batch_size=batch_size,
        precision="32-true",
        compile=False,
        device=device,
    )
    plain = dataclasses.replace(peer, maker="ours")
    best = dataclasses.replace(plain, precision=best_precision(device))
    theirs, float32, ours = measure([peer, plain, best], repeats=repeats)
    asked = ASKED.get((arch, batch_size), (None, None, None))
    rows = []
    for what, found, goal in (
        ("training step", float32, asked[0]),
        ("training step", ours, asked[1]),
        ("forward", float32, None),
        ("forward", ours, asked[2]),
    ):
        job = "train" if what == "training step" else "forward"
        mine, peers = found[f"{job}_images_per_s"], theirs[f"{job}_images_per_s"]
        rows.append(
            {
                "what": f"{what}, {arch}, batch {batch_size}",
                "our precision": found["precision"],
                "cct_lightning, images/s": round(mine, 1),
                "vit-pytorch float32, images/s": round(peers, 1),
                "times": round(mine / peers, 2),
                "asked": goal or "",
            }
        )
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=9, help="turns")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--arch", choices=[arch for arch, _ in ASKED], help="one of the two models alone")
    args = parser.parse_args()
    told = conditions("torch", "vit-pytorch")
    rows = []
    for arch, batch_size in ASKED:
        if args.arch in (None, arch):
            rows += compare(arch, batch_size, device=args.device, repeats=args.repeats)
    notes = (
        "Same numbers, same dropout (attention 0.1, stochastic depth 0.1); forward, cross-entropy, backward and AdamW "
        f"on a batch in memory. Each model in its own process, in turns; medians of {args.repeats} turns. Our process "
        "keeps freed memory, as `cct fit` does."
    )
    print(write("training_step", "Training step and forward pass beside vit-pytorch", notes, rows, told))


if __name__ == "__main__":
    main()
