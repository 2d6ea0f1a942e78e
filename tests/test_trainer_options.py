"""Everything of Lightning that the command line can name: it works, or is refused in one sentence before training."""

import inspect
import itertools
import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning import callbacks, loggers, plugins, profilers
from pytorch_lightning.strategies import StrategyRegistry

from cct_lightning.config.parser import parse
from cct_lightning.runs.metrics import LOGGED

pytestmark = pytest.mark.slow

Cct = Callable[..., tuple[int, str, str]]

# Two steps of a tiny model.
TINY = [
    "--config=digits", "--model.arch=cct_2_3x2", "--model.embed_dim=32", "--model.num_heads=2", "--model.depth=1",
    "--data.augment=none", "--data.num_workers=0", "--tracking.mode=disabled", "--model.optim.warmup_epochs=0",
    "--trainer.accelerator=cpu", "--trainer.max_epochs=1", "--trainer.limit_train_batches=2",
    "--trainer.limit_val_batches=1", "--trainer.limit_test_batches=1",
]  # fmt: skip

ODD = ("0", "-1", "1000000000000", "1.5", "-0.5", "null", "true", "nonsense", "[0]")
TEXT = ("default_root_dir", "model_registry")  # takes any
OPTIONS = [name for name in inspect.signature(pl.Trainer.__init__).parameters if name != "self"]


def judge(code: int, out: str, err: str, run_dir: Path, *, trial: bool = False) -> bool:
    """Check that a run is finished, or that it was refused in one sentence; return which. A trial run keeps nothing."""
    said = [line for line in err.splitlines() if line.startswith("cct fit:")]
    assert "Traceback" not in out + err, out + err
    assert (code, len(said)) in ((0, 0), (2, 1)), out + err
    if code == 0 and not trial:
        assert json.loads((run_dir / "summary.json").read_text())["status"] == "finished"
    else:
        assert not run_dir.exists(), said
    return code == 0


@pytest.mark.parametrize("option", OPTIONS)
def test_odd_values_of_the_trainers_options(
    option: str, cct: Cct, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for value in ODD if option not in TEXT else ODD[-2:-1]:
        run_dir = tmp_path / f"run{value}"
        trial = option == "fast_dev_run" and value != "0"
        judge(
            *cct("fit", *TINY, "--trainer.max_steps=2", f"--trainer.{option}={value}", f"--run_dir={run_dir}"),
            run_dir,
            trial=trial,
        )
    torch.use_deterministic_algorithms(False)


# Arguments that a class needs, after its name.
NEEDS = {
    "CSVLogger": "save_dir=logs",
    "EarlyStopping": "monitor=val/acc",
    "GradientAccumulationScheduler": "scheduling={0: 2}",
    "ModelPruning": "pruning_fn=l1_unstructured",
    "OnExceptionCheckpoint": "dirpath=kept",
    "StochasticWeightAveraging": "swa_lrs=0.01",
    "TensorBoardLogger": "save_dir=logs",
    "ThroughputMonitor": "batch_size_fn=builtins.len",
    "Timer": "duration=00:00:10:00",
    "WandbLogger": "offline=true",
}
REFUSED = {
    "BackboneFinetuning", "BaseFinetuning", "BatchSizeFinder", "EMAWeightAveraging", "LearningRateFinder",
    "SpikeDetection", "WeightAveraging",
    "Logger", "Profiler", "XLAProfiler",
}  # fmt: skip
PACKAGES = {"CometLogger", "LitLogger", "MLFlowLogger", "NeptuneLogger"}  # refused where they are not installed


@pytest.mark.parametrize(
    ("option", "name"),
    [
        *itertools.product(["callbacks+"], sorted(callbacks.__all__)),
        *itertools.product(["logger"], sorted(loggers.__all__)),
        *itertools.product(["profiler"], sorted(profilers.__all__)),
    ],
)
def test_classes_of_lightning(
    option: str, name: str, cct: Cct, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    words = [f"--trainer.{option}={name}"]
    words += [f"--trainer.{option.rstrip('+')}.{NEEDS[name]}"] if name in NEEDS else []
    works = judge(*cct("fit", *TINY, *words, "--run_dir=run"), tmp_path / "run")
    assert works == (name not in REFUSED) or name in PACKAGES
    if not works:
        return
    # What config.yaml says of it can be read back, and what a checkpoint holds of it restored.
    stored = parse("fit", ["--config=run/config.yaml"]).trainer
    assert name in str(stored)
    assert "Unable to serialize" not in Path("run/config.yaml").read_text() or name == "ModelPruning"
    judge(*cct("fit", *TINY, *words, "--trainer.max_epochs=2", "--run_dir=run"), tmp_path / "run")
    assert json.loads(Path("run/summary.json").read_text())["epochs"] == 2


@pytest.mark.parametrize("name", sorted(plugins.__all__))
def test_plugins_of_lightning(name: str, cct: Cct, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    words = f"--trainer.plugins+=pytorch_lightning.plugins.{name}"
    judge(*cct("fit", *TINY, words, "--run_dir=run"), tmp_path / "run")


# Each in a process of its own, where a process group ends with it, and with its imports done.
STRATEGIES = """
import json
import os
import sys
from cct_lightning.commands import fit
from cct_lightning.commands.main import main

if __name__ == "__main__":  # ddp_spawn imports this file
    names, words = map(json.loads, sys.argv[1:])
    for name in names:
        sys.argv = ["cct", "fit", *words, f"--trainer.strategy={name}", f"--run_dir={name}"]
        if not (child := os.fork()):
            code = main()
            sys.stdout.flush()
            os._exit(code)
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        for file in (sys.stdout, sys.stderr):
            print(f"END {code}", file=file, flush=True)
"""


def test_strategies(tmp_path: Path) -> None:
    names = [name for name in StrategyRegistry.available_strategies() if "find_unused" not in name]  # other forms
    (tmp_path / "strategies.py").write_text(STRATEGIES)
    command = [sys.executable, "strategies.py", json.dumps(names), json.dumps(TINY)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=500)
    outs, errs = (re.split(r"END (\d)\n", text) for text in (done.stdout, done.stderr))
    assert len(outs) == 2 * len(names) + 1, done.stderr
    found = zip(names, outs[::2], outs[1::2], errs[::2], strict=False)
    worked = [name for name, out, code, err in found if judge(int(code), out, err, tmp_path / name)]
    assert worked == ["ddp", "ddp_spawn", "ddp_fork", "ddp_notebook", "single_device"]


def test_what_callbacks_may_monitor_is_what_a_run_logs(
    cct: Cct, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    code, _, err = cct("fit", *TINY, "--trainer.log_every_n_steps=1", "--run_dir=run")
    assert code == 0, err
    columns = Path("run/metrics.csv").read_text().partition("\n")[0].split(",")
    assert {name for name in columns if not name.startswith(("lr/", "test/"))} == set(LOGGED)
    for words in (["EarlyStopping"], ["ModelCheckpoint"]):
        words = [f"--trainer.callbacks+={words[0]}", "--trainer.callbacks.monitor=val/ac"]
        code, _, err = cct("fit", *TINY, *words, "--run_dir=other")
        assert code == 2
        assert "monitors 'val/ac', which no run logs" in err
        assert "Did you mean 'val/acc'?" in err
        assert not Path("other").exists()
