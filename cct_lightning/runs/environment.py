"""What a run ran on: versions, device, state of the code, command. Nothing secret: no variables, home or host name."""

import importlib.metadata
import platform
import shlex
import subprocess
import sys
from pathlib import Path

import torch

from cct_lightning.config.options import tilde

PACKAGES = ("cct_lightning", "torch", "torchvision", "pytorch-lightning", "torchmetrics", "wandb", "numpy")


def _git(*args: str) -> str | None:
    # The commit of this package's checkout, whatever the working directory; None for an installed package.
    try:
        done = subprocess.run(
            ["git", "-C", str(Path(__file__).parent), *args], capture_output=True, encoding="utf-8", timeout=10
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def environment() -> dict[str, object]:
    """Return versions, devices, git commit and whether the code differs from it, and the command, as plain types.

    `git_commit` and `git_dirty` are None outside a git checkout.
    """
    status = _git("status", "--porcelain", "--untracked-files=no")
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        **{name.replace("-", "_"): _version(name) for name in PACKAGES},
        "cuda": torch.version.cuda,
        "float32_matmul": torch.get_float32_matmul_precision(),
        "cpu": _processor(),
        "cpu_threads": torch.get_num_threads(),
        "gpus": [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())],
        "git_commit": _git("rev-parse", "HEAD"),
        "git_dirty": None if status is None else bool(status),
        "command": shlex.join(
            [Path(sys.argv[0]).name, *("=".join(map(tilde, word.split("="))) for word in sys.argv[1:])]
        ),
    }
