"""Training on a device of its own: no float64 in any step, nothing waited for, one graph; on a pretended GPU.

A whole run needs a real device: it is on the CPU, where float64 is refused likewise, but for what is drawn there.
"""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from pretended_gpu import DEVICE, Watch, autocast, backward, pretended_gpu, to_gpu
from torch import nn
from training.small import classifier, digits, trainer

from cct_lightning.data.augment import Augment
from cct_lightning.data.augment.mixup import Mixing, MixingPolicy
from cct_lightning.data.datamodule import ImageDataModule
from cct_lightning.models.pooling import POOLINGS
from cct_lightning.models.position import POSITIONS
from cct_lightning.training.callbacks.ema import EMA
from cct_lightning.training.callbacks.gradient_norm import GradientNorm
from cct_lightning.training.loss import LOSSES
from cct_lightning.training.module import Classifier
from cct_lightning.training.optim import Optim
from cct_lightning.training.optim.optimizers import OPTIMIZERS, build_optimizer


@pytest.mark.parametrize(
    ("arch", "pool", "position"),
    [
        *(("cct_2_3x1_32", pool, "learnable") for pool in POOLINGS),
        *(("cvt_2_4_32", "class_token", position) for position in POSITIONS),
    ],
)
def test_forward_and_backward_in_bf16(arch: str, pool: str, position: str) -> None:
    model = Classifier(arch=arch, pool=pool, position=position)
    net: Any = model.net
    with pretended_gpu():
        to_gpu(model)
        images, labels = torch.zeros(4, 3, 32, 32, device=DEVICE), torch.zeros(4, dtype=torch.int64, device=DEVICE)
        with autocast():
            stream = net.embed(images)
            for block in net.encoder.blocks:
                stream = block(stream)
                assert stream.dtype == torch.bfloat16, "one step in float32 turns all that follows to float32"
            logits = model(images)
        assert (logits.device, logits.shape) == (DEVICE, (4, 10))
        for name in LOSSES:
            assert LOSSES[name]()(logits, labels).device == DEVICE  # type: ignore[call-arg]
        backward(model.loss(logits, labels))
        for name, parameter in net.named_parameters():
            assert parameter.grad is not None, name
            assert (parameter.grad.device, parameter.grad.dtype) == (DEVICE, torch.float32), name
        for metric in model.val_metrics.values():
            metric.to(DEVICE).update(*((logits.sum(), 4) if "Mean" in type(metric).__name__ else (logits, labels)))
            metric.compute()


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_an_optimizer_continues_on_the_gpu(optimizer: str) -> None:
    """Also from a checkpoint whose groups do not say that they are fused, as those of Muon did not."""
    optim, net = Optim(optimizer=optimizer), Classifier(arch="cct_2_3x1_32").net

    def step(net: nn.Module, saved: dict[str, Any] | None = None) -> torch.optim.Optimizer:
        built = build_optimizer(net, optim, global_batch_size=1)
        if saved is not None:
            built.load_state_dict(saved)
        for parameter in net.parameters():
            parameter.grad = torch.zeros_like(parameter)
        nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        built.step()
        return built

    saved = step(net).state_dict()
    assert all(group["fused"] for group in saved["param_groups"])
    if optimizer == "muon":
        for group in saved["param_groups"]:
            del group["fused"]
    with pretended_gpu():
        for state in saved["state"].values():
            state |= {name: torch.empty(value.shape) for name, value in state.items()}
        continued = step(to_gpu(net), saved)
        values = [value for state in continued.state.values() for value in state.values()]
        assert {value.device for value in values} == {DEVICE}


def test_an_average_is_one_launch() -> None:
    model = Classifier(arch="cct_2_3x1_32", position="sine")
    with pretended_gpu() as watch:
        to_gpu(model)
        average: Any = EMA()
        average.on_fit_start(None, model)
        for step in (1, 2):
            before = watch.launches, watch.copies
            average.on_train_batch_end(SimpleNamespace(global_step=step), model)
        assert (watch.launches, watch.copies) == (before[0] + 1, 0)
        assert {value.device for value in average.weights} == {DEVICE}


def paused(watch: Watch, function: Callable[..., Any]) -> Callable[..., Any]:
    """What is computed on the CPU wherever a run trains, and is let alone."""

    def run(*args: Any, **kwargs: Any) -> Any:
        watch.device_type = "nothing"
        result = function(*args, **kwargs)
        watch.device_type = "cpu"
        return result

    return run


@pytest.mark.parametrize(("optimizer", "loss"), [("muon", "cross_entropy"), ("adamw", "bce")])
def test_no_step_of_a_run_is_in_float64(
    optimizer: str, loss: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    watch = Watch("cpu")
    for place, name in ((Augment, "draw"), (Mixing, "_plan")):
        monkeypatch.setattr(place, name, paused(watch, getattr(place, name)))
    data = ImageDataModule(batch_size=64, augment="timm_erasing", mixing=MixingPolicy())
    data.transform.augment(torch.zeros(1, 1, 8, 8, dtype=torch.uint8), torch.zeros(1, dtype=torch.int64), 0)  # tables
    model = classifier(data, loss=loss, optim=Optim(optimizer=optimizer, warmup_epochs=0.5), ema_decay=0.9)
    run = trainer(tmp_path, GradientNorm(), batches=2, enable_checkpointing=False, gradient_clip_val=1.0)
    with watch:
        run.fit(model, datamodule=data)
        run.test(model, datamodule=data, verbose=False)


def test_training_is_one_static_graph(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    graphs: list[tuple[bool, bool, tuple[int, ...]]] = []  # of training, with sizes that are not known; images

    def backend(graph: torch.fx.GraphModule, inputs: list[Any]) -> Callable[..., Any]:
        sizes = [size for value in inputs for size in getattr(value, "shape", [value])]
        dynamic = any(isinstance(size, torch.SymInt) for size in sizes)
        graphs.append((torch.is_grad_enabled(), dynamic, next(tuple(x.shape) for x in inputs if x.ndim == 4)))
        return graph.forward

    compiling = nn.Module.compile
    monkeypatch.setattr(nn.Module, "compile", lambda *args, **how: compiling(*args, **how, backend=backend))
    torch.compiler.reset()
    data = digits(128)  # 144 images to validate: the second batch is a smaller one
    run = pl.Trainer(
        accelerator="cpu", max_epochs=3, limit_train_batches=2, logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False, default_root_dir=tmp_path,
    )  # fmt: skip
    run.fit(classifier(data, compile=True), datamodule=data)
    assert [graph[1:] for graph in graphs if graph[0]] == [(False, (128, 1, 8, 8))]
    assert not any(dynamic for _, dynamic, _ in graphs)
