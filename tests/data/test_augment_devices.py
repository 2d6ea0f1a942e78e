"""Augmentation on other devices than the CPU: exact in TF32, and one static graph for torch.compile."""

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from photographs import photographs
from pretended_gpu import DEVICE, pretended_gpu
from test_augment import EVERYTHING, make
from torch import Tensor
from torch._dynamo.testing import CompileCounter
from torch.utils._python_dispatch import TorchDispatchMode

from cct_lightning.data.augment import POLICIES, resample
from cct_lightning.data.datamodule import ImageDataModule


class Tf32(TorchDispatchMode):
    """Round the factors of every matrix product to 11 significant bits."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.ops.aten.bmm.default:
            args = tuple(rounded(factor) for factor in args)
        return func(*args, **(kwargs or {}))


def rounded(factor: Tensor) -> Tensor:
    mantissa, exponent = torch.frexp(factor)
    return torch.ldexp((mantissa * 2**11).round() / 2**11, exponent)


@pytest.mark.parametrize("size", [(32, 32), (20, 28)])
def test_tf32_changes_no_pixel(size: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    crops = make(replace(POLICIES["timm"], resized_crop_interpolation="random"), size=size)
    resizes = make("none", size=(20, 28))
    photos, index = photographs(48), torch.arange(48)

    def images() -> Tensor:
        return torch.cat([crops(photos, index, 0).flatten(), resizes(photos, index, 0).flatten()])

    exact = images()
    with Tf32():
        assert not torch.equal(images(), exact)  # what the products of a CPU would be
        monkeypatch.setattr(resample, "_parts", resample.split)
        assert torch.equal(images(), exact)


@pytest.mark.parametrize("inputs", [8, 32, 40, 256])
def test_weights_are_sums_of_two_numbers_of_eight_bits(inputs: int) -> None:
    _, weights = resample._bank(inputs, 32, torch.device("cpu"))
    upper, lower = resample.split(weights)
    assert torch.equal(upper + lower, weights)
    for part in (upper, lower):
        assert torch.equal(part.bfloat16().float(), part)


def test_a_gpu_has_it_compiled_where_the_model_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever looks at images of the same data on a CPU compiles nothing."""
    calls: list[Any] = []

    def compiling(transform: Any, **how: Any) -> Any:
        return lambda *args: calls.append(how) or transform(*args)

    monkeypatch.setattr(torch, "compile", compiling)
    data = ImageDataModule(augment="light")
    monkeypatch.setattr(data, "prepare", lambda trainer: None)
    for compiled, kind in ((True, "cpu"), (False, "cuda"), (True, "cuda")):
        module = SimpleNamespace(hparams={"compile": compiled})
        strategy = SimpleNamespace(root_device=torch.device(kind))
        data.trainer = SimpleNamespace(lightning_module=module, strategy=strategy)  # type: ignore[assignment]
        data.setup("fit")
        assert (data.transform.augment._compiled is not None) == (compiled and kind == "cuda")
    index = torch.arange(4)
    data.preview(index)
    assert not calls
    with pretended_gpu():
        images = torch.zeros(4, 1, 8, 8, dtype=torch.uint8, device=DEVICE)
        data.transform.on(DEVICE).augment(images, index, 0)
    assert [how["fullgraph"] for how in calls] == [True]


@pytest.mark.parametrize("name", ["light", "everything"])
def test_it_is_compiled_once_for_all_epochs(name: str) -> None:
    torch.compiler.reset()
    counter = CompileCounter()
    augment = make(EVERYTHING[name])
    compiled = torch.compile(augment.transform, fullgraph=True, backend=counter)
    images, index = photographs(12), torch.arange(12)
    for epoch in range(3):
        assert torch.equal(compiled(images, augment.draw(index, epoch, (32, 32))), augment(images, index, epoch))
    assert counter.frame_count == 1
