"""`cct benchmark`: images per second of a model, forward and in training, beside a peer's, on this machine."""

import dataclasses
import math
import statistics
from contextlib import ExitStack, closing
from datetime import datetime, timezone
from typing import Any, Literal

import torch
from rich.console import Console
from rich.table import Table

from cct_lightning.commands.benchmark_model import Case, Model, build, count_flops
from cct_lightning.errors import InputError
from cct_lightning.models.arch import parse_arch
from cct_lightning.runs.environment import environment
from cct_lightning.system.atomic import write_json
from cct_lightning.system.importing import require_extra
from cct_lightning.system.places import local_path
from cct_lightning.training.checks import check_compiler
from cct_lightning.training.precision import best_precision, check_precision

JOBS = ("train", "forward", "matmul")
_BLOCK = 0.5  # seconds that a block of repetitions takes at least: clock and queue do not count in it
_WARM_UPS = 3


def measure(cases: list[Case], *, repeats: int) -> list[dict[str, Any]]:
    """Measure models in turns, and return the medians over `repeats` turns.

    Returns:
        For each case its fields and: `params`, `train_images_per_s`, `forward_images_per_s`, `train_gflops` (per
        second), `matmul_gflops` (per second, of one large product in the case's precision), `utilization` (the one
        over the other), `peak_memory_mib` (of training and forward), and the seconds of every turn.
    """
    seconds: list[dict[str, list[float]]] = [{job: [] for job in JOBS} for _ in cases]
    with ExitStack() as stack:
        models = [stack.enter_context(closing(Model(case))) for case in cases]
        facts = [model.facts for model in models]
        for model in models:
            model.time("train", _WARM_UPS)
            model.time("forward", _WARM_UPS)
        # Before the large matrix product, whose memory is not the model's.
        memory = [model.peak_memory() for model in models]
        counts = [{job: max(1, math.ceil(_BLOCK / model.time(job))) for job in JOBS} for model in models]
        # Job after job: the first steps after another job find other memory free, as in no training run.
        for job in JOBS:
            for _ in range(repeats):
                for model, count, found in zip(models, counts, seconds, strict=True):
                    found[job].append(model.time(job, count[job]))
    rows = []
    for case, found, fact, peak in zip(cases, seconds, facts, memory, strict=True):
        median = {job: statistics.median(times) for job, times in found.items()}
        row = {
            **dataclasses.asdict(case),
            "params": fact["params"],
            "train_images_per_s": case.batch_size / median["train"],
            "forward_images_per_s": case.batch_size / median["forward"],
            "train_gflops": count_flops(case)["train"] / median["train"] / 1e9,
            "matmul_gflops": fact["matmul_flops"] / median["matmul"] / 1e9,
        }
        row["utilization"] = row["train_gflops"] / row["matmul_gflops"]
        rows.append({**row, "peak_memory_mib": None if peak is None else peak / 2**20, "seconds": found})
    return rows


def benchmark(
    *,
    arch: str = "cct_7_3x1",
    batch_size: int = 64,
    img_size: int | None = None,
    precision: Literal["32-true", "bf16-mixed", "16-mixed"] | None = None,
    compile: bool = False,
    peer: Literal["vit-pytorch", "timm"] | None = None,
    peer_precision: Literal["32-true", "bf16-mixed", "16-mixed"] | None = None,
    device: Literal["auto", "cpu", "cuda"] = "auto",
    repeats: int = 10,
    json: str | None = None,
) -> dict[str, Any]:
    """Measure images per second of a model, forward and in training, beside a peer's.

    Args:
        arch: Name of the model; see `cct models`.
        batch_size: Images a step.
        img_size: Height and width of the images in pixels. Default: that of the model's name.
        precision: 32-true, bf16-mixed or 16-mixed. Default: the fastest that the device has.
        compile: Compile our model with torch.compile.
        peer: vit-pytorch (its CCT, with the same numbers) or timm (which has no CCT: its VisionTransformer with as many
            tokens and the same width, depth, heads and rates of dropout).
        peer_precision: Precision of the peer. Default: the same.
        device: cpu, cuda, or auto: a GPU where there is one.
        repeats: Turns, in which all are measured one after the other; medians are printed.
        json: File for all numbers, every turn's seconds included.

    Returns:
        What the file holds.

    Raises:
        InputError: An option out of its range, or a device, precision, compiler or package that is missing.
    """
    if peer is not None:
        require_extra(*(("timm", "timm") if peer == "timm" else ("benchmark", "vit_pytorch")), purpose=f"--peer {peer}")
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    if device == "cuda" and not torch.cuda.is_available():
        raise InputError("There is no CUDA device: use --device cpu.")
    for name, value in (("batch_size", batch_size), ("repeats", repeats), ("img_size", img_size)):
        if value is not None and value < 1:
            raise InputError(f"--{name} is {value}: it must be at least 1.")
    target = None if json is None else local_path(json)
    if target is not None and not target.parent.is_dir():
        raise InputError(f"No folder {target.parent} for --json: make it first, or choose another.")
    chosen = precision or best_precision(device)
    for name in (chosen, peer_precision or chosen):
        check_precision(name, device_type=device)
    if compile:
        check_compiler(device)
    size = img_size or parse_arch(arch).img_size[0]
    ours = Case(
        maker="ours", arch=arch, img_size=size, batch_size=batch_size, precision=chosen, compile=compile, device=device
    )
    cases = [ours]
    if peer is not None:
        cases.append(dataclasses.replace(ours, maker=peer, precision=peer_precision or chosen, compile=False))
    for case in cases:
        build(case)  # errors of building come before any work
    rows = measure(cases, repeats=repeats)
    now = datetime.now(timezone.utc).isoformat(timespec="seconds")
    result: dict[str, Any] = {"date": now, "environment": environment(), "models": rows}
    if peer is not None:
        result["times_the_peer"] = {
            job: rows[0][f"{job}_images_per_s"] / rows[1][f"{job}_images_per_s"] for job in ("train", "forward")
        }
    _print(result, repeats=repeats)
    if target is not None:
        write_json(target, result)
    return result


def _print(result: dict[str, Any], *, repeats: int) -> None:
    rows, where = result["models"], result["environment"]
    hardware = ", ".join(where["gpus"]) if rows[0]["device"] == "cuda" else where["cpu"]
    threads = "" if rows[0]["device"] == "cuda" else f", {where['cpu_threads']} threads"
    table = Table(
        title=f"{rows[0]['arch']}, {rows[0]['img_size']} pixels, batch {rows[0]['batch_size']}: {hardware}{threads}",
        caption=f"Medians of {repeats} turns. Last but one: share of the rate of a large matrix product.",
    )
    table.add_column("model")
    table.add_column("precision")
    for column in ("training\nimages/s", "forward\nimages/s", "training\nGFLOP/s", "of\nmatmul", "peak\nMiB"):
        table.add_column(column, justify="right")
    for row in rows:
        name = {"ours": "ours", "timm": "timm ViT"}.get(row["maker"], row["maker"])
        memory = row["peak_memory_mib"]
        table.add_row(
            name + (", compiled" if row["compile"] else ""),
            row["precision"],
            f"{row['train_images_per_s']:,.1f}",
            f"{row['forward_images_per_s']:,.1f}",
            f"{row['train_gflops']:,.0f}",
            f"{row['utilization']:.0%}",
            "?" if memory is None else f"{memory:,.0f}",
        )
    console = Console()
    console.print(table)
    if "times_the_peer" in result:
        times = result["times_the_peer"]
        console.print(f"{times['train']:.2f} times the peer in training, {times['forward']:.2f} times forward.")
