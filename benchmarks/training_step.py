"""Training step and forward pass of CCT beside vit-pytorch's.

    python benchmarks/training_step.py                   (about 10 minutes on 2 cores)
    python benchmarks/training_step.py --repeats 3
    python benchmarks/training_step.py --device cuda     (results/training_step_gpu.md)

Every model has its own process with its own memory; all are measured in turns, and medians are compared. Both sides
have the same numbers and the same dropout (attention 0.1, stochastic depth 0.1). A training step is forward,
cross-entropy, backward and AdamW, on a batch in memory. The peer is what its user runs: eager float32 on a CPU, eager
under autocast on a GPU. What each part brings on a CPU: benchmarks/cpu_parts.py.
"""

import argparse
import dataclasses
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.report import conditions, write
from cct_lightning.commands.benchmark import measure
from cct_lightning.commands.benchmark_model import Case
from cct_lightning.training.precision import best_precision

# What is asked of our step in the peer's precision, of our best step and of our best forward pass, in times of its.
ASKED: dict[str, dict[tuple[str, int], tuple[float | None, float | None, float | None]]] = {
    "cpu": {("cct_2_3x2", 128): (1.5, 3.0, None), ("cct_7_3x1", 64): (None, 2.0, 2.0)},
    "cuda": {
        ("cct_2_3x2", 1024): (None, None, None),
        ("cct_7_3x1", 128): (None, 3.0, None),
        ("cct_7_3x1", 1024): (None, 3.0, None),
    },
}


def compare(arch: str, batch_size: int, *, device: str, repeats: int) -> list[dict[str, Any]]:
    """Measure ours as the peer is run, and at its best, against the peer, and return the rows of the table."""
    peer = Case(
        maker="vit-pytorch",
        arch=arch,
        img_size=32,
        batch_size=batch_size,
        precision=best_precision(device) if device == "cuda" else "32-true",
        compile=False,
        device=device,
    )
    plain = dataclasses.replace(peer, maker="ours")
    best = dataclasses.replace(plain, precision=best_precision(device), compile=device == "cuda")
    theirs, alike, ours = measure([peer, plain, best], repeats=repeats)
    asked, name = ASKED[device][arch, batch_size], "float32" if peer.precision == "32-true" else peer.precision
    rows = []
    for what, found, goal in (
        ("training step", alike, asked[0]),
        ("training step", ours, asked[1]),
        ("forward", alike, None),
        ("forward", ours, asked[2]),
    ):
        job = "train" if what == "training step" else "forward"
        mine, peers = found[f"{job}_images_per_s"], theirs[f"{job}_images_per_s"]
        rows.append(
            {
                "what": f"{what}, {arch}, batch {batch_size}",
                "our precision": found["precision"] + (", compiled" if found["compile"] else ""),
                "cct_lightning, images/s": round(mine, 1),
                f"vit-pytorch {name}, images/s": round(peers, 1),
                "times": round(mine / peers, 2),
                "asked": goal or "",
                # Of one large product in the same precision.
                "share of the matrix rate": f"{found['utilization']:.0%}" if job == "train" else "",
            }
        )
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=9, help="turns")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--arch", choices=("cct_2_3x2", "cct_7_3x1"), help="one model alone")
    args = parser.parse_args()
    told = conditions("torch", "vit-pytorch", device=args.device)
    rows = []
    for arch, batch_size in ASKED[args.device]:
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
