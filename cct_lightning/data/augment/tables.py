"""Small tensors on their way to the device: tables that stay there, and what is drawn for a batch."""

import functools
from collections.abc import Callable
from typing import Any, TypeVar

import torch
from torch import Tensor

T = TypeVar("T")
F = TypeVar("F", bound=Callable[..., Any])
_BYTES = 8  # of the largest type, at a multiple of which each tensor begins


def kept(maxsize: int) -> Callable[[F], F]:
    """Decorate a function of plain numbers and a device so that a table is made once, also for a compiled graph."""

    def keep(function: F) -> F:
        cached = functools.lru_cache(maxsize)(function)
        return torch.compiler.assume_constant_result(cached)

    return keep


def to_device(drawn: T, device: torch.device) -> T:
    """Move all tensors in nested tuples from the CPU by one copy, which is not waited for."""
    if device.type == "cpu":
        return drawn
    tensors: list[Tensor] = []
    _replaced(drawn, tensors.append)
    parts, places, end = [], [], 0
    for tensor in tensors:
        part = tensor.contiguous().view(-1).view(torch.uint8)
        padding = -len(part) % _BYTES
        parts += [part, part.new_empty(padding)]
        places.append((end, end + len(part)))
        end += len(part) + padding
    packed = torch.cat(parts)
    if torch.cuda.is_available():
        packed = packed.pin_memory()  # else CUDA waits for what it computes before it copies
    packed = packed.to(device, non_blocking=True)
    moved = iter(packed[start:end].view(t.dtype).view(t.shape) for t, (start, end) in zip(tensors, places, strict=True))
    return _replaced(drawn, lambda _: next(moved))


def _replaced(nested: Any, function: Callable[[Tensor], Any]) -> Any:
    """Nested tuples, also named ones, with a function's results in place of their tensors, in their order."""
    if isinstance(nested, Tensor):
        return function(nested)
    parts = [_replaced(part, function) for part in nested]
    return type(nested)(*parts) if hasattr(nested, "_fields") else tuple(parts)
