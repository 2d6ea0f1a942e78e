"""`cct benchmark`: what it counts, whom it compares, and one real run of both in their processes."""

import json
import statistics
from pathlib import Path
from typing import Any

import pytest
import torch

from cct_lightning.commands.benchmark import benchmark
from cct_lightning.commands.benchmark_model import Case, Model, _Work, build, count_flops
from cct_lightning.errors import InputError
from cct_lightning.models.arch import parse_arch
from cct_lightning.models.complexity import budget

CASE: dict[str, Any] = {
    "maker": "ours",
    "arch": "cct_2_3x2",
    "img_size": 32,
    "batch_size": 3,
    "precision": "32-true",
    "compile": False,
    "device": "cpu",
}


@pytest.mark.parametrize("arch", ["cct_2_3x2", "cct_7_3x1"])
def test_flops_are_those_of_the_arithmetic(arch: str) -> None:
    counted = count_flops(Case(**{**CASE, "arch": arch}))
    cost = budget(parse_arch(arch))
    forward = 2 * 3 * (cost.macs + cost.attention_macs)
    assert counted["forward"] == forward
    # Backward costs twice as much, but for the images, which need no gradient.
    assert 2.7 * forward < counted["train"] < 3 * forward


def test_the_peers_have_our_numbers() -> None:
    ours = build(Case(**CASE))
    theirs = build(Case(**{**CASE, "maker": "vit-pytorch"}))
    assert sorted(p.shape for p in ours.parameters()) == sorted(p.shape for p in theirs.parameters())
    assert count_flops(Case(**CASE)) == count_flops(Case(**{**CASE, "maker": "vit-pytorch"}))
    images = torch.randn(2, 3, 32, 32)
    timm = build(Case(**{**CASE, "maker": "timm"}))
    assert timm.patch_embed.num_patches == parse_arch("cct_2_3x2").img_size[0] ** 2 // 16  # type: ignore[union-attr]
    assert timm(images).shape == theirs(images).shape == (2, 10)


def test_the_memory_is_the_models() -> None:
    work = _Work(Case(**CASE))
    work.train()
    assert "square" not in vars(work), "the factor of the matrix product is not the model's"
    work.matmul()
    assert work.square.shape == (1024, 1024)


def test_both_in_turns(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cct_lightning.commands.benchmark._BLOCK", 0.05)
    file = tmp_path / "speed.json"
    result = benchmark(
        arch="cct_2_3x2", batch_size=2, precision="32-true", peer="vit-pytorch", repeats=3, device="cpu", json=str(file)
    )
    assert json.loads(file.read_text()) == result
    ours, theirs = result["models"]
    assert (ours["maker"], theirs["maker"]) == ("ours", "vit-pytorch")
    for row in result["models"]:
        assert all(len(times) == 3 and min(times) > 0 for times in row["seconds"].values())
        assert row["train_images_per_s"] == pytest.approx(2 / statistics.median(row["seconds"]["train"]))
        assert row["train_images_per_s"] < row["forward_images_per_s"]
        assert 0 < row["utilization"] < 1.2
        assert row["params"] == 283723
        if Path("/proc/self/status").exists():
            # The weights, their gradients and AdamW's two moments are 4.5 MB.
            assert 4 < row["peak_memory_mib"] < 500
    ratio = ours["train_images_per_s"] / theirs["train_images_per_s"]
    assert result["times_the_peer"]["train"] == pytest.approx(ratio)
    printed = capsys.readouterr().out
    assert f"{ratio:.2f} times the peer in training" in printed
    assert "vit-pytorch" in printed


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ({"arch": "cct_2_3x"}, "Unknown model"),
        ({"batch_size": 0}, "batch_size is 0"),
        ({"repeats": 0}, "repeats is 0"),
        ({"precision": "16-mixed"}, "float16"),
        ({"json": "no/such/folder/speed.json"}, "No folder"),
        ({"arch": "vit_7_4", "peer": "vit-pytorch"}, "another family"),
        ({"arch": "resnet18", "peer": "timm"}, "img_size|Compact Transformers|Unknown model"),
    ],
)
def test_bad_input(options: dict[str, Any], word: str) -> None:
    with pytest.raises(InputError, match=word):
        benchmark(**{"device": "cpu", **options})


def test_no_gpu() -> None:
    if torch.cuda.is_available():
        pytest.skip("there is one")
    with pytest.raises(InputError, match="--device cpu"):
        benchmark(device="cuda")
    # What goes wrong inside of the process comes out of it.
    model = Model(Case(**{**CASE, "device": "cuda"}))
    with pytest.raises((RuntimeError, AssertionError), match=r"NVIDIA|CUDA"):
        _ = model.facts
    model.close()


@pytest.mark.gpu
def test_on_a_gpu() -> None:
    if not torch.cuda.is_available():
        pytest.skip("no GPU")
    result = benchmark(arch="cct_2_3x2", batch_size=64, peer="vit-pytorch", repeats=3, device="cuda")
    assert all(0 < row["utilization"] < 1 and row["peak_memory_mib"] > 4 for row in result["models"])


def test_results_of_a_gpu_lie_beside_those_of_the_cpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parents[1]))
    from benchmarks import report

    monkeypatch.setattr(report, "RESULTS", tmp_path)
    told = report.conditions("torch")
    for where in (told, {**told, "gpu": "A GPU"}):
        report.write("speed", "Speed", "Notes.", [{"what": "step", "times": 2}], where)
    assert {path.name for path in tmp_path.iterdir()} == {f"speed{n}.{e}" for n in ("", "_gpu") for e in ("md", "json")}
    assert f"Machine: A GPU, {told['cpu']}," in (tmp_path / "speed_gpu.md").read_text()
    assert f"Machine: {told['cpu']}," in (tmp_path / "speed.md").read_text()
