"""What each part of CCT is worth, and what longer training buys, on CIFAR-10 with models that a CPU can train.

    python benchmarks/ablations.py                                   (all grids, about 12 hours of one core)
    python benchmarks/ablations.py --grids rates tokenizer_x_pool    (some of them; what is finished is not run again)
    python benchmarks/ablations.py --timed                           (seconds an epoch, alone on the machine)
    python benchmarks/ablations.py --shifts                          (shift test images: models of tokenizer_x_pool)
    python benchmarks/ablations.py --table                           (results/ablations.md and two figures of docs/)

Every grid of benchmarks/grids/ is a `cct ablate` of its own, which continues where it was; they are in the order of
their worth. `rates` chooses the rates on held-out training images. In all other grids held-out images choose the best
epoch, which is tested once.
"""  # fmt: skip

import argparse
import json
import math
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure
from scipy import optimize, stats

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.report import Rows, conditions, write
from cct_lightning.analysis.efficiency import TRAINING_MACS_PER_FORWARD, published_schedule
from cct_lightning.analysis.equivariance import shift_consistency, shift_error
from cct_lightning.analysis.style import Array, look, styled
from cct_lightning.comparison.runs import read_runs
from cct_lightning.comparison.statistics import Difference, deviation, difference, holm, mean
from cct_lightning.data.datamodule import ImageDataModule
from cct_lightning.runs.result import RunResult

HERE = Path(__file__).resolve().parent
DOCS = HERE.parent / "docs"
GRIDS = (
    "rates",
    "tokenizer_x_pool",
    "pool_and_position",
    "length_muon",
    "length_adamw",
    "larger",
    "few_images",
)
NAMES = {
    ("cvt_2_4", "class_token"): "ViT-Lite-2/4",
    ("cvt_2_4", "seqpool"): "CVT-2/4",
    ("cct_2_3x2", "class_token"): "CCT-2/3x2 with a class token",
    ("cct_2_3x2", "seqpool"): "CCT-2/3x2",
}
CURVES = {"CCT-2/3x2, Muon": "length_muon", "CCT-2/3x2, AdamW": "length_adamw", "CCT-4/3x2, Muon": "larger"}
# Of the same trainings, two epochs.
TIMED = {
    "length_muon": ("--config=cifar10_cpu",),
    "length_adamw": ("--config=cifar10_basic", "--model.arch=cct_2_3x2", "--trainer.precision=bf16-mixed"),
    "larger": ("--config=cifar10_cpu", "--model.arch=cct_4_3x2"),
}
TRAIN_IMAGES = 45_000  # a tenth of the 50,000 is held out
SHIFTS = (1, 2, 3, 4)  # pixels
PACKAGES = ("torch", "pytorch-lightning")
NOTES = (
    "CIFAR-10, 45,000 images to train on and 5,000 held out, recipe `cifar10_cpu` (Muon, bf16-mixed, batch 128) unless "
    "said; the images of the tests are touched once, by the epoch that was best on held-out images. Mean ± standard "
    "deviation over n seeds; differences are paired by seed, with Student's 95 % interval. MACs of a training: three "
    "times the forward pass of every image seen. Minutes are those of both cores, an epoch timed alone."
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, default=Path("runs/ablations"), help="where the run folders lie")
    parser.add_argument("--grids", nargs="+", choices=GRIDS, default=GRIDS)
    parser.add_argument("--set", nargs="+", default=[], metavar="KEY=VALUE", help="options of all runs: data.root=DATA")
    parser.add_argument("--timed", action="store_true", help="train two epochs each, for the time they take")
    parser.add_argument("--shifts", action="store_true", help="train nothing, shift test images")
    parser.add_argument("--table", action="store_true", help="train nothing, write tables and figures")
    options = parser.parse_args()
    data = ["--set", *options.set] if options.set else []
    if options.timed:
        for name, words in TIMED.items():
            words += ("--trainer.max_epochs=2", "--model.optim.warmup_epochs=0.1", "--test_best=false")
            words += (f"--run_dir={options.work / 'timed' / name}", *(f"--{item}" for item in options.set))
            command("fit", *words)
    elif options.shifts:
        measured = shifts(options.work / "tokenizer_x_pool")
        (options.work / "shifts.json").write_text(json.dumps(measured, indent=2) + "\n")
    elif options.table:
        print(report(options.work))
    else:
        for grid in options.grids:
            command("ablate", HERE / "grids" / f"{grid}.yaml", f"--out={options.work}", "--cpus_per_run=1", *data)


def command(*words: str | Path) -> None:
    """Run a command of `cct`."""
    subprocess.run([sys.executable, "-m", "cct_lightning", *map(str, words)], check=True)


def read(work: Path) -> pd.DataFrame:
    """Return one row for each finished run; accuracies are shares, NaN where none was measured."""
    rows = []
    for run in read_runs([str(work)]):
        if run.status != "finished":
            continue
        model, data, trainer = (run.config.options[group] for group in ("model", "data", "trainer"))
        rows.append(
            {
                "grid": run.ablation,
                **{key: model[key] for key in ("arch", "pool", "position")},
                **{key: model["optim"][key] for key in ("optimizer", "lr")},
                "epochs": trainer["max_epochs"],
                "samples_per_class": data["samples_per_class"],
                "seed": run.seed,
                "accuracy": run.summary.get("test/acc", math.nan),
                "val": run.summary["best_val/acc"],
                **{key: run.summary[key] for key in ("params", "macs", "images_per_s", "train_seconds")},
            }
        )
    return pd.DataFrame(rows)


def pick(runs: pd.DataFrame, **wanted: Any) -> pd.DataFrame:
    """Return the runs whose columns have these values."""
    return runs[(runs[list(wanted)] == pd.Series(wanted)).all(axis=1)]


def samples(runs: pd.DataFrame) -> dict[Any, float]:
    """Return seed -> test accuracy in percent."""
    return dict(zip(runs["seed"], 100 * runs["accuracy"], strict=True))


def accuracy_text(values: Mapping[Any, float]) -> str:
    """Say the mean and deviation over seeds."""
    numbers = list(values.values())
    spread = f" ± {deviation(numbers):.2f}" if len(numbers) > 1 else ""
    return f"{mean(numbers):.2f}{spread} (n={len(numbers)})" if numbers else "not run"


def interval_text(found: Difference) -> str:
    """Say a difference with its 95 % interval."""
    return f"{found.mean:+.2f} [{found.low:+.2f}, {found.high:+.2f}]"


def test_images(data: Mapping[str, Any]) -> torch.Tensor:
    """Return every fifth test image (B, C, H, W), normalized; `data` are the options of a run."""
    names = ("name", "root", "cache_dir", "mean", "std")
    found = ImageDataModule(**{name: data[name] for name in names}, batch_size=1000)
    found.setup("test")
    return torch.cat([found.on_after_batch_transfer(batch).image for batch in found.predict_dataloader()])[::5]


def shifts(folder: Path) -> list[dict[str, Any]]:
    """Measure on test images how tokens, features and predictions of each model answer a shift of the image."""
    rows, images = [], torch.empty(0)
    for run in read_runs([str(folder)]):
        if run.status != "finished" or run.folder is None:
            continue
        net = RunResult(run.folder).load().net
        if not len(images):
            images = test_images(run.config.options["data"])
        row: dict[str, Any] = {"arch": run.config.options["model"]["arch"], "pool": run.config.options["model"]["pool"]}
        row |= {"seed": run.seed}
        for stage in ("tokens", "features"):
            row[stage] = shift_error(net, images, shifts=SHIFTS, stage=stage).mean(1).tolist()
        row["same"] = shift_consistency(net, images, shifts=SHIFTS).mean(1).tolist()
        rows.append(row)
        print(row, flush=True)
    return rows


def curve(epochs: Any, top: float, gap: float, power: float) -> Any:
    """Return the saturating curve `top - gap * epochs ** -power`."""
    return top - gap * np.asarray(epochs, float) ** -power


def fit_curve(runs: pd.DataFrame) -> tuple[Array, Array]:
    """Fit the curve to accuracies in percent, by least squares over runs.

    Returns:
        (top, gap, power) and the half widths of their 95 % intervals.
    """
    start, bounds = (95.0, 25.0, 0.5), ([0, 0, 0.01], [100, 200, 5])
    found, covariance = optimize.curve_fit(curve, runs["epochs"], 100 * runs["accuracy"], p0=start, bounds=bounds)
    return found, stats.t.ppf(0.975, len(runs) - 3) * np.sqrt(np.diag(covariance))


def rate_table(runs: pd.DataFrame) -> Rows:
    """Return the table of rates."""
    rows = []
    for (arch, pool), model in NAMES.items():
        mine = pick(runs, arch=arch, pool=pool).sort_values("lr")
        best = zip(mine["lr"], mine["val"], strict=True)
        rows.append({"model": model, **{f"{lr:g}": f"{100 * val:.2f}" for lr, val in best}})
    return rows


def tokenizer_pool_table(runs: pd.DataFrame) -> Rows:
    """Return the table of tokenizer and pooling."""
    base = samples(pick(runs, arch="cvt_2_4", pool="class_token"))
    return [
        {
            "model": model,
            "tokenizer": "patches" if arch == "cvt_2_4" else "convolution",
            "pooling": "class token" if pool == "class_token" else "SeqPool",
            "rate": found["lr"].iloc[0],
            "parameters": f"{found['params'].iloc[0]:,}",
            "million MACs": round(found["macs"].iloc[0] / 1e6, 1),
            "test accuracy, %": accuracy_text(samples(found)),
            "difference [95 %]": interval_text(difference(samples(found), base)) if samples(found) != base else "",
        }
        for (arch, pool), model in NAMES.items()
        for found in [pick(runs, arch=arch, pool=pool)]
    ]


def part_worth_table(runs: pd.DataFrame) -> Rows:
    """Return what each of the two parts adds, alone and beside the other."""
    cell = {key: samples(pick(runs, arch=key[0], pool=key[1])) for key in NAMES}
    vit, cvt, conv, cct = cell.values()
    # The interaction is a difference of differences, each within its seed.
    extra = ({seed: cct[seed] - conv[seed] for seed in cct}, {seed: cvt[seed] - vit[seed] for seed in cvt})
    pairs = {
        "SeqPool instead of the class token, on patches": (cvt, vit),
        "SeqPool instead of the class token, on convolution": (cct, conv),
        "convolution instead of patches, with a class token": (conv, vit),
        "convolution instead of patches, with SeqPool": (cct, cvt),
        "SeqPool on convolution more than on patches": extra,
    }
    found = {name: difference(*pair) for name, pair in pairs.items()}
    return [{"what": name, "points [95 %]": interval_text(each), "p": f"{each.p:.1g}"} for name, each in found.items()]


def other_parts_table(runs: pd.DataFrame) -> Rows:
    """Return the table of poolings and position embeddings in CCT-2/3x2, beside the model as it is."""
    base = samples(pick(runs, grid="tokenizer_x_pool", arch="cct_2_3x2", pool="seqpool"))
    model = {"pooling": "seqpool", "position": "learnable", "test accuracy, %": accuracy_text(base)}
    rows: Rows = [model | {"difference [95 %]": "", "p (Holm)": ""}]
    groups = list(pick(runs, grid="pool_and_position").groupby(["pool", "position"], sort=False))
    found = [difference(samples(group), base) for _, group in groups]
    for ((pool, position), group), each, p in zip(groups, found, holm([each.p for each in found]), strict=True):
        row = {"pooling": pool, "position": position, "test accuracy, %": accuracy_text(samples(group))}
        rows.append(row | {"difference [95 %]": interval_text(each), "p (Holm)": f"{p:.2g}"})
    return rows


def length_table(runs: pd.DataFrame, seconds: Mapping[str, float]) -> Rows:
    """Return the table of lengths; `seconds` an epoch, by name of the curve."""
    rows = []
    for name, grid in CURVES.items():
        found = pick(runs, grid=grid)
        for epochs, group in found.groupby("epochs"):
            half = samples(pick(found, epochs=epochs // 2))
            gain = difference(samples(group), half) if half and len(group) > 1 else None
            images = epochs * TRAIN_IMAGES
            rows.append(
                {
                    "training": name,
                    "epochs": epochs,
                    "million images": round(images / 1e6, 2),
                    "10^15 MACs": round(TRAINING_MACS_PER_FORWARD * group["macs"].iloc[0] * images / 1e15, 3),
                    "minutes": round(epochs * seconds[name] / 60, 1) if name in seconds else "",
                    "test accuracy, %": accuracy_text(samples(group)),
                    "over half as long [95 %]": interval_text(gain) if gain else "",
                }
            )
    return rows


def curve_table(runs: pd.DataFrame) -> Rows:
    """Return the fitted curves, and what they say of a doubling."""
    rows = []
    for name, grid in CURVES.items():
        found = pick(runs, grid=grid)
        if found["epochs"].nunique() < 4:
            continue
        (top, gap, power), half = fit_curve(found)
        last = int(found["epochs"].max())
        more = curve(2 * last, top, gap, power) - curve(last, top, gap, power)
        row = {"training": name, "limit, %": f"{top:.2f} ± {half[0]:.2f}", "gap, %": f"{gap:.1f} ± {half[1]:.1f}"}
        row |= {"power": f"{power:.2f} ± {half[2]:.2f}", "next doubling": f"{more:+.2f} ({last} to {2 * last} epochs)"}
        rows.append(row)
    return rows


def few_images_table(runs: pd.DataFrame) -> Rows:
    """Return the table of few images."""
    rows = []
    for images, group in pick(runs, grid="few_images").groupby("samples_per_class"):
        vit, cct = (samples(pick(group, arch=arch)) for arch in ("vit_2_4", "cct_2_3x2"))
        row = {"images a class": int(images), "ViT-Lite-2/4, %": accuracy_text(vit), "CCT-2/3x2, %": accuracy_text(cct)}
        rows.append(row | {"difference [95 %]": interval_text(difference(cct, vit))})
    return rows


def shift_table(measured: Rows) -> Rows:
    """Return the table of shifts: means over models (seeds) and images."""
    rows = []
    for (arch, pool), model in NAMES.items():
        mine = [row for row in measured if (row["arch"], row["pool"]) == (arch, pool)]
        if mine:
            row: dict[str, Any] = {"model": model, "models": len(mine)}
            for place, pixels in enumerate(SHIFTS):
                row[f"tokens, {pixels} px"] = round(mean([each["tokens"][place] for each in mine]), 3)
            for place, pixels in enumerate(SHIFTS):
                row[f"same class, {pixels} px, %"] = round(100 * mean([each["same"][place] for each in mine]), 1)
            rows.append(row)
    return rows


@styled
def draw_parts(runs: pd.DataFrame) -> Figure:
    """Draw the four cells with their seeds, and what every other part changes in CCT-2/3x2 with its 95 % interval."""
    figure = Figure(figsize=(12, 4.6), layout="constrained")
    left, right = figure.subplots(1, 2)
    for i, (pool, label) in enumerate({"class_token": "class token", "seqpool": "SeqPool"}.items()):
        means = []
        for place, arch in enumerate(("cvt_2_4", "cct_2_3x2")):
            mine = pick(runs, grid="tokenizer_x_pool", arch=arch, pool=pool)
            values = list(samples(mine).values())
            left.plot([place] * len(values), values, linestyle="", alpha=0.6, **look(i))
            means.append(mean(values))
        left.plot([0, 1], means, color=look(i)["color"], label=label)
    left.set(xticks=[0, 1], xticklabels=["patches", "convolution"], xlim=(-0.3, 1.3), ylabel="test accuracy (%)")
    left.set_title("Tokenizer and pooling")
    left.legend(frameon=False, title="pooling")
    base = samples(pick(runs, grid="tokenizer_x_pool", arch="cct_2_3x2", pool="seqpool"))
    others = {"class token": pick(runs, grid="tokenizer_x_pool", arch="cct_2_3x2", pool="class_token")}
    for key, values in {"pool": ("mean", "max"), "position": ("sine", "none")}.items():
        others |= {f"{key} {value}": pick(runs, **{"grid": "pool_and_position", key: value}) for value in values}
    shown = {name: difference(samples(group), base) for name, group in others.items() if len(group) > 1}
    for place, each in enumerate(shown.values()):
        right.errorbar(each.mean, -place, xerr=each.high - each.mean, capsize=4, color=look(0)["color"], marker="o")
    right.axvline(0, color="#777777", linewidth=1)
    right.set(yticks=[-place for place in range(len(shown))], yticklabels=list(shown))
    right.set_xlabel("points, with 95 % interval")
    right.locator_params(axis="x", nbins=5)  # else the numbers touch
    right.set_title("CCT-2/3x2 with another part")
    return figure


@styled
def draw_lengths(runs: pd.DataFrame) -> Figure:
    """Draw accuracy over epochs, the fitted curves, and the published points of CCT-7/3x1."""
    figure = Figure(figsize=(8, 5), layout="constrained")
    ax = figure.subplots()
    for i, (name, grid) in enumerate(CURVES.items()):
        found = pick(runs, grid=grid)
        if found.empty:
            continue
        ax.plot(found["epochs"], 100 * found["accuracy"], linestyle="", alpha=0.7, label=name, **look(i))
        if found["epochs"].nunique() > 3:
            along = np.geomspace(found["epochs"].min(), 2 * found["epochs"].max(), 50)
            ax.plot(along, curve(along, *fit_curve(found)[0]), color=look(i)["color"], linewidth=1.5)
    published = published_schedule()
    gray = {"color": "#777777", "marker": "*", "label": "CCT-7/3x1, AdamW (published)"}
    ax.plot(published["epochs"], 100 * published["mean"], "--", **gray)
    ax.set(xscale="log", xlabel="epochs", ylabel="test accuracy (%)")
    ticks = [2, 4, 8, 16, 32, 64, 300, 1500, 5000]
    ax.set_xticks(ticks, [f"{tick:,}" for tick in ticks])
    ax.minorticks_off()
    ax.grid(alpha=0.3)
    ax.legend(frameon=False)
    return figure


def report(work: Path) -> str:
    """Write results/ablations.md and .json, and the figures; return the Markdown."""
    runs = read(work)
    grid = pick(runs, grid="tokenizer_x_pool")
    timed = {run.name: run.summary["train_seconds"] / 2 for run in read_runs([str(work / "timed")])}
    seconds = {name: timed[grid] for name, grid in CURVES.items() if grid in timed}
    shifts_path = work / "shifts.json"
    rows = {
        "Rates: best accuracy on held-out images, %": rate_table(pick(runs, grid="rates")),
        "Tokenizer and pooling": tokenizer_pool_table(grid),
        "What the two are worth": part_worth_table(grid),
        "Other poolings and position embeddings in CCT-2/3x2": other_parts_table(runs),
        "Length of training": length_table(runs, seconds),
        "Fitted curves": curve_table(runs),
        "Few images": few_images_table(runs),
        "Shifts": shift_table(json.loads(shifts_path.read_text()) if shifts_path.is_file() else []),
    }
    draw_parts(runs).savefig(DOCS / "parts.png", dpi=110)
    draw_lengths(runs).savefig(DOCS / "lengths.png", dpi=110)
    done = {heading: table for heading, table in rows.items() if table}
    return write("ablations", "What each part is worth, and longer training", NOTES, done, conditions(*PACKAGES))


if __name__ == "__main__":
    main()
