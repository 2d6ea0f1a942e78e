"""benchmarks/ablations.py: its tables, of runs whose accuracies are known."""

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from cct_lightning.ablation.grid import expand, read_grid

ROOT = Path(__file__).parents[1]


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(ROOT))
    from benchmarks import ablations

    return ablations


def runs() -> pd.DataFrame:
    """Return runs in which every seed adds as much, so that paired differences are exact but for a trace of noise."""
    same = {"position": "learnable", "optimizer": "muon", "lr": 0.01, "epochs": 10, "samples_per_class": None}
    same |= {"val": 0.5, "params": 1000, "macs": 2e6, "images_per_s": 100.0, "train_seconds": 60.0}
    effect = {"cvt_2_4": 0.0, "cct_2_3x2": 0.1, "vit_2_4": 0.0, "class_token": 0.0, "seqpool": 0.02, "mean": 0.01}
    rows: list[dict[str, Any]] = []

    def add(grid: str, seed: int, accuracy: float, **values: Any) -> None:
        noise = 1e-4 * np.random.default_rng(len(rows)).standard_normal()
        rows.append({**same, "grid": grid, "seed": seed, "accuracy": accuracy + 0.005 * seed + noise, **values})

    for seed in range(3):
        for arch, pool in itertools.product(("cvt_2_4", "cct_2_3x2"), ("class_token", "seqpool")):
            add("tokenizer_x_pool", seed, 0.6 + effect[arch] + effect[pool], arch=arch, pool=pool)
        add("pool_and_position", seed, 0.71, arch="cct_2_3x2", pool="mean")
        for epochs in (2, 4, 8, 16):
            add("length_muon", seed, 0.9 - 0.4 / epochs, arch="cct_2_3x2", pool="seqpool", epochs=epochs)
        for arch in ("vit_2_4", "cct_2_3x2"):
            few = {"pool": "seqpool", "samples_per_class": 50}
            add("few_images", seed, 0.3 + effect[arch], arch=arch, **few)
    return pd.DataFrame(rows)


def points(text: str) -> float:
    return float(text.split()[0])


def test_the_tables_say_what_the_runs_did(script: Any) -> None:
    table = runs()
    cells = script.tokenizer_pool_table(table[table.grid == "tokenizer_x_pool"])
    assert [row["model"] for row in cells] == list(script.NAMES.values())
    assert [points(row["difference [95 %]"] or "0") for row in cells] == pytest.approx([0, 2, 10, 12], abs=0.05)
    worth = {
        row["what"]: points(row["points [95 %]"])
        for row in script.part_worth_table(table[table.grid == "tokenizer_x_pool"])
    }
    assert list(worth.values()) == pytest.approx([2, 2, 10, 10, 0], abs=0.05)
    model, mean = script.other_parts_table(table)
    assert (model["pooling"], mean["pooling"]) == ("seqpool", "mean")
    assert points(mean["difference [95 %]"]) == pytest.approx(-1, abs=0.05)
    lengths = script.length_table(table, {"CCT-2/3x2, Muon": 60.0})
    assert [row["minutes"] for row in lengths] == [2, 4, 8, 16]
    assert [points(row["over half as long [95 %]"]) for row in lengths[1:]] == pytest.approx([10, 5, 2.5], abs=0.05)
    assert lengths[0]["10^15 MACs"] == pytest.approx(3 * 2e6 * 90_000 / 1e15, abs=1e-3)
    (curve,) = script.curve_table(table)
    assert points(curve["limit, %"]) == pytest.approx(90.5, abs=0.2)  # the middle seed
    assert points(curve["power"]) == pytest.approx(1, abs=0.05)
    (few,) = script.few_images_table(table)
    assert points(few["difference [95 %]"]) == pytest.approx(10, abs=0.05)


def test_the_figures_are_drawn(script: Any) -> None:
    assert len(script.draw_parts(runs()).axes) == 2
    assert len(script.draw_lengths(runs()).axes[0].lines) == 3  # runs, their curve, the published points


def test_the_grids_are_files(script: Any) -> None:
    sizes = {name: len(expand(read_grid(ROOT / "benchmarks" / "grids" / f"{name}.yaml"))) for name in script.GRIDS}
    assert sizes == {
        "rates": 16,
        "tokenizer_x_pool": 12,
        "pool_and_position": 12,
        "length_muon": 13,
        "length_adamw": 13,
        "larger": 3,
        "few_images": 18,
    }
