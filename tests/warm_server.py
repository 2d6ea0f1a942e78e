"""Forks processes from one that has imported Lightning and W&B already; see `warm.py`.

    python warm_server.py FOLDER

It listens at FOLDER/door. Each connection is one process, asked for as `warm_client.py` does: it gets a line with the
process's number, and at its end a line with its exit code; a connection that is closed before kills the process. The
server ends when the one who started it closes its standard input.
"""

import contextlib
import gc
import importlib
import json
import os
import runpy
import selectors
import signal
import socket
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch
from pytorch_lightning.utilities.rank_zero import rank_zero_only
from warm_client import answer, fits

# What `cct fit` with W&B imports on its way to the end, and what starts several processes or draws.
_IMPORTED = (
    *("cct_lightning.commands.main", "cct_lightning.commands.fit", "cct_lightning.commands.evaluate"),
    *("matplotlib.figure", "matplotlib.backends.backend_agg", "pandas", "torch.distributed.run"),
    *("wandb.sdk.launch", "wandb.sdk.artifacts.artifact", "wandb.plot"),
)


def become(request: dict[str, Any], files: list[int]) -> None:
    """Make this process what `python WORDS` is when its imports are done, in a session of its own."""
    os.setsid()
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    os.chdir(request["cwd"])
    before = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    os.environ.clear()
    os.environ.update(request["environment"])
    paths = [path for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if path and path not in before]
    sys.path[:1] = [os.getcwd(), *paths]
    # What was read from the environment by imports.
    tempfile.tempdir = None
    ranks = (os.environ.get(key) for key in ("RANK", "LOCAL_RANK", "SLURM_PROCID"))  # in Lightning's order
    rank_zero_only.rank = int(next((rank for rank in ranks if rank is not None), "0"))
    # Folders of W&B's, which each process removes at its end.
    artifact, private = (sys.modules[f"wandb.sdk.{name}"] for name in ("artifacts.artifact", "data_types._private"))
    for folder in (artifact.Artifact._TMP_DIR, private.MEDIA_TMP):
        folder.name = tempfile.mkdtemp()
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", os.cpu_count() or 1)))
    for number, file in zip(request["files"], files, strict=True):
        if number < 3:
            os.dup2(file, number)
            os.close(file)
    if os.environ.get("PYTHONUNBUFFERED"):
        for stream in (sys.stdout, sys.stderr):
            stream.reconfigure(write_through=True)  # type: ignore[union-attr]
    if "WARM_PYTHON" in os.environ:
        sys.executable = os.environ["WARM_PYTHON"]


def run(words: list[str]) -> None:
    """Do what the interpreter does with its words."""
    words = words[1:] if words[0] == "-u" else words
    if words[0] == "-m":
        sys.argv[:] = words[1:]
        runpy.run_module(words[1], run_name="__main__", alter_sys=True)
    else:
        sys.path[0] = str(Path(words[0]).parent)
        sys.argv[:] = words
        runpy.run_path(words[0], run_name="__main__")


def received(line: socket.socket) -> tuple[dict[str, Any], list[int]]:
    """Read what is asked for, and the files that come with it."""
    _, files, _, _ = socket.recv_fds(line, 1, 250)
    return json.loads(answer(line)), files


def serve(place: str) -> tuple[dict[str, Any], list[int]] | None:
    """Start what is asked for; return the request in each process that was started, and None at the end."""
    # As it was before the imports, which set some variables.
    pairs = Path("/proc/self/environ").read_text().split("\0")
    here = dict(pair.split("=", 1) for pair in pairs if "=" in pair)
    running: dict[int, socket.socket] = {}
    awake, alarm = socket.socketpair()
    for end in (awake, alarm):
        end.setblocking(False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(alarm.fileno())
    with socket.socket(socket.AF_UNIX) as door, selectors.DefaultSelector() as ready:
        door.bind(place)
        door.listen(100)
        for each in (door, awake, sys.stdin):
            ready.register(each, selectors.EVENT_READ)
        while True:
            for key, _ in ready.select():
                if key.fileobj is sys.stdin:
                    return None
                if key.fileobj is awake:
                    awake.recv(4096)
                    ended = [(pid, *os.waitpid(pid, os.WNOHANG)) for pid in running]
                    for pid, status in [(pid, status) for pid, found, status in ended if found]:
                        line = running.pop(pid)
                        with contextlib.suppress(KeyError):
                            ready.unregister(line)
                        _tell(line, os.waitstatus_to_exitcode(status))
                        line.close()
                elif key.fileobj is not door:  # the one who asked has ended, perhaps killed
                    os.kill(key.data, signal.SIGKILL)
                    ready.unregister(key.fileobj)
                else:
                    line = door.accept()[0]
                    request, files = received(line)
                    pid = os.fork() if fits(here, request["environment"]) else -1
                    if not pid:
                        for other in (line, awake, alarm, *running.values()):
                            other.close()
                        return request, files
                    _tell(line, pid)
                    for file in files:
                        os.close(file)
                    if pid > 0:
                        running[pid] = line
                        ready.register(line, selectors.EVENT_READ, pid)
                    else:
                        line.close()


def _tell(line: socket.socket, number: int) -> None:
    with contextlib.suppress(BrokenPipeError):
        line.sendall(f"{number}\n".encode())


def prepare() -> None:
    """Import everything, and let no process undo what all share."""
    gc.disable()
    for name in _IMPORTED:
        importlib.import_module(name)
    gc.enable()
    # Else each process copies all pages of what was imported when its interpreter ends, which takes more than a second.
    gc.freeze()


if __name__ == "__main__":
    prepare()
    asked = serve(f"{sys.argv[1]}/door")
    if asked is not None:
        become(*asked)
        run(asked[0]["words"])
