"""FSDP on two processes: the training of one process, in the same files, and clear words where it cannot be."""

import signal
from pathlib import Path

import pytest
import torch
from survival.processes import (
    PATH,
    TWENTY_STEPS,
    assert_same_run,
    checkpoint,
    end,
    fit,
    metrics,
    start,
    wait_until,
)

pytestmark = pytest.mark.slow

RUN = [
    *TWENTY_STEPS,
    *("--model.optim.warmup_epochs", "0.5", "--trainer.gradient_clip_val", "0.5"),
]
ADAMW = ["--model.optim.optimizer", "adamw"]
FSDP = ["--trainer.devices", "2", "--trainer.strategy.class_path", "survival.cpu_fsdp.CpuFSDP"]


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same run on one process and on two that share the weights."""
    folder = tmp_path_factory.mktemp("fsdp")
    fit(folder, *RUN, *ADAMW, "--run_dir", "one", "--tracking.mode", "disabled", log="1.txt")
    fit(folder, *RUN, *ADAMW, *FSDP, "--run_dir", "two", log="2.txt")
    return folder


def test_it_trains_as_one_process_does(both: Path) -> None:
    one, two = metrics(both / "one"), metrics(both / "two")
    # The clipped norm of the gradient is of all pieces, or weights and losses would part.
    for name in ("train/loss", "train/grad_norm", "val/loss", "test/loss", "test/acc"):
        values = [[float(row[name]) for row in rows if row[name]] for rows in (one, two)]
        assert len(values[0]) == {"train/loss": 2, "train/grad_norm": 20, "val/loss": 2}.get(name, 1)
        assert values[0] == pytest.approx(values[1], rel=1e-3), name


def test_its_checkpoint_is_as_any_other(both: Path) -> None:
    one, two = (checkpoint(both / run / "last.ckpt") for run in ("one", "two"))
    assert {k: v.shape for k, v in one["state_dict"].items()} == {k: v.shape for k, v in two["state_dict"].items()}
    one["state_dict"].pop("net.pool.score.bias")  # softmax takes it out: its gradient is noise
    for name, weights in one["state_dict"].items():
        torch.testing.assert_close(two["state_dict"][name], weights, rtol=0, atol=1e-5)
    decays = [[group["weight_decay"] for group in run["optimizer_states"][0]["param_groups"]] for run in (one, two)]
    sizes = [[len(group["params"]) for group in run["optimizer_states"][0]["param_groups"]] for run in (one, two)]
    assert decays[0] == decays[1]
    assert sizes[0] == sizes[1]
    files = [{path.name for path in (both / run).iterdir()} - {"wandb"} for run in ("one", "two")]
    assert files[0] == files[1]


def test_it_stops_and_continues(both: Path, tmp_path: Path) -> None:
    words = [*ADAMW, *FSDP, "--run_dir", "parts", "--tracking.mode", "disabled"]
    process = start(tmp_path, *RUN, *words, "--save_every_minutes", "0", log="stopped.txt", PYTHONPATH=PATH)
    assert wait_until(lambda: (tmp_path / "parts" / "last.ckpt").exists(), process)
    assert end(process, signal.SIGTERM) == 143, (tmp_path / "stopped.txt").read_text()[-3000:]
    assert checkpoint(tmp_path / "parts" / "last.ckpt")["global_step"] < 20
    fit(tmp_path, *RUN, *words, log="log.txt")
    assert_same_run(both / "two", tmp_path / "parts")


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_it_trains_on_a_gpu(tmp_path: Path) -> None:
    words = [*RUN, *ADAMW, "--trainer.accelerator", "gpu", "--trainer.strategy", "fsdp", "--tracking.mode", "disabled"]
    words += ["--trainer.precision", "bf16-mixed", "--run_dir", "run"]
    fit(tmp_path, *words, log="first.txt")
    fit(tmp_path, *words, "--trainer.max_epochs", "4", log="2.txt")
    assert checkpoint(tmp_path / "run" / "last.ckpt")["global_step"] == 40
    assert len([row for row in metrics(tmp_path / "run") if row["test/acc"]]) >= 1
