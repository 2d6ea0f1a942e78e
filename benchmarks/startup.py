"""What the command line costs before it does its work: CPU seconds of imports, of help, and until the first step.

    python benchmarks/startup.py
"""  # fmt: skip

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

sys.path.insert(0, str(ROOT := Path(__file__).resolve().parents[1]))

from benchmarks.report import conditions, write

CCT = "from cct_lightning.commands.main import main; import sys; sys.argv[0] = 'cct'; sys.exit(main())"
# In place of the first batch, the end: what was imported and put together until then.
STEP = """
import os, sys
from pytorch_lightning import Callback
from cct_lightning.commands.main import run

class End(Callback):
    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        os._exit(0)
"""
FIT = "run(['fit', '--config=digits', '--run_dir=run', '--trainer.callbacks+=__main__.End', '--tracking.mode={mode}'])"
IMPORTS = {
    "torch": "import torch",
    "torchvision": "import torchvision",
    "torchmetrics": "import torchmetrics",
    "pytorch_lightning": "import pytorch_lightning",
    "pytorch_lightning, its cli": "import pytorch_lightning.cli",
    "pytorch_lightning, its cli, wandb": "import pytorch_lightning.cli, wandb",
    "cct_lightning.build": "import cct_lightning.build",
}


def seconds(code: str, *words: str) -> float:
    """Return the user CPU seconds of a fresh interpreter and of what it has started and waited for."""
    with tempfile.TemporaryDirectory() as folder:
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
        before = os.times().children_user
        done = subprocess.run([sys.executable, "-c", code, *words], cwd=folder, env=environment, capture_output=True)
        assert done.returncode in (0, 2), done.stderr  # 2: what was typed was wrong
        return os.times().children_user - before


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5)
    args = parser.parse_args()
    told = conditions("torch", "pytorch-lightning", "torchmetrics", "torchvision", "jsonargparse", "wandb")
    lines = ("--help", "fit --help", "fit --help all", "fit --model.pol seqpool", "fit --model.optim.lr abc")
    lines += ("test --help", "predict --help", "ablate --help", "compare --help", "models", "completion bash")
    cases: dict[str, tuple[str, ...]] = {"an empty program": ("pass",)}
    # The end of an interpreter that has imported torch takes a second itself, which the first step has not to wait for.
    cases |= {f"import {name}": (f"{code}, os; os._exit(0)",) for name, code in IMPORTS.items()}
    cases |= {f"cct {line}": (CCT, *line.split()) for line in lines}
    for mode in ("disabled", "offline"):
        cases[f"cct fit --config digits, until the first step, W&B {mode}"] = (STEP + FIT.format(mode=mode),)
    found: dict[str, list[float]] = {case: [] for case in cases}
    for _ in range(args.repeats):
        for case, words in cases.items():
            found[case].append(seconds(*words))
    rows: list[dict[str, Any]] = [
        {"what": case, "user CPU, s": f"{statistics.median(times):.2f}", "least": f"{min(times):.2f}"}
        for case, times in found.items()
    ]
    notes = (
        f"Each in a fresh interpreter, in turns, medians of {args.repeats}; seconds of CPU, since others may use the "
        "cores. Imports and runs end without the interpreter's own end, another second. torchmetrics, which Lightning "
        "imports, imports torchvision, scipy.signal and matplotlib wherever they are installed, and torchvision "
        "imports torch._dynamo; no setting of theirs spares that."
    )
    print(write("startup", "What starting costs", notes, rows, told))


if __name__ == "__main__":
    main()
