"""Starts `cct` in a process of its own, forked from one that has imported Lightning: the import outlasts most tests."""

import atexit
import functools
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

SERVER = Path(__file__).with_name("warm_server.py")
# Variables that nothing reads while it is imported: with others than these, a process has to start from nothing.
_LATE = ("WANDB_", "CCT_", "PYTEST_", "PYTHONPATH", "HOME", "TMPDIR", "AWS_", "PATH", "MASTER_")


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
        self._line = socket.socket(socket.AF_UNIX)
        self._line.connect(_server()[0])
        request = {
            "words": list(words),
            "cwd": str(cwd),
            "output": str(output.absolute()),
            "errors": str((errors or output).absolute()),
            "environment": dict(environment),
        }
        self._line.sendall(f"{json.dumps(request)}\n".encode())
        self.pid = int(self._answer())

    def _answer(self) -> bytes:
        found = b""
        while not found.endswith(b"\n"):
            found += self._line.recv(1)
        return found

    def wait(self, timeout: float | None = None) -> int:
        """Wait for the end of the process and return its exit code."""
        if self.returncode is None:
            self._line.settimeout(timeout)
            try:
                self.returncode = int(self._answer())
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
    if sys.platform != "linux":  # elsewhere, a process with libraries such as torch's does not survive a fork
        return False
    theirs = _server()[1]
    keys = [key for key in {**theirs, **environment} if theirs.get(key) != environment.get(key)]
    return all(key.startswith(_LATE) for key in keys)


@functools.cache
def _server() -> tuple[str, dict[str, str]]:
    """Start the server once for this process; return where it listens, and its variables. It ends with this process."""
    folder = tempfile.mkdtemp(prefix="warm")
    place = f"{folder}/door"
    variables = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(SERVER), place]
    server = subprocess.Popen(command, stdin=subprocess.PIPE, env=variables, start_new_session=True)
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    atexit.register(server.kill)
    deadline = time.monotonic() + 300
    while not os.path.exists(place):
        assert server.poll() is None, "the server has failed"
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return place, variables
