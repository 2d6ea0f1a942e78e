"""One model in a process of its own, timed on request: a training step, a forward pass, a matrix product.

A process for each model keeps their memories apart, and lets the caller measure them in turns, so that what else the
machine does falls on all of them alike.
"""

import contextlib
import multiprocessing
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import cached_property
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch
from torch import nn

from cct_lightning.commands.benchmark_case import Case, build
from cct_lightning.training.memory import keep_freed_memory
from cct_lightning.training.optim import Optim
from cct_lightning.training.optim.optimizers import build_optimizer

_SETTLE = 0.3  # seconds
_DTYPES = {"32-true": torch.float32, "bf16-mixed": torch.bfloat16, "16-mixed": torch.float16}


class _Work:
    def __init__(self, case: Case) -> None:
        torch.manual_seed(0)
        self.case, self.device = case, torch.device(case.device)
        _forget_peak()
        self.memory_before = _resident("VmRSS")
        self.net = build(case).to(self.device)
        size = (case.batch_size, 3, case.img_size, case.img_size)
        self.images = torch.randn(size, device=self.device)
        self.labels = torch.randint(10, (case.batch_size,), device=self.device)
        # The peer as its users run it: torch's default AdamW.
        self.optimizer = (
            build_optimizer(self.net, Optim(), global_batch_size=case.batch_size)
            if case.maker == "ours"
            else torch.optim.AdamW(self.net.parameters())
        )
        self.scaler = torch.amp.GradScaler(case.device, enabled=case.precision == "16-mixed")
        side = 8192 if case.device == "cuda" else 1024
        self.square = torch.randn(side, side, device=self.device, dtype=_DTYPES[case.precision])
        if case.compile:
            self.net.compile()

    def _autocast(self) -> AbstractContextManager[Any]:
        dtype = _DTYPES[self.case.precision]
        # The cache of cast weights is off in Lightning, too.
        return torch.autocast(self.case.device, dtype, enabled=dtype != torch.float32, cache_enabled=False)

    def train(self) -> None:
        self.net.train()
        self.optimizer.zero_grad()
        with self._autocast():
            loss = nn.functional.cross_entropy(self.net(self.images), self.labels)
        self.scaler.scale(loss).backward()
        self.scaler.step(self.optimizer)
        self.scaler.update()

    def forward(self) -> None:
        self.net.eval()
        with torch.inference_mode(), self._autocast():
            self.net(self.images)

    def matmul(self) -> None:
        _ = self.square @ self.square

    def time(self, job: str, count: int) -> float:
        """Return the seconds of one of `count` repetitions."""
        run: Callable[[], None] = {"train": self.train, "forward": self.forward, "matmul": self.matmul}[job]
        # Before the clock starts, caches fill again, and the threads of the model before stop spinning.
        settled = time.perf_counter() + _SETTLE
        while time.perf_counter() < settled:
            run()
            _wait(self.device)
        start = time.perf_counter()
        for _ in range(count):
            run()
        _wait(self.device)
        return (time.perf_counter() - start) / count

    def matmul_flops(self) -> int:
        return 2 * len(self.square) ** 3

    def peak_memory(self) -> int | None:
        """Return bytes: of the device's allocator, or of what the process grew by; None where unknown."""
        if self.case.device == "cuda":
            return torch.cuda.max_memory_allocated()
        peak = _resident("VmHWM")
        return None if peak is None or self.memory_before is None else peak - self.memory_before


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()


def _resident(field: str) -> int | None:
    """Return VmRSS (now) or VmHWM (the peak) of this process in bytes; None on systems that are not Linux."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return None
    return next(1024 * int(line.split()[1]) for line in lines if line.startswith(field))


def _forget_peak() -> None:
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")  # the peak of the imports is not the model's


def _serve(pipe: Connection, case: Case) -> None:
    try:
        if case.maker == "ours":
            keep_freed_memory()  # as `cct fit` does
        work = _Work(case)
        pipe.send({"params": sum(p.numel() for p in work.net.parameters()), "matmul_flops": work.matmul_flops()})
        while (job := pipe.recv()) is not None:
            pipe.send(work.peak_memory() if job == "memory" else work.time(*job))
    except (EOFError, KeyboardInterrupt):
        pass
    except Exception as error:
        pipe.send(error)


class Model:
    """A case in its process.

    Every method raises what went wrong in the process, out of memory among others.

    Args:
        case: What to measure.
    """

    def __init__(self, case: Case) -> None:
        self.case = case
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs, case), daemon=True)
        self._process.start()
        theirs.close()

    @cached_property
    def facts(self) -> dict[str, int]:
        """What the model has: `params`, and `matmul_flops` of the product that `matmul` times.

        To be asked first: it is what the process says when it is ready.
        """
        return self._receive()

    def _receive(self) -> Any:
        try:
            answer = self._pipe.recv()
        except EOFError as error:
            raise RuntimeError(f"The process of {self.case.maker} ended; it may have run out of memory.") from error
        if isinstance(answer, Exception):
            raise answer
        return answer

    def time(self, job: str, count: int = 1) -> float:
        """Return the seconds of one repetition of `train`, `forward` or `matmul`, as a mean over `count`."""
        self._pipe.send((job, count))
        return float(self._receive())

    def peak_memory(self) -> int | None:
        """Return the peak memory so far in bytes."""
        self._pipe.send("memory")
        return self._receive()

    def close(self) -> None:
        """End the process."""
        with contextlib.suppress(OSError):  # it has ended already
            self._pipe.send(None)
        self._process.join()
