"""Fine-tuning: which layer a parameter belongs to, its learning rate, and a backbone that stands still."""

import pytest
import pytorch_lightning as pl
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from cct_lightning.errors import InputError
from cct_lightning.models.arch import BASELINES
from cct_lightning.models.factory import create_model
from cct_lightning.training.callbacks.freeze import FreezeBackbone
from cct_lightning.training.optim.finetune import FineTune, layer_of, layers, with_layer_rates
from cct_lightning.training.optim.groups import parameter_groups


@pytest.mark.parametrize(
    ("name", "layer"),
    [
        ("tokenizer.convs.0.weight", 0), ("tokenizer.proj.bias", 0), ("position.embedding", 0), ("pool.token", 0),
        ("encoder.blocks.0.norm1.weight", 1), ("encoder.blocks.10.mlp.fc2.bias", 11), ("encoder.norm.weight", 15),
        ("pool.score.weight", 15), ("head.weight", 15),
    ],
)  # fmt: skip
def test_layer_of(name: str, layer: int) -> None:
    assert layer_of(name, 14) == layer


# Layers of each baseline: the stem and its blocks, and what follows them.
LAST = {"resnet18": 9, "resnet56": 28, "mobilenet_v2": 19, "vit_b_16": 13, "deit_tiny": 13, "deit_small": 13}
SOME = {
    "resnet18": {"conv1.weight": 0, "layer1.0.conv1.weight": 1, "layer4.1.bn2.bias": 8, "fc.weight": 9},
    "resnet56": {"bn1.weight": 0, "layer2.0.conv1.weight": 10, "fc.bias": 28},
    "mobilenet_v2": {"features.0.0.weight": 0, "features.18.1.bias": 18, "classifier.1.weight": 19},
    "vit_b_16": {"conv_proj.bias": 0, "class_token": 0, "encoder.pos_embedding": 0, "encoder.ln.weight": 13},
    "deit_tiny": {"patch_embed.proj.weight": 0, "cls_token": 0, "pos_embed": 0, "blocks.11.mlp.fc1.bias": 12},
    "deit_small": {"norm.weight": 13},
}  # fmt: skip


@pytest.mark.parametrize("name", BASELINES)
def test_layers_of_baselines(name: str) -> None:
    if name.startswith("deit"):
        pytest.importorskip("timm")
    with torch.device("meta"):
        found = layers(create_model(name))
    assert {key: found[key] for key in SOME[name]} == SOME[name]
    assert set(found.values()) == set(range(LAST[name] + 1))  # none is left out


def test_rates() -> None:
    net = create_model("vit_2_4")
    plain = parameter_groups(net, weight_decay=0.1)
    groups = with_layer_rates(plain, net, lr=1.0, finetune=FineTune(layer_decay=0.5, head_lr_scale=10))
    rates = {name: group["lr"] for group in groups for name, _ in group["params"]}
    assert rates.keys() == dict(net.named_parameters()).keys()
    assert rates["tokenizer.proj.weight"] == rates["pool.token"] == rates["position.embedding"] == 0.125
    assert rates["encoder.blocks.0.mlp.fc1.bias"] == 0.25
    assert rates["encoder.blocks.1.attn.qkv.weight"] == 0.5
    assert rates["encoder.norm.weight"] == 1.0
    assert rates["head.weight"] == rates["head.bias"] == 10.0
    decays = {name: group["weight_decay"] for group in groups for name, _ in group["params"]}
    assert decays == {name: group["weight_decay"] for group in plain for name, _ in group["params"]}
    assert len({group["name"] for group in groups}) == len(groups)
    torch.optim.AdamW(groups, lr=1.0)


def test_head_alone_needs_no_order_of_layers() -> None:
    net = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 2))
    groups = with_layer_rates(parameter_groups(net, weight_decay=0.1), net, lr=1.0, finetune=FineTune(head_lr_scale=3))
    assert {name: group["lr"] for group in groups for name, _ in group["params"]} == {
        "0.weight": 1.0, "0.bias": 1.0, "1.weight": 3.0, "1.bias": 3.0,
    }  # fmt: skip
    with pytest.raises(InputError, match=r"layer_of\(name: str\) -> int"):
        layers(net)


def test_a_model_that_tells_its_layers() -> None:
    class Mine(nn.Sequential):
        def layer_of(self, name: str) -> int:
            return int(name[0])

    assert layers(Mine(nn.Linear(4, 4), nn.Linear(4, 2))) == {"0.weight": 0, "0.bias": 0, "1.weight": 1, "1.bias": 1}


def test_defaults_change_nothing() -> None:
    net = create_model("cct_2_3x1")
    groups = parameter_groups(net, weight_decay=0.1)
    assert with_layer_rates(groups, net, lr=1.0, finetune=FineTune()) is groups


@pytest.mark.parametrize("options", [{"layer_decay": 0.0}, {"layer_decay": 1.1}, {"head_lr_scale": 0.0}])
def test_out_of_range(options: dict[str, float]) -> None:
    with pytest.raises(InputError, match=next(iter(options))):
        FineTune(**options)


class Module(pl.LightningModule):
    """The least that trains a net."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def training_step(self, batch: list[torch.Tensor], batch_idx: int) -> torch.Tensor:
        assert self.net.fc.training
        assert not self.net.bn1.training
        return self.net(batch[0]).square().mean()

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD([p for p in self.parameters() if p.requires_grad], lr=0.1)


def test_a_frozen_backbone_stands_still() -> None:
    net = create_model("resnet56", num_classes=3)
    before = {name: value.clone() for name, value in net.state_dict().items()}
    loader = DataLoader(TensorDataset(torch.randn(8, 3, 8, 8)), batch_size=4)
    trainer = pl.Trainer(
        max_epochs=2, accelerator="cpu", callbacks=[FreezeBackbone()], logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False,
    )  # fmt: skip
    trainer.fit(Module(net), loader)
    moved = {name for name, value in net.state_dict().items() if not torch.equal(value, before[name])}
    assert moved == {"fc.weight", "fc.bias"}
