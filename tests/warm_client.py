"""The part of `warm.py` that needs no package: it stands in for the interpreter where the product starts a process.

The server writes an executable beside its socket that runs this file, and processes that it has started take it for
`sys.executable`. What it cannot fork, such as other modules or processes with other variables, starts as always.
"""

import array
import ctypes
import json
import os
import signal
import socket
import sys
from collections.abc import Callable, Mapping, Sequence

# What may be forked, beside scripts.
_MODULES = ("cct_lightning", "torch.distributed.run", "ipykernel_launcher", "pytest", "wandb")
# Variables that are read while libraries are imported: with others than these, a process has to start from nothing.
_EARLY = (
    *(
        "PYTHON",
        "LD_",
        "LC_",
        "LANG",
        "MALLOC_",
        "TORCH",
        "PYTORCH_",
        "ATEN_",
        "OMP_",
        "GOMP_",
        "KMP_",
        "MKL_",
        "OPENBLAS_",
    ),
    *("DNNL_", "ONEDNN_", "MPLCONFIGDIR", "JSONARGPARSE_"),
)
# Those among them that the server reads anew, or that nobody reads so early.
_ANEW = (
    *("PYTHONPATH", "PYTHONUNBUFFERED", "PYTHONBREAKPOINT", "OMP_NUM_THREADS", "TORCHELASTIC_", "TORCH_NCCL_"),
    *("TORCHINDUCTOR_CACHE_DIR", "PYTORCH_NVML_BASED_CUDA_CHECK", "KMP_DUPLICATE_LIB_OK", "KMP_INIT_AT_FORK"),
)
_PASSED_ON = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2, signal.SIGCONT)


def fits(theirs: Mapping[str, str], ours: Mapping[str, str]) -> bool:
    """Tell whether a process with our variables may be forked from one with theirs."""
    keys = [key for key in {**theirs, **ours} if theirs.get(key) != ours.get(key)]
    return not any(key.startswith(_EARLY) and not key.startswith(_ANEW) for key in keys)


def fork(
    door: str, words: Sequence[str], *, cwd: str, environment: Mapping[str, str], files: Mapping[int, int]
) -> tuple[socket.socket, int]:
    """Ask for a process; return the line on which its exit code will come, and its number, -1 where it does not fit.

    Args:
        door: The server's socket.
        words: What follows the interpreter on a command line.
        cwd: Its working directory.
        environment: All its variables.
        files: Its open files: their numbers there, and here.
    """
    line = socket.socket(socket.AF_UNIX)
    line.connect(door)
    request = {"words": list(words), "cwd": cwd, "environment": dict(environment), "files": list(files)}
    numbers = array.array("i", files.values())
    line.sendmsg([b"."], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, numbers)])
    line.sendall(f"{json.dumps(request)}\n".encode())
    return line, int(answer(line))


def answer(line: socket.socket) -> bytes:
    """Read one line."""
    found = b""
    while not found.endswith(b"\n"):
        if not (byte := line.recv(1)):
            raise ConnectionError("the server has ended")
        found += byte
    return found


def _main(python: str, door: str, words: list[str]) -> None:
    if os.path.exists(door) and _can_be_forked(words):
        # Ray's processes block signals.
        signal.pthread_sigmask(signal.SIG_SETMASK, [])
        if "cct_lightning.commands.guard" in words:
            ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # the forked process ends when this one does
        files = {int(n): int(n) for n in os.listdir("/proc/self/fd") if os.path.exists(f"/proc/self/fd/{n}")}
        line, pid = fork(door, words, cwd=os.getcwd(), environment=os.environ, files=files)
        if pid > 0:
            for number in _PASSED_ON:
                signal.signal(number, _to(pid))
            code = int(answer(line))
            if code < 0:
                if -code != signal.SIGKILL:
                    signal.signal(-code, signal.SIG_DFL)
                os.kill(os.getpid(), -code)
            os._exit(code)
    os.execv(python, [python, *words])


def _can_be_forked(words: list[str]) -> bool:
    if "-m" in words[:2]:
        module = words[words.index("-m") + 1]
        return module in _MODULES or module.startswith("cct_lightning.")
    # Ray starts its workers by scripts, too.
    return bool(words) and words[0].endswith(".py") and "site-packages" not in words[0]


def _to(pid: int) -> Callable[..., None]:
    return lambda number, frame: os.kill(pid, number)


if __name__ == "__main__":
    _main(sys.argv[1], sys.argv[2], sys.argv[3:])
