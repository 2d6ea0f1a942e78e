"""Starts processes forked from one that has imported Lightning and W&B: the imports outlast most tests.

`WarmProcess` and `run_cct` start `cct`. What the product starts by itself (runs of a grid, ranks, the runs of an agent)
comes from the server, too, where the environment is `warm_environment()` and the command begins with `python()`.
"""

import atexit
import functools
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import warm_client

TESTS = Path(__file__).parent
# Of the server: a run in this process leaves variables that W&B reads when it is imported.
_AT_FIRST = dict(os.environ)


def run_cct(
    *words: str, cwd: Path, environment: Mapping[str, str] | None = None, timeout: float = 600
) -> subprocess.CompletedProcess[str]:
    """Run `cct` in a process of its own, to its end."""
    variables = os.environ if environment is None else environment
    if not fits(variables):
        command = [sys.executable, "-m", "cct_lightning", *words]
        return subprocess.run(
            command, cwd=cwd, env=variables, capture_output=True, encoding="utf-8", timeout=timeout, check=False
        )
    with tempfile.TemporaryDirectory() as folder:
        files = [Path(folder) / name for name in ("out", "err")]
        process = WarmProcess(words, cwd=cwd, output=files[0], errors=files[1], environment=variables)
        try:
            code = process.wait(timeout)
        finally:
            process.send_signal(signal.SIGKILL)
        out, err = (file.read_text(encoding="utf-8") for file in files)
    return subprocess.CompletedProcess(["cct", *words], code, out, err)


class WarmProcess:
    """A process, with what tests need of `subprocess.Popen`."""

    returncode: int | None = None

    def __init__(
        self,
        words: Sequence[str],
        *,
        cwd: Path,
        output: Path,
        environment: Mapping[str, str],
        errors: Path | None = None,
    ) -> None:
        with output.open("ab") as out, (errors or output).open("ab") as err, open(os.devnull, "rb") as none:
            self._line, self.pid = warm_client.fork(
                f"{_server()[0]}/door",
                ["-m", "cct_lightning", *words],
                cwd=str(cwd),
                environment=environment,
                files={number: file.fileno() for number, file in enumerate((none, out, err))},
            )
        assert self.pid > 0, "it should not have been asked for: see `fits`"

    def wait(self, timeout: float | None = None) -> int:
        """Wait for the end of the process and return its exit code."""
        if self.returncode is None:
            self._line.settimeout(timeout)
            try:
                self.returncode = int(warm_client.answer(self._line))
            except (TimeoutError, BlockingIOError):
                raise subprocess.TimeoutExpired(["cct"], timeout or 0) from None
            self._line.close()
        return self.returncode

    def poll(self) -> int | None:
        """Return the exit code; None while the process runs."""
        try:
            return self.wait(0)
        except subprocess.TimeoutExpired:
            return None

    def send_signal(self, number: int) -> None:
        """Send a signal to the process, unless it has ended."""
        if self.poll() is None:
            os.kill(self.pid, number)


def fits(environment: Mapping[str, str]) -> bool:
    """Tell whether a process with these variables may come from the server: nothing that it imported read another."""
    # Elsewhere, a process with libraries such as torch's does not survive a fork.
    return sys.platform == "linux" and warm_client.fits(_server()[1], environment)


def python() -> str:
    """Return the interpreter that starts the product's processes from the server; the true one where it cannot."""
    return f"{_server()[0]}/bin/python" if sys.platform == "linux" else sys.executable


def warm_environment(environment: Mapping[str, str] = os.environ, /, **variables: str) -> dict[str, str]:
    """Return variables with which processes start others from the server: Ray's workers, agents, launchers."""
    found = {**environment, "OMP_NUM_THREADS": "1", **variables}
    if sys.platform != "linux":
        return found
    # The folder's sitecustomize.py tells interpreters that are not forked.
    paths = [str(TESTS / "warm_site"), found.get("PYTHONPATH", "")]
    found = {"WARM_PYTHON": python(), **found, "PYTHONPATH": os.pathsep.join(filter(None, paths))}
    return {**found, "PATH": f"{_server()[0]}/bin{os.pathsep}{found['PATH']}"}


@functools.cache
def _server() -> tuple[str, dict[str, str]]:
    """Start the server once for this process; return its folder and its variables. It ends with this process."""
    folder = tempfile.mkdtemp(prefix="warm")
    (Path(folder) / "bin").mkdir()
    for name, words in {"python": "", "cct": "-m cct_lightning"}.items():
        script = Path(folder) / "bin" / name
        client = f"'{sys.executable}' -I -S '{TESTS / 'warm_client.py'}' '{sys.executable}' '{folder}/door'"
        script.write_text(f'#!/bin/sh\nexec {client} {words} "$@"\n')
        script.chmod(0o755)
    variables = {**_AT_FIRST, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(TESTS / "warm_server.py"), folder]
    server = subprocess.Popen(
        command, stdin=subprocess.PIPE, env={**variables, "TMPDIR": folder}, start_new_session=True
    )
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    atexit.register(server.kill)
    deadline = time.monotonic() + 300
    while not os.path.exists(f"{folder}/door"):
        assert server.poll() is None, "the server has failed"
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return folder, variables
