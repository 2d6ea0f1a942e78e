"""Parameter groups, AdamW and Muon, on the project's models and on nets of other libraries."""

import io
import math
from typing import Any, ClassVar

import pytest
import timm
import torch
import torchvision
from torch import Tensor, nn

from cct_lightning.errors import InputError
from cct_lightning.models.factory import create_model
from cct_lightning.training.optim import Optim
from cct_lightning.training.optim.groups import parameter_groups
from cct_lightning.training.optim.muon import MuonAdamW, muon_names, orthogonalize
from cct_lightning.training.optim.optimizers import build_optimizer


def names(groups: list[dict[str, Any]], name: str) -> set[str]:
    return {parameter for group in groups if group["name"] == name for parameter, _ in group["params"]}


def steps(net: nn.Module, optimizer: torch.optim.Optimizer, count: int) -> list[float]:
    """Train on a fixed batch of noisy prototypes, and return the losses."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(16) % 4
    images = torch.randn(4, 3, 32, 32, generator=generator)[labels]
    images = images + 0.3 * torch.randn(images.shape, generator=generator)
    losses = []
    for _ in range(count):
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(net(images), labels)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


def net_without_dropout(name: str = "cct_2_3x2") -> nn.Module:
    torch.manual_seed(0)
    return create_model(name, attn_drop=0.0, drop_path_rate=0.0)


def test_no_decay_on_vectors_tokens_and_positions() -> None:
    net = create_model("vit_2_4", position="learnable")
    groups = parameter_groups(net, weight_decay=0.1)
    assert [group["weight_decay"] for group in groups] == [0.1, 0.0]
    free = names(groups, "no_decay")
    assert {"pool.token", "position.embedding", "encoder.norm.weight", "head.bias"} <= free
    assert all(p.ndim >= 2 for group in groups if group["name"] == "decay" for _, p in group["params"])
    assert names(groups, "decay") | free == {name for name, _ in net.named_parameters()}


@pytest.mark.parametrize(
    ("net", "free"),
    [
        (lambda: timm.create_model("vit_tiny_patch16_224", num_classes=10), {"cls_token", "pos_embed"}),
        (lambda: torchvision.models.vit_b_32(image_size=32), {"class_token", "encoder.pos_embedding"}),
        (lambda: timm.create_model("swin_tiny_patch4_window7_224", img_size=224), set()),
    ],
    ids=["timm-vit", "torchvision-vit", "timm-swin"],
)
def test_no_decay_of_other_libraries(net: Any, free: set[str]) -> None:
    with torch.device("meta"):
        module = net()
    groups = parameter_groups(module, weight_decay=0.1)
    assert free <= names(groups, "no_decay")
    # Vectors apart, all that timm's own models declare.
    declared = module.no_weight_decay() if hasattr(module, "no_weight_decay") else set()
    assert declared & dict(module.named_parameters()).keys() <= names(groups, "no_decay")
    tables = {name for name in dict(module.named_parameters()) if name.endswith("bias_table")}
    assert tables <= names(groups, "no_decay")


def test_a_part_declares_what_must_not_decay() -> None:
    class Part(nn.Module):
        no_weight_decay: ClassVar[set[str]] = {"temperature"}

        def __init__(self) -> None:
            super().__init__()
            self.temperature, self.matrix = nn.Parameter(torch.ones(2, 2)), nn.Parameter(torch.ones(2, 2))

    net = nn.Sequential(Part(), nn.Embedding(3, 4))
    groups = parameter_groups(net, weight_decay=0.1)
    assert names(groups, "decay") == {"0.matrix"}
    assert names(groups, "no_decay") == {"0.temperature", "1.weight"}


def test_frozen_parameters_are_left_out() -> None:
    net = create_model("cct_2_3x2").requires_grad_(False)
    with pytest.raises(InputError, match="frozen"):
        parameter_groups(net, weight_decay=0.1)
    net.head.requires_grad_(True)
    groups = parameter_groups(net, weight_decay=0.1)
    assert names(groups, "decay") == {"head.weight"}
    with pytest.raises(InputError, match="Muon"):
        build_optimizer(net, Optim(optimizer="muon"), global_batch_size=1)


def test_muon_takes_hidden_matrices_alone() -> None:
    net = create_model("cct_2_3x2", pool="seqpool")
    found = muon_names(net)
    assert {"tokenizer.convs.1.weight", "encoder.blocks.0.attn.qkv.weight", "encoder.blocks.1.mlp.fc2.weight"} <= found
    assert not found & {"head.weight", "pool.score.weight", "position.embedding"}
    groups = build_optimizer(net, Optim(optimizer="muon"), global_batch_size=1).param_groups
    assert sorted(name for group in groups for name in group["param_names"]) == sorted(dict(net.named_parameters()))
    assert "fc.weight" not in muon_names(torchvision.models.resnet18())


@pytest.mark.parametrize("shape", [(48, 32), (32, 48), (32, 32)])
@pytest.mark.parametrize("decay", [0.0, 0.1])
def test_muon_is_that_of_torch(shape: tuple[int, int], decay: float) -> None:
    torch.manual_seed(0)
    ours, theirs = (nn.Parameter(torch.linspace(-1, 1, math.prod(shape)).reshape(shape)) for _ in range(2))
    group = {"params": [ours], "weight_decay": decay, "muon": True}
    a = MuonAdamW([group], lr=0.02, momentum=0.95)
    b = torch.optim.Muon([theirs], lr=0.02, weight_decay=decay, momentum=0.95, adjust_lr_fn="match_rms_adamw")
    for _ in range(5):
        ours.grad = torch.randn(shape)
        theirs.grad = ours.grad.clone()
        a.step()
        b.step()
    # Both iterate in bfloat16, which holds 8 bits; the steps are 0.02 * 0.2 * sqrt(48) long at most.
    moved = (theirs - torch.linspace(-1, 1, math.prod(shape)).reshape(shape)).abs().max()
    assert (ours - theirs).abs().max() < 0.02 * moved
    assert moved > 0.01


def test_adamw_beside_muon_is_that_of_torch() -> None:
    torch.manual_seed(0)
    ours, theirs = nn.Parameter(torch.ones(7)), nn.Parameter(torch.ones(7))
    a = MuonAdamW([{"params": [ours]}], lr=0.01, weight_decay=0.1)
    b = torch.optim.AdamW([theirs], lr=0.01, weight_decay=0.1)
    for _ in range(5):
        ours.grad = torch.randn(7)
        theirs.grad = ours.grad.clone()
        a.step()
        b.step()
    torch.testing.assert_close(ours, theirs)


def test_a_convolution_is_a_matrix_to_muon() -> None:
    torch.manual_seed(0)
    kernel, matrix = nn.Parameter(torch.zeros(8, 4, 3, 3)), nn.Parameter(torch.zeros(8, 36))
    # The channels-last layout, in which kernels come out of channels-last training, changes nothing.
    kernel.grad = torch.randn(8, 4, 3, 3).to(memory_format=torch.channels_last)
    matrix.grad = kernel.grad.reshape(8, 36).clone()
    for p in (kernel, matrix):
        MuonAdamW([{"params": [p], "muon": True}], lr=0.1).step()
    torch.testing.assert_close(kernel.reshape(8, 36), matrix)
    assert kernel.abs().max() > 0


def test_a_channels_last_kernel_is_updated_in_place() -> None:
    # flatten() of a channels-last kernel is a copy: an update to it would be lost.
    kernel = nn.Parameter(torch.zeros(64, 4, 3, 3).to(memory_format=torch.channels_last))
    kernel.grad = torch.randn(64, 4, 3, 3).to(memory_format=torch.channels_last)
    MuonAdamW([{"params": [kernel], "muon": True}], lr=0.1).step()
    assert kernel.abs().max() > 0


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_orthogonalize_brings_singular_values_near_one(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    matrices = torch.randn(3, 16, 40) * torch.tensor([1e-3, 1.0, 1e3])[:, None, None]
    values = torch.linalg.svdvals(orthogonalize(matrices, dtype=dtype).float())
    assert values.shape == (3, 16)
    assert 0.5 < values.min() <= values.max() < 1.3


@pytest.mark.parametrize(("optimizer", "lr"), [("adamw", 2e-3), ("muon", 5e-3)])
def test_it_trains(optimizer: Any, lr: float) -> None:
    net = net_without_dropout()
    losses = steps(net, build_optimizer(net, Optim(optimizer=optimizer, lr=lr), global_batch_size=16), 32)
    assert losses[-1] < math.log(4) / 2  # guessing among the four classes gives log(4)


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_resume_is_exact_and_loads_safely(optimizer: Any) -> None:
    optim = Optim(optimizer=optimizer, lr=1e-3)
    net = net_without_dropout()
    whole = build_optimizer(net, optim, global_batch_size=16)
    steps(net, whole, 3)
    file = io.BytesIO()
    torch.save({"net": net.state_dict(), "optimizer": whole.state_dict()}, file)
    steps(net, whole, 3)

    again = net_without_dropout()
    resumed = build_optimizer(again, optim, global_batch_size=16)
    file.seek(0)
    state = torch.load(file, weights_only=True)
    again.load_state_dict(state["net"])
    resumed.load_state_dict(state["optimizer"])
    steps(again, resumed, 3)
    for name, value in net.state_dict().items():
        assert torch.equal(value, again.state_dict()[name]), name


def test_fp16_gradients_can_be_clipped() -> None:
    # What Lightning asks before it clips under 16-mixed.
    for optimizer in ("adamw", "muon"):
        built = build_optimizer(create_model("cct_2_3x2"), Optim(optimizer=optimizer), global_batch_size=1)  # type: ignore[arg-type]
        assert not getattr(built, "_step_supports_amp_scaling", False)


@pytest.mark.parametrize(("scaling", "factor"), [("none", 1.0), ("linear", 4.0), ("sqrt", 2.0)])
def test_scaling_with_the_global_batch(scaling: Any, factor: float) -> None:
    optim = Optim(optimizer="muon", lr=1e-3, muon_lr=2e-3, min_lr=1e-5, lr_scaling=scaling, base_batch_size=128)
    rates = {
        group["name"]: group["lr"]
        for group in build_optimizer(net_without_dropout(), optim, global_batch_size=512).param_groups
    }
    assert rates == pytest.approx({"muon": 2e-3 * factor, "decay": 1e-3 * factor, "no_decay": 1e-3 * factor})
    assert optim.scaled(512).min_lr == pytest.approx(1e-5 * factor)


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ({"lr": 0.0}, "lr is 0.0"),
        ({"lr": -1e-3}, "lr is -0.001"),
        ({"lr": math.nan}, "lr is nan"),
        ({"lr": math.inf}, "lr is inf"),
        ({"weight_decay": -1.0}, "weight_decay"),
        ({"warmup_epochs": -1}, "warmup_epochs"),
        ({"min_lr": 1.0}, "min_lr"),
        ({"warmup_lr": -1.0}, "warmup_lr"),
        ({"betas": (0.9, 1.0)}, "betas"),
        ({"muon_momentum": 1.5}, "muon_momentum"),
        ({"muon_lr": 0.0}, "muon_lr"),
        ({"optimizer": {"path": "my_lab.Lion"}}, "class_path"),
        ({"schedule": "step"}, "choose cosine, linear, constant"),
        ({"base_batch_size": 0}, "base_batch_size"),
    ],
)
def test_bad_options(options: dict[str, Any], word: str) -> None:
    with pytest.raises(InputError, match=word) as caught:
        Optim(**options)
    assert "\n" not in str(caught.value)


def test_a_tensor_without_gradient_is_left_alone() -> None:
    net = net_without_dropout()
    optimizer = build_optimizer(net, Optim(optimizer="muon", lr=1e-3), global_batch_size=16)
    before: dict[str, Tensor] = {name: p.detach().clone() for name, p in net.named_parameters()}
    net.head(torch.ones(1, 128)).sum().backward()
    optimizer.step()
    changed = {name for name, p in net.named_parameters() if not torch.equal(p, before[name])}
    assert changed == {"head.weight", "head.bias"}
