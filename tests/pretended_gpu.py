"""A GPU that computes nothing, on a machine without one: torch's fake tensors know shapes, types and devices alone.

What would raise on a real one raises here, a mixture of devices first of all, and so does what the CPU would wait for:
a number, a shape that depends on values. Backward passes need a real one.
"""

import contextlib
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from cct_lightning.data.augment import erasing, geometric, resample

DEVICE = torch.device("cuda:0")
VIEWS = (
    "view",
    "expand",
    "slice",
    "select",
    "transpose",
    "permute",
    "unsqueeze",
    "squeeze",
    "detach",
    "alias",
    "split",
)


class Watch(TorchDispatchMode):
    """Refuse float64 on a kind of device; on another one than the CPU refuse copies to the CPU and count the rest."""

    def __init__(self, device_type: str = DEVICE.type) -> None:
        super().__init__()
        self.device_type, self.launches, self.copies, self.waits = device_type, 0, 0, 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.overloadpacket.__name__
        given = [x for x in tree_leaves((args, kwargs)) if isinstance(x, Tensor)]
        result = func(*args, **(kwargs or {}))
        made = [x for x in tree_leaves(result) if isinstance(x, Tensor)]
        on_device = [x for x in (*given, *made) if x.device.type == self.device_type]
        assert not any(x.dtype == torch.float64 for x in on_device), f"{func} has float64 on a {self.device_type}"
        if self.device_type == "cpu" or not on_device:
            return result
        assert not any(x.device.type == "cpu" for x in made), f"{func} waits for the GPU"
        copies = name in ("_to_copy", "copy_") and len({x.device.type for x in (*given, *made)}) > 1
        self.copies += copies
        self.waits += copies and not (kwargs or {}).get("non_blocking")  # of the CPU, until the copy is done
        self.launches += not name.startswith(VIEWS)
        return result


@contextlib.contextmanager
def pretended_gpu() -> Iterator[Watch]:
    """Pretend `DEVICE`, and watch it; modules come there by `to_gpu`."""
    if torch.version.cuda is None:
        pytest.skip("this build of torch knows no CUDA")
    tables = (resample._bank, erasing._quantiles, geometric._kernels)
    for table in tables:  # none of real tensors, and none of fake ones stays
        table.cache_clear()
    try:
        with FakeTensorMode(allow_non_fake_inputs=True), Watch() as watch:
            yield watch
    finally:
        for table in tables:
            table.cache_clear()


@contextlib.contextmanager
def autocast() -> Iterator[None]:
    """CUDA's autocast to bfloat16, which `torch.autocast` leaves off where there is no GPU."""
    torch.set_autocast_dtype("cuda", torch.bfloat16)
    torch.set_autocast_enabled("cuda", True)
    try:
        yield
    finally:
        torch.set_autocast_enabled("cuda", False)
        torch.set_autocast_dtype("cuda", torch.float16)


def to_gpu(module: nn.Module) -> nn.Module:
    """Move a module: its tensors are replaced, since `Module.to` cannot exchange real ones for fake ones."""
    for part in module.modules():
        for name, parameter in list(part.named_parameters(recurse=False)):
            setattr(part, name, nn.Parameter(torch.empty_like(parameter, device=DEVICE)))
        for name, buffer in list(part.named_buffers(recurse=False)):
            setattr(part, name, torch.empty_like(buffer, device=DEVICE))
    return module
