"""What `cct benchmark` measures: one of our models, or the nearest that another library has, in a process of its own.

A process for each model keeps their memories apart, and lets the caller measure them in turns, so that other load of
the machine slows all of them equally.
"""

import contextlib
import functools
import multiprocessing
import time
from collections.abc import Callable
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from cct_lightning.errors import InputError
from cct_lightning.models.arch import conv_geometry
from cct_lightning.models.compact import CompactTransformer
from cct_lightning.models.factory import create_model
from cct_lightning.training.memory import keep_freed_memory
from cct_lightning.training.optim import Optim
from cct_lightning.training.optim.optimizers import build_optimizer

T = TypeVar("T")
_SETTLE = 0.3  # seconds
_DTYPES = {"32-true": torch.float32, "bf16-mixed": torch.bfloat16, "16-mixed": torch.float16}


@dataclass(frozen=True, kw_only=True)
class Case:
    """What to measure."""

    maker: str  # `ours`, `vit-pytorch` or `timm`
    arch: str  # name of our model, whose numbers the others get
    img_size: int  # height and width in pixels
    batch_size: int  # images B a step
    precision: str  # `32-true`, `bf16-mixed` or `16-mixed`
    compile: bool  # whether torch.compile is used
    device: str  # `cpu` or `cuda`


def build(case: Case) -> nn.Module:
    """Build the model of a case.

    Raises:
        InputError: The peer has no such model.
    """
    ours = create_model(case.arch, img_size=(case.img_size, case.img_size))
    if case.maker == "ours":
        return ours
    if not isinstance(ours, CompactTransformer):
        raise InputError(f"--peer compares Compact Transformers, and {case.arch} is none: leave --peer out.")
    arch = ours.arch
    both: dict[str, Any] = {"num_classes": arch.num_classes, "num_heads": arch.num_heads, "mlp_ratio": arch.mlp_ratio}
    if case.maker == "timm":
        from timm.models.vision_transformer import VisionTransformer

        return VisionTransformer(
            img_size=case.img_size,
            patch_size=case.img_size // ours.tokenizer.grid(arch.img_size)[0],
            embed_dim=arch.embed_dim,
            depth=arch.depth,
            attn_drop_rate=arch.attn_drop,
            drop_path_rate=arch.drop_path_rate,
            **both,
        )
    from vit_pytorch.cct import CCT

    if (arch.tokenizer, arch.pool) != ("conv", "seqpool"):
        raise InputError(f"vit-pytorch has CCT alone, {case.arch} is another family: use --peer timm.")
    stride, padding = conv_geometry(arch.kernel_size)
    return CCT(
        img_size=case.img_size,
        embedding_dim=arch.embed_dim,
        n_conv_layers=arch.conv_blocks,
        kernel_size=arch.kernel_size,
        stride=stride,
        padding=padding,
        num_layers=arch.depth,
        positional_embedding=arch.position,
        dropout_rate=arch.proj_drop,
        attention_dropout=arch.attn_drop,
        stochastic_depth_rate=arch.drop_path_rate,
        **both,
    )


def count_flops(case: Case) -> dict[str, int]:
    """Count the floating-point operations of one batch, `forward`, and forward and backward in `train`.

    Two for each multiply-accumulate; elementwise ones are not counted.
    """
    # On the meta device nothing is computed, and attention is counted the same on every machine.
    net = build(case).to("meta")
    with FlopCounterMode(display=False) as forward:
        logits = net(torch.empty(case.batch_size, 3, case.img_size, case.img_size, device="meta"))
    with FlopCounterMode(display=False) as backward:
        logits.sum().backward()
    return {"forward": forward.get_total_flops(), "train": forward.get_total_flops() + backward.get_total_flops()}


class _Work:
    def __init__(self, case: Case) -> None:
        torch.manual_seed(0)
        self.case, self.device = case, torch.device(case.device)
        with contextlib.suppress(OSError):
            Path("/proc/self/clear_refs").write_bytes(b"5")  # the peak of the imports is not the model's
        self.memory_before = _resident("VmRSS")
        self.net = build(case).to(self.device)
        size = (case.batch_size, 3, case.img_size, case.img_size)
        self.images = torch.randn(size, device=self.device)
        self.labels = torch.randint(10, (case.batch_size,), device=self.device)
        if case.maker == "ours":
            self.optimizer = build_optimizer(self.net, Optim(), global_batch_size=case.batch_size)
        else:  # as its users train it
            self.optimizer = torch.optim.AdamW(self.net.parameters())
        self.scaler = torch.amp.GradScaler(case.device, enabled=case.precision == "16-mixed")
        dtype = _DTYPES[case.precision]
        # Lightning turns the cache of cast weights off, too.
        self.autocast = torch.autocast(case.device, dtype, enabled=dtype != torch.float32, cache_enabled=False)
        self.dtype, self.side = dtype, 8192 if case.device == "cuda" else 1024
        if case.compile:
            self.net.compile()

    def train(self) -> None:
        self.net.train()
        self.optimizer.zero_grad()
        with self.autocast:
            loss = nn.functional.cross_entropy(self.net(self.images), self.labels)
        self.scaler.scale(loss).backward()
        self.scaler.step(self.optimizer)
        self.scaler.update()

    def forward(self) -> None:
        self.net.eval()
        with torch.inference_mode(), self.autocast:
            self.net(self.images)

    @functools.cached_property
    def square(self) -> torch.Tensor:
        """The factor of `matmul`, made by its first call: the memory of the model is measured before."""
        return torch.randn(self.side, self.side, device=self.device, dtype=self.dtype)

    def matmul(self) -> None:
        _ = self.square @ self.square

    def time(self, job: str, count: int) -> float:
        run: Callable[[], None] = getattr(self, job)
        # Before the clock starts, caches fill again, and the threads of the model before this one stop spinning.
        settled = time.perf_counter() + _SETTLE
        while time.perf_counter() < settled:
            run()
            self._wait()
        start = time.perf_counter()
        for _ in range(count):
            run()
        self._wait()
        return (time.perf_counter() - start) / count

    def _wait(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize()

    def peak_memory(self) -> int | None:
        if self.case.device == "cuda":
            return torch.cuda.max_memory_allocated()
        peak = _resident("VmHWM")
        return None if peak is None or self.memory_before is None else peak - self.memory_before


def _resident(field: str) -> int | None:
    """Return VmRSS (now) or VmHWM (the peak) of this process in bytes; None on systems that are not Linux."""
    try:
        lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    except OSError:
        return None
    return next(1024 * int(line.split()[1]) for line in lines if line.startswith(field))


_STARTED: list[_Work] = []  # the one of this process


def _start(case: Case) -> dict[str, int]:
    if case.maker == "ours":
        keep_freed_memory()  # as `cct fit` does
    _STARTED.append(work := _Work(case))
    return {"params": sum(p.numel() for p in work.net.parameters()), "matmul_flops": 2 * work.side**3}


def _call(method: str, *args: Any) -> Any:
    return getattr(_STARTED[0], method)(*args)


class Model:
    """A case in its process; every method raises what went wrong there, such as out of memory."""

    def __init__(self, case: Case) -> None:
        self.case = case
        self._process = ProcessPoolExecutor(1, multiprocessing.get_context("spawn"))
        self._facts = self._process.submit(_start, case)

    def _answer(self, future: Future[T]) -> T:
        try:
            return future.result()
        except BrokenProcessPool as error:
            raise RuntimeError(f"The process of {self.case.maker} ended; it may have run out of memory.") from error

    @property
    def facts(self) -> dict[str, int]:
        """What the model has: `params`, and `matmul_flops` of the product that `matmul` times."""
        return self._answer(self._facts)

    def time(self, job: str, count: int = 1) -> float:
        """Return the seconds of one repetition of `train`, `forward` or `matmul`, as a mean over `count`."""
        return self._answer(self._process.submit(_call, "time", job, count))

    def peak_memory(self) -> int | None:
        """Return bytes, of the device's allocator or by which the process grew; None where unknown."""
        return self._answer(self._process.submit(_call, "peak_memory"))

    def close(self) -> None:
        """End the process."""
        self._process.shutdown()
