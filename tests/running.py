"""How the tests run `cct` as a user does."""

import dataclasses
import subprocess
import sys
from pathlib import Path


def run_cct(*args: str, cwd: Path, timeout: float = 600) -> subprocess.CompletedProcess[str]:
    """Run `cct` in a process of its own."""
    command = [sys.executable, "-m", "cct_lightning", *args]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=timeout)


@dataclasses.dataclass
class Finished:
    """A run that ended well."""

    folder: Path
    output: str
