"""A batch's way on a device that computes on its own: nothing on it waits for the device, or makes it wait."""

import contextlib
from collections.abc import Callable
from typing import Any

import pytest
import torch
from test_augment import EVERYTHING, MEAN, STD
from torch import Tensor
from torch.overrides import TorchFunctionMode

from cct_lightning.data.augment.mixup import MixingPolicy
from cct_lightning.data.augment.transform import BatchTransform
from cct_lightning.data.batch import Batch
from cct_lightning.data.input_spec import InputSpec


class NoCopies(TorchFunctionMode):
    """Refuses what copies from the processor to a device: it waits until all work on the device is done."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        if func in (torch.tensor, torch.as_tensor, Tensor.to) and result.device.type == "meta":
            assert getattr(args[0], "device", None) == result.device, f"{func.__name__} copies to the device"
        return result


def transform(name: str) -> BatchTransform:
    spec = InputSpec(in_chans=3, img_size=(32, 32), stored_size=(32, 32), mean=MEAN, std=STD, classes=("a",) * 10)
    return BatchTransform(spec, policy=EVERYTHING[name], mixing=MixingPolicy())


def batch(device: str) -> Batch:
    return Batch(
        torch.zeros(8, 3, 32, 32, dtype=torch.uint8, device=device),
        torch.zeros(8, dtype=torch.int64, device=device),
        torch.zeros(8, dtype=torch.int64, device=device),
    )


@pytest.mark.parametrize("name", EVERYTHING)
def test_no_batch_waits_for_the_device(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """On PyTorch's device without values, where to ask for one (`item`, `nonzero`, an `if`) is an error."""
    monkeypatch.setattr(torch, "autocast", lambda *_, **__: contextlib.nullcontext())  # knows no such device
    ours, device = transform(name), torch.device("meta")
    ours.on(device).train_batch(batch("meta"), epoch=0, step=0)  # the first batch brings the tables
    with NoCopies():
        seen = ours.on(device).train_batch(batch("meta"), epoch=0, step=1)
        ours.on(device).eval_batch(batch("meta"))
    assert seen.image.shape == (8, 3, 32, 32)
    assert seen.label.shape == (8, 10)


@pytest.mark.gpu
@pytest.mark.parametrize("name", EVERYTHING)
def test_no_batch_waits_for_a_gpu(name: str) -> None:
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    ours, device, images = transform(name), torch.device("cuda", 0), batch("cuda")
    ours.on(device).train_batch(images, epoch=0, step=0)
    torch.cuda.set_sync_debug_mode("error")
    try:
        ours.on(device).train_batch(images, epoch=0, step=1)
        ours.on(device).eval_batch(images)
    finally:
        torch.cuda.set_sync_debug_mode("default")
