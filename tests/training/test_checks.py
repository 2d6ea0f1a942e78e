"""One sentence for each thing that a run lacks, before it begins."""

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import torch

from cct_lightning.errors import InputError
from cct_lightning.training.checks import check_compiler, check_training, device_type, devices_asked_for
from cct_lightning.training.optim import Optim
from cct_lightning.training.precision import best_precision, check_precision, has_bf16

SOUND: dict[str, Any] = {"epochs": 20, "precision": "32-true", "device_type": "cpu", "compile": False}


def test_a_sound_run_passes() -> None:
    check_training(Optim(), **SOUND)


@pytest.mark.parametrize("epochs", [None, -1])
@pytest.mark.parametrize(
    "length",
    [{"max_steps": 1}, {"max_time": "00:00:01:00"}, {"max_time": timedelta(hours=1)}, {"max_time": {"days": 1}}],
)
def test_steps_or_time_are_a_length(epochs: int | None, length: dict[str, Any]) -> None:
    check_training(Optim(), **{**SOUND, "epochs": epochs, **length})


def test_an_optimizer_that_is_not_there_is_found_early() -> None:
    for name, word in (("muom", "choose adamw, muon.* Did you mean 'muon'"), ("my_lab.Lion", "Cannot import")):
        with pytest.raises(InputError, match=word):
            check_training(Optim(optimizer=name), **SOUND)


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ({"epochs": None}, "needs a length"),
        ({"epochs": 0}, "0 epochs"),
        ({"epochs": -1}, "-1 epochs"),
        ({"max_steps": 0}, "max_steps is 0"),
        ({"max_steps": -2}, "max_steps is -2"),
        ({"max_time": "10 minutes"}, "max_time is '10 minutes': give a time in days"),
        ({"max_time": "00:00:00:00"}, "max_time is '00:00:00:00'"),
        ({"max_time": {"minuets": 1}}, "max_time is"),
        ({"epochs": 10, "max_steps": 1000}, "warm-up of 10"),
        ({"epochs": 10}, "warm-up of 10"),
        ({"accumulate": 0}, "accumulate_grad_batches"),
        ({"global_batch_size": 99, "accumulate": 2}, "by 1 devices x 2 accumulated"),
        ({"global_batch_size": 96, "num_nodes": 5}, "by 5 devices x 1 accumulated"),
        ({"global_batch_size": 96, "devices": 5, "device_type": "cuda"}, "by 5 devices x 1 accumulated"),
        ({"global_batch_size": 0}, "global_batch_size must be at least 1; got 0"),
        ({"devices": 0}, "trainer.devices must be at least 1"),
        ({"num_nodes": 0}, "trainer.num_nodes must be at least 1"),
        ({"devices": 4096}, "4096 devices are asked for"),
        ({"precision": "16-mixed"}, "in place of 16-mixed"),
        ({"precision": 16}, "in place of 16-mixed"),
        ({"precision": "64-true", "device_type": "mps"}, "float64"),
    ],
)
def test_bad_runs(options: dict[str, Any], word: str) -> None:
    with pytest.raises(InputError, match=word) as caught:
        check_training(Optim(), **{**SOUND, **options})
    assert "\n" not in str(caught.value)


def test_the_device_that_a_run_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    # Machines that this is not.
    monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda check_available: torch.device("cuda"))
    assert [device_type(asked) for asked in ("auto", "gpu", "cpu")] == ["cuda", "cuda", "cpu"]
    monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda check_available: None)
    assert [device_type(asked) for asked in ("auto", "cpu")] == ["cpu", "cpu"]
    with pytest.raises(InputError, match="accelerator gpu is asked for and PyTorch finds no GPU"):
        device_type("gpu")


def test_the_number_of_devices_that_is_known_early() -> None:
    assert [devices_asked_for(devices) for devices in (3, "3", "auto", "-1", [0, 1])] == [3, 3, 1, 1, 1]


def test_bf16_is_what_the_processor_says() -> None:
    cpuinfo = Path("/proc/cpuinfo")
    if not cpuinfo.exists():
        pytest.skip("no /proc/cpuinfo on this system")
    flags = set(cpuinfo.read_text().split())
    if has_bf16("cpu"):
        assert flags & {"avx512_bf16", "amx_bf16", "bf16", "svebf16"}
        check_precision("bf16-mixed", device_type="cpu")
        assert best_precision("cpu") == "bf16-mixed"
    else:
        assert not flags & {"avx512_bf16", "amx_bf16"}
        with pytest.raises(InputError, match="32-true"):
            check_precision("bf16-mixed", device_type="cpu")
        assert best_precision("cpu") == "32-true"


def test_a_device_without_bf16(monkeypatch: pytest.MonkeyPatch) -> None:
    # A processor and a GPU that this machine is not.
    monkeypatch.setattr("platform.machine", lambda: "x86_64")
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: False)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: including_emulation)
    with pytest.raises(InputError, match=r"This CPU does not compute in bfloat16: use --trainer\.precision 32-true"):
        check_precision("bf16-mixed", device_type="cpu")
    with pytest.raises(InputError, match=r"This GPU does not compute in bfloat16: use --trainer\.precision 16-mixed"):
        check_precision("bf16", device_type="cuda")
    assert best_precision("cuda") == "32-true"


@pytest.mark.parametrize(("device_type", "variable", "word"), [("cpu", "CXX", r"C\+\+"), ("cuda", "CC", "C")])
def test_compile_without_a_compiler(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, device_type: str, variable: str, word: str
) -> None:
    monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(InputError, match=f"needs a {word} compiler"):
        check_compiler(device_type)
    monkeypatch.setenv(variable, "no-such-compiler")
    with pytest.raises(InputError, match="no-such-compiler"):
        check_training(Optim(), **{**SOUND, "compile": True, "device_type": device_type})


def test_compile_without_headers(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    compiler = tmp_path / "c++"
    compiler.write_text("#!/bin/sh\n")
    compiler.chmod(0o755)
    monkeypatch.delenv("CXX", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr("sysconfig.get_path", lambda name: str(tmp_path))
    with pytest.raises(InputError, match=r"Python\.h"):
        check_compiler("cpu")
    (tmp_path / "Python.h").touch()
    check_compiler("cpu")
