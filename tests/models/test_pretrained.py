"""Weights made to fit: the published format by the golden rule, loaded as it is and at other sizes."""

import json
import logging
import re
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from cct_lightning.commands.convert import convert
from cct_lightning.errors import InputError
from cct_lightning.models.factory import create_model, load_model
from cct_lightning.models.position import resize_embedding, sine_table
from cct_lightning.models.weights.pretrained import named_for
from cct_lightning.models.weights.reader import read_weights

State = Callable[[str], dict[str, Tensor]]
Images = Callable[[int, int], Tensor]
SINE, LEARNABLE = "cct_7_3x1_32_sine_c100", "cct_2_3x2_32"


def golden_logits(name: str) -> Tensor:
    return torch.tensor(json.loads((Path(__file__).parents[1] / "golden" / f"{name}.json").read_text())["logits"])


def close(ours: Tensor, expected: Tensor) -> None:
    assert (ours - expected).abs().max() / expected.abs().max() < 1e-4


@pytest.fixture
def pth(tmp_path: Path, golden_state: State) -> Callable[[str], Path]:
    """From a model's name to a file in the published format."""

    def save(name: str) -> Path:
        path = tmp_path / f"{name}.pth"
        torch.save(golden_state(name), path)
        return path

    return save


@pytest.mark.parametrize("name", [LEARNABLE, SINE])
@torch.no_grad()
def test_as_published(name: str, pth: Callable[[str], Path], golden_images: Images) -> None:
    expected = golden_logits(name)
    close(create_model(name, pretrained=pth(name)).eval()(golden_images(3, 32)), expected)
    model, stored = load_model(pth(name))  # nothing but the shapes tells which model it is
    assert (model.arch.name, stored.hparams) == (name, {})
    close(model(golden_images(3, 32)), expected)


@torch.no_grad()
def test_other_classes(pth: Callable[[str], Path], golden_images: Images, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        model = create_model(SINE, pretrained=pth(SINE), num_classes=7).eval()
    assert "head re-initialized: 100 classes stored, 7 wanted" in caplog.text
    assert model(golden_images(3, 32)).shape == (2, 7)
    assert model.head.weight.std() < 0.05  # fresh, not the stored 0.1
    stored = read_weights(pth(SINE)).state
    features = model.pool(model.forward_features(golden_images(3, 32)))
    close(features @ stored["head.weight"].T + stored["head.bias"], golden_logits(SINE))


def test_same_classes_say_nothing(pth: Callable[[str], Path], caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        create_model(SINE, pretrained=pth(SINE))
    assert caplog.text == ""


@torch.no_grad()
def test_other_channels(pth: Callable[[str], Path], golden_images: Images) -> None:
    images = golden_images(3, 32)
    six = create_model(LEARNABLE, pretrained=pth(LEARNABLE), in_chans=6).eval()
    close(six(torch.cat([images, images], 1)), golden_logits(LEARNABLE))
    grey = images[:, :1]
    one = create_model(LEARNABLE, pretrained=pth(LEARNABLE), in_chans=1).eval()
    three = create_model(LEARNABLE, pretrained=pth(LEARNABLE)).eval()
    close(one(grey), three(grey.expand(-1, 3, -1, -1)))


@pytest.mark.parametrize("name", [LEARNABLE, f"{LEARNABLE}_sine", "vit_2_4_32", "vit_2_4_32_sine"])
@pytest.mark.parametrize("img_size", [(64, 64), (48, 32)])
@torch.no_grad()
def test_other_image_size(name: str, img_size: tuple[int, int], pth: Callable[[str], Path]) -> None:
    native = create_model(name, pretrained=pth(name)).eval()
    resized = create_model(name, pretrained=pth(name), img_size=img_size).eval()
    grid = resized.tokenizer.grid(img_size)
    assert resized.position.embedding.shape[1] == grid[0] * grid[1] + resized.pool.num_prefix_tokens
    images = torch.randn(2, 3, *img_size)
    close(native(images), resized(images))  # a model resizes by itself what it meets
    embedding = resized.position.embedding
    if "sine" in name:
        assert torch.equal(embedding, sine_table(embedding.shape[1], embedding.shape[2]))
    else:
        prefix = resized.pool.num_prefix_tokens
        assert torch.equal(embedding[:, :prefix], native.position.embedding[:, :prefix])


def test_bilinear_on_the_grid() -> None:
    rows, columns = torch.meshgrid(torch.arange(4.0), torch.arange(6.0), indexing="ij")
    ramp = torch.stack([rows, columns], -1).reshape(1, 24, 2)
    larger = resize_embedding(torch.cat([torch.full((1, 1, 2), 9.0), ramp], 1), (4, 6), (8, 12))
    assert torch.equal(larger[:, 0], torch.full((1, 2), 9.0))
    inside = larger[0, 1:].reshape(8, 12, 2)[1:-1, 1:-1]  # at the border it is clamped
    torch.testing.assert_close(inside[..., 0], ((torch.arange(1.0, 7) + 0.5) / 2 - 0.5)[:, None].expand(6, 10))
    torch.testing.assert_close(inside[..., 1], ((torch.arange(1.0, 11) + 0.5) / 2 - 0.5).expand(6, 10))


@torch.no_grad()
def test_the_embedding_in_the_file_decides(
    pth: Callable[[str], Path], golden_images: Images, caplog: pytest.LogCaptureFixture
) -> None:
    # The trap of the published files: a learned table under a name that says sine.
    name = f"{LEARNABLE}_sine"
    model = create_model(name, pretrained=pth(LEARNABLE)).eval()
    close(model(golden_images(3, 32)), golden_logits(LEARNABLE))
    assert "learned position embedding" in caplog.text
    assert model.position.embedding.requires_grad
    larger = create_model(name, pretrained=pth(LEARNABLE), img_size=64).eval()
    close(larger(golden_images(3, 64)), model(golden_images(3, 64)))


@torch.no_grad()
def test_non_square_source(tmp_path: Path, pth: Callable[[str], Path]) -> None:
    wide = create_model(LEARNABLE, pretrained=pth(LEARNABLE), img_size=(32, 64)).eval()
    hparams = {"arch": LEARNABLE, "img_size": [32, 64], "in_chans": 3, "num_classes": 10}
    state = {f"net.{name}": value for name, value in wide.state_dict().items()}
    path = tmp_path / "wide.ckpt"
    torch.save({"pytorch-lightning_version": "2.6.1", "state_dict": state, "hyper_parameters": hparams}, path)
    assert create_model(LEARNABLE, pretrained=path).arch.img_size == (32, 64)
    images = torch.randn(2, 3, 48, 48)
    close(create_model(LEARNABLE, pretrained=path, img_size=48).eval()(images), wide(images))


@pytest.mark.parametrize("wrap", ["state_dict", "model", "module.", "_orig_mod.module.", "model.backbone."])
@torch.no_grad()
def test_wrapped_state_dicts(wrap: str, tmp_path: Path, golden_state: State, golden_images: Images) -> None:
    state = golden_state(LEARNABLE)
    prefixed = {wrap + name: value for name, value in state.items()}
    torch.save(prefixed if "." in wrap else {wrap: state, "epoch": 3}, tmp_path / "x.pth")
    for model in (create_model(LEARNABLE, pretrained=tmp_path / "x.pth").eval(), load_model(tmp_path / "x.pth")[0]):
        close(model(golden_images(3, 32)), golden_logits(LEARNABLE))


# What training scripts save: PyTorch's average, timm's trainer, torchvision's and DeiT's.
AVERAGES: dict[str, Callable[[dict[str, Tensor], dict[str, Tensor]], dict[str, object]]] = {
    "n_averaged": lambda mean, _: {"n_averaged": torch.tensor(7), **{f"module.{k}": v for k, v in mean.items()}},
    "state_dict_ema": lambda mean, raw: {"state_dict": raw, "state_dict_ema": mean, "optimizer": {}, "args": TIMM},
    "model_ema": lambda mean, raw: {
        "model": raw,
        "model_ema": {"n_averaged": torch.tensor(7), **{f"module.{k}": v for k, v in mean.items()}},
        "args": Namespace(lr=0.1),
    },
    "ema": lambda mean, raw: {"model": raw, "ema": {"state_dict": mean}},
    "ema_state_dict": lambda mean, raw: {"model": raw, "model_ema": {}, "ema_state_dict": mean},
}
TIMM = Namespace(model=LEARNABLE, num_classes=10, img_size=None, mean=[0.5, 0.4, 0.3], std=None, lr=5e-4, aa="rand-m9")


@pytest.mark.parametrize("kind", AVERAGES)
@torch.no_grad()
def test_averaged_weights_are_preferred_and_it_is_said(
    kind: str, tmp_path: Path, golden_state: State, golden_images: Images, caplog: pytest.LogCaptureFixture
) -> None:
    mean = golden_state(LEARNABLE)
    torch.save(AVERAGES[kind](mean, {name: value + 1 for name, value in mean.items()}), tmp_path / "x.pth")
    model, stored = load_model(tmp_path / "x.pth")
    close(model(golden_images(3, 32)), golden_logits(LEARNABLE))
    assert f"x.pth holds an average of the weights ({kind}), which is used" in caplog.text
    if kind == "state_dict_ema":
        assert stored.hparams == {"arch": LEARNABLE, "num_classes": 10, "mean": [0.5, 0.4, 0.3]}


def test_options_of_timm_that_name_no_model_of_ours(tmp_path: Path, golden_state: State) -> None:
    for name in ("resnet50.a1_in1k", "my_lab.Net", None):  # the second is no import path to timm
        torch.save({"state_dict": golden_state(LEARNABLE), "args": Namespace(model=name)}, tmp_path / "x.pth")
        model, stored = load_model(tmp_path / "x.pth")
        assert (model.arch.name, stored.hparams) == (LEARNABLE, {})


@torch.no_grad()
def test_a_prefix_that_is_the_models_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "my_lab.py").write_text(
        "from torch import nn\n"
        "class Net(nn.Module):\n"
        "    def __init__(self, *, img_size, in_chans, num_classes):\n"
        "        super().__init__()\n"
        "        self.net = nn.ModuleDict({'out': nn.Linear(in_chans * img_size[0] * img_size[1], num_classes)})\n"
        "    def forward(self, images):\n"
        "        return self.net['out'](images.flatten(1))\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    net = create_model("my_lab.Net")
    for prefix in ("", "module."):
        torch.save({prefix + name: value for name, value in net.state_dict().items()}, tmp_path / "x.pth")
        again = create_model("my_lab.Net", pretrained=tmp_path / "x.pth")
        convert(tmp_path / "x.pth", tmp_path / "y.safetensors", arch="my_lab.Net", overwrite=True)
        for found in (again.state_dict(), read_weights(tmp_path / "y.safetensors")):
            state = found if isinstance(found, dict) else named_for(net.state_dict(), found)
            assert torch.equal(state["net.out.weight"], net.net["out"].weight)


def test_what_does_not_fit_is_listed(tmp_path: Path, golden_state: State) -> None:
    state = golden_state(LEARNABLE)
    del state["classifier.norm.bias"]
    state["classifier.extra"] = torch.zeros(2)
    state["classifier.blocks.0.linear1.weight"] = torch.zeros(5, 128)
    torch.save(state, tmp_path / "x.pth")
    with pytest.raises(InputError) as error:
        create_model(LEARNABLE, pretrained=tmp_path / "x.pth")
    message = str(error.value)
    assert "missing encoder.norm.bias" in message
    assert "unexpected classifier.extra" in message
    assert "encoder.blocks.0.mlp.fc1.weight (shape 5x128 stored, 128x128 wanted)" in message
    assert message.count("missing") == message.count("unexpected") == message.count("(shape ") == 1
    assert "(it is of another size or has other parts): choose" in message


def test_five_names_and_the_likely_reason(tmp_path: Path, golden_state: State) -> None:
    torch.save(golden_state(SINE), tmp_path / "x.pth")
    with pytest.raises(InputError, match=rf"and \d+ more \(its shapes are those of {SINE}\): choose") as error:
        create_model(LEARNABLE, pretrained=tmp_path / "x.pth")
    assert len(re.findall("missing|unexpected|stored", str(error.value))) == 5
    assert "\n" not in str(error.value)
    torch.save({"layer.weight": torch.zeros(2), "last.weight": torch.zeros(2)}, tmp_path / "x.pth")
    with pytest.raises(InputError, match="no name is the model's, so it is another one"):
        create_model(LEARNABLE, pretrained=tmp_path / "x.pth")


@pytest.mark.parametrize(
    ("pretrained", "message"),
    [
        ("cifar10_30epochs", "Did you mean 'cifar10_300epochs'"),
        ("nothing.pth", "does not exist"),
        ("some/folder/x", "does not exist"),
        (True, "no published weights"),
    ],
)
def test_no_such_weights(pretrained: bool | str, message: str) -> None:
    name = "cct_2_3x2" if pretrained is True else "cct_7_3x1"
    with pytest.raises(InputError, match=message):
        create_model(name, pretrained=pretrained)


def test_not_told_which_model(tmp_path: Path) -> None:
    torch.save(create_model("cct_3_3x1").state_dict(), tmp_path / "x.pth")
    with pytest.raises(InputError, match="does not tell which model"):
        load_model(tmp_path / "x.pth")
    assert load_model(tmp_path / "x.pth", arch="cct_3_3x1")[0].arch.depth == 3
