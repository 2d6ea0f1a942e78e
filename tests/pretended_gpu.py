"""A GPU that computes nothing, on a machine without one: torch's fake tensors know shapes, types and devices alone.

What would raise on a real one raises here, a mixture of devices first of all, and so does what the CPU would wait for:
a number, a shape that depends on values.
"""

import collections
import contextlib
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from cct_lightning.data.augment import erasing, geometric, operations, resample

DEVICE = torch.device("cuda:0")
NO_KERNEL = ("device", "empty", "empty_like", "empty_strided", "new_empty", "new_empty_strided", "_unsafe_view")


class Watch(TorchDispatchMode):
    """Refuse float64 on a kind of device; on another one than the CPU refuse copies to the CPU and count the rest.

    Attributes:
        launches: Operations that are no view: each launches a kernel at least; sums of large tensors, sorts and lists
            of more than about a hundred tensors launch more.
        wide: Those among them that read or write an int64 tensor on the device.
        copies: Between devices.
        waits: Copies that the CPU waits for.
    """

    def __init__(self, device_type: str = DEVICE.type) -> None:
        super().__init__()
        self.device_type, self.launches, self.wide, self.copies, self.waits = device_type, 0, 0, 0, 0

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
        launches = not func.is_view and name not in NO_KERNEL
        self.launches += launches
        self.wide += launches and any(x.dtype == torch.int64 for x in on_device)
        return result


@contextlib.contextmanager
def pretended_gpu() -> Iterator[Watch]:
    """Pretend `DEVICE`, and watch it; modules come there by `to_gpu`."""
    if torch.version.cuda is None:
        pytest.skip("this build of torch knows no CUDA")
    tables = (resample._bank, erasing._quantiles, geometric._kernels, operations._bounds)
    for table in tables:  # none of real tensors, and none of fake ones stays
        table.cache_clear()
    attention = nn.functional.scaled_dot_product_attention
    try:
        nn.functional.scaled_dot_product_attention = _attention
        with FakeTensorMode(allow_non_fake_inputs=True), Watch() as watch:
            yield watch
    finally:
        nn.functional.scaled_dot_product_attention = attention
        for table in tables:
            table.cache_clear()


def _attention(q: Tensor, k: Tensor, v: Tensor, dropout_p: float = 0.0) -> Tensor:
    """The kernel that a GPU takes; torch asks the driver which, and without one takes none."""
    if q.dtype == torch.float32:
        op = torch.ops.aten._scaled_dot_product_efficient_attention
        return op(q, k, v, None, q.requires_grad, dropout_p)[0]
    return torch.ops.aten._scaled_dot_product_flash_attention(q, k, v, dropout_p)[0]


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


def backward(loss: Tensor) -> None:
    """What `loss.backward()` does: autograd's own engine asks the driver for streams, its nodes do not."""
    root = loss.grad_fn
    assert root is not None
    pending: collections.Counter[Any] = collections.Counter()  # how many gradients a node waits for
    found, stack = {root}, [root]
    while stack:
        for node, _ in stack.pop().next_functions:
            if node is not None:
                pending[node] += 1
                if node not in found:
                    found.add(node)
                    stack.append(node)
    grads: dict[Any, dict[int, Tensor]] = {root: {0: torch.ones_like(loss)}}
    ready: list[Any] = [root]
    while ready:
        node = ready.pop()
        meant, given = node._input_metadata, grads.pop(node, {})
        # Of a sum over what was broadcast, and in the type of the value, as the engine brings them.
        for i, grad in given.items():
            given[i] = grad.sum_to_size(meant[i].shape).to(meant[i].dtype)
        if node.name() == "torch::autograd::AccumulateGrad":
            node.variable.grad = given[0]
            continue
        result = node(*(given.get(i) for i in range(len(meant))))
        for (above, i), grad in zip(
            node.next_functions, result if isinstance(result, tuple) else (result,), strict=True
        ):
            if above is not None:
                if grad is not None:
                    sums = grads.setdefault(above, {})
                    sums[i] = sums[i] + grad if i in sums else grad
                pending[above] -= 1
                if not pending[above]:
                    ready.append(above)


def to_gpu(module: nn.Module) -> nn.Module:
    """Move a module: its tensors are replaced, since `Module.to` cannot exchange real ones for fake ones."""
    for part in module.modules():
        for name, parameter in list(part.named_parameters(recurse=False)):
            setattr(part, name, nn.Parameter(torch.empty_like(parameter, device=DEVICE)))
        for name, buffer in list(part.named_buffers(recurse=False)):
            setattr(part, name, torch.empty_like(buffer, device=DEVICE))
    return module
