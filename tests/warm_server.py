"""Forks `python -m cct_lightning ...` from a process that has imported Lightning already; see `warm.py`.

    python warm_server.py SOCKET

Each connection is one process: it sends a line of JSON (words, cwd, environment, files for its output and errors), gets
a line with the process's number, and at its end a line with its exit code. The server ends when the one who started it
closes its standard input.
"""

import json
import os
import runpy
import selectors
import signal
import socket
import sys
from typing import Any

# What `cct fit` imports on its way to the first step.
import cct_lightning.commands.main
import cct_lightning.data.datamodule
import cct_lightning.training.module  # noqa: F401

# At its import, wandb makes a folder, which the first process that ends would remove for all.
assert "wandb" not in sys.modules

WRITE = os.O_WRONLY | os.O_CREAT | os.O_APPEND


def become(request: dict[str, Any]) -> None:
    """Make this process what `python -m cct_lightning WORDS` is when its imports are done, in a session of its own."""
    os.setsid()
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    os.chdir(request["cwd"])
    before = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    os.environ.clear()
    os.environ.update(request["environment"])
    paths = [path for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if path and path not in before]
    sys.path[:1] = [os.getcwd(), *paths]
    for number, path in ((0, os.devnull), (1, request["output"]), (2, request["errors"])):
        file = os.open(path, WRITE if number else os.O_RDONLY, 0o644)
        os.dup2(file, number)
        os.close(file)
    sys.argv[:] = ["cct", *request["words"]]


def serve(place: str) -> dict[str, Any] | None:
    """Start what is asked for; return the request in each process that was started, and None at the end."""
    running: dict[int, socket.socket] = {}
    awake, alarm = socket.socketpair()
    for end in (awake, alarm):
        end.setblocking(False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(alarm.fileno())
    with socket.socket(socket.AF_UNIX) as door, selectors.DefaultSelector() as ready:
        door.bind(place)
        door.listen()
        for each in (door, awake, sys.stdin):
            ready.register(each, selectors.EVENT_READ)
        while True:
            for key, _ in ready.select():
                if key.fileobj is sys.stdin:
                    return None
                if key.fileobj is awake:
                    awake.recv(4096)
                    for pid in list(running):
                        found, status = os.waitpid(pid, os.WNOHANG)
                        if found:
                            with running.pop(pid) as line:
                                line.sendall(f"{os.waitstatus_to_exitcode(status)}\n".encode())
                else:
                    line = door.accept()[0]
                    request = json.loads(line.makefile().readline())
                    pid = os.fork()
                    if not pid:
                        for other in (line, awake, alarm, *running.values()):
                            other.close()
                        return request  # type: ignore[no-any-return]
                    running[pid] = line
                    line.sendall(f"{pid}\n".encode())


if __name__ == "__main__":
    request = serve(sys.argv[1])
    if request is not None:
        become(request)
        runpy.run_module("cct_lightning", run_name="__main__", alter_sys=True)
