"""Round trips through `convert`: every published variant, and all that our checkpoints hold."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from cct_lightning.commands.convert import convert
from cct_lightning.errors import InputError
from cct_lightning.models.arch import PUBLISHED
from cct_lightning.models.factory import create_model, load_model
from cct_lightning.models.weights.reader import read_weights
from cct_lightning.training.module import Classifier

State = Callable[[str], dict[str, Tensor]]


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return set(one) == set(other) and all(
        one[name].dtype == other[name].dtype and torch.equal(one[name], other[name]) for name in one
    )


@pytest.mark.parametrize("name", PUBLISHED)
def test_round_trip_of_every_published_variant(name: str, tmp_path: Path, golden_state: State) -> None:
    original = golden_state(name)
    torch.save(original, tmp_path / "a.pth")
    convert(tmp_path / "a.pth", tmp_path / "b.safetensors")
    convert(tmp_path / "b.safetensors", tmp_path / "c.ckpt")
    convert(tmp_path / "c.ckpt", tmp_path / "d.pth")
    back = torch.load(tmp_path / "d.pth", weights_only=True)
    assert same(original, back)
    described = read_weights(tmp_path / "d.pth").hparams
    # Where two data sets share everything, the name of the first one is found.
    assert described["arch"] == name
    assert same(read_weights(tmp_path / "b.safetensors").state, read_weights(tmp_path / "c.ckpt").state)


def test_hyperparameters_survive(tmp_path: Path) -> None:
    module = Classifier(
        arch="cct_2_3x1", pool="class_token", img_size=(8, 12), in_chans=1, num_classes=3,
        classes=["a", "b ü", "c"], mean=[0.25], std=[0.5],
    )  # fmt: skip
    hparams = dict(module.hparams)
    content = {
        "pytorch-lightning_version": "2.6.1",
        "state_dict": module.state_dict(),
        "hyper_parameters": hparams,
        "optimizer_states": [{"state": {}}],
    }
    torch.save(content, tmp_path / "a.ckpt")
    for src, dst in (("a.ckpt", "b.safetensors"), ("b.safetensors", "c.pth"), ("c.pth", "d.ckpt")):
        convert(tmp_path / src, tmp_path / dst)
    again = read_weights(tmp_path / "d.ckpt")
    plain = {key: list(value) if isinstance(value, tuple) else value for key, value in hparams.items()}
    assert {key: value for key, value in again.hparams.items() if key != "optim"} == {
        key: value for key, value in plain.items() if key != "optim"
    }
    assert same(again.state, module.net.state_dict())
    model, _ = load_model(tmp_path / "b.safetensors")
    assert (model.arch.pool, model.arch.img_size, model.arch.num_classes) == ("class_token", (8, 12), 3)


def test_lightning_reads_what_we_write(tmp_path: Path, golden_state: State) -> None:
    state = golden_state("cct_2_3x2_32")
    torch.save(state, tmp_path / "a.pth")
    module = Classifier.load(convert(tmp_path / "a.pth", tmp_path / "b.ckpt"))
    assert same(module.net.state_dict(), read_weights(tmp_path / "a.pth").state)
    assert module.hparams["arch"] == "cct_2_3x2_32"
    # A learned table under a name that says sine stays learned.
    torch.save(state, tmp_path / "c.pth")
    module = Classifier.load(convert(tmp_path / "c.pth", tmp_path / "d.ckpt", arch="cct_2_3x2_32_sine"))
    assert module.net.arch.position == "learnable"


def test_the_reference_reads_what_we_write(tmp_path: Path, golden_state: State) -> None:
    names = list(golden_state("cct_2_3x2_32"))
    torch.save(create_model("cct_2_3x2_32").state_dict(), tmp_path / "a.pth")
    content = torch.load(convert(tmp_path / "a.pth", tmp_path / "b.pth"), weights_only=True)
    assert list(content) == names  # in the published order
    assert all(isinstance(value, Tensor) for value in content.values())


def test_a_baseline(tmp_path: Path) -> None:
    model = create_model("mobilenet_v2", num_classes=3)
    torch.save(model.state_dict(), tmp_path / "a.pth")
    for src, dst in (("a.pth", "b.safetensors"), ("b.safetensors", "c.ckpt"), ("c.ckpt", "d.pth")):
        convert(tmp_path / src, tmp_path / dst, arch="mobilenet_v2")
    assert same(torch.load(tmp_path / "d.pth", weights_only=True), model.state_dict())


def test_bad_input_leaves_nothing(tmp_path: Path, golden_state: State) -> None:
    torch.save(golden_state("cct_2_3x2_32"), tmp_path / "a.pth")
    with pytest.raises(InputError, match=r"none of \.ckpt, \.pth"):
        convert(tmp_path / "a.pth", tmp_path / "b.bin")
    with pytest.raises(InputError, match="exists"):
        convert(tmp_path / "a.pth", tmp_path / "a.pth")
    with pytest.raises(InputError, match="does not fit cct_4_3x2"):
        convert(tmp_path / "a.pth", tmp_path / "b.ckpt", arch="cct_4_3x2")
    with pytest.raises(InputError, match="does not exist"):
        convert(tmp_path / "b.pth", tmp_path / "b.ckpt")
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="Cannot write"):
        convert(tmp_path / "a.pth", tmp_path / "file" / "b.ckpt")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.pth", "file"]
    (tmp_path / "b.ckpt").touch()
    convert(tmp_path / "a.pth", tmp_path / "b.ckpt", overwrite=True)
    assert read_weights(tmp_path / "b.ckpt").hparams["arch"] == "cct_2_3x2_32"
