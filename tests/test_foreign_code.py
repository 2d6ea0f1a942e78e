"""Code that a file of weights names is not imported, by any way in, unless the user repeats its import path."""

import importlib
import json
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from cct_lightning.compat import set_state_dict_metadata
from cct_lightning.errors import InputError
from cct_lightning.models.factory import create_model, load_model
from cct_lightning.models.weights.reader import HPARAMS
from cct_lightning.runs.folder import RunFolder
from cct_lightning.system import importing
from cct_lightning.training.module import Classifier

Cct = Callable[..., tuple[int, str, str]]
# Its import leaves a trace beside it.
MY_LAB = """
from pathlib import Path
from torch import nn
from cct_lightning.models.pooling import Pooling

Path(__file__).with_name("ran").touch()

class Mean(Pooling):
    def __init__(self, *, embed_dim, scale=1.0):
        super().__init__(embed_dim=embed_dim)
        self.scale = scale

    def forward(self, tokens):
        return tokens.mean(1) * self.scale

    def weights(self, tokens):
        return tokens.new_full(tokens.shape[:2], 1 / tokens.shape[1])

class Net(nn.Module):
    def __init__(self, *, img_size, in_chans, num_classes, width=4):
        super().__init__()
        self.out = nn.Linear(in_chans * img_size[0] * img_size[1], num_classes)

    def forward(self, images):
        return self.out(images.flatten(1))

class Loss(nn.CrossEntropyLoss):
    pass
"""
PIXELS = {"img_size": [8, 8], "in_chans": 1, "num_classes": 10, "mean": [0.3], "std": [0.4]}


@pytest.fixture(autouse=True)
def ran(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The trace that an import leaves, in a folder with an image and the author's module."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(importing, "_imported", set())
    (tmp_path / "my_lab.py").write_text(MY_LAB)
    importlib.invalidate_caches()
    Image.fromarray(np.full((8, 8), 99, np.uint8)).save(tmp_path / "x.png")
    return tmp_path / "ran"


def save(path: Path, **described: Any) -> Path:
    """Save weights with a description as `cct fit` and `cct convert` write them."""
    hparams = {"arch": "cct_2_3x1", **PIXELS, **described}
    net = create_model("cct_2_3x1", pool="mean", img_size=8, in_chans=1)
    state = net.state_dict()
    if "Net" in str(hparams["arch"]):
        state = OrderedDict({"out.weight": torch.zeros(10, 64), "out.bias": torch.zeros(10)})
    if path.suffix == ".safetensors":
        save_file(state, path, metadata={HPARAMS: json.dumps(hparams)})
    elif path.suffix == ".pth":
        set_state_dict_metadata(state, {HPARAMS: hparams})
        torch.save(state, path)
    else:
        content = {"pytorch-lightning_version": "2.6.1", "epoch": 0, "global_step": 0, "hyper_parameters": hparams}
        torch.save({**content, "state_dict": {f"net.{name}": value for name, value in state.items()}}, path)
    return path


FOREIGN: list[dict[str, Any]] = [
    {"pool": "my_lab.Mean"},
    {"pool": {"class_path": "my_lab.Mean", "init_args": {"scale": 2.0}}},
    {"parts": {"pool": "my_lab.Mean"}},  # as version 0.1 kept it
    {"arch": "my_lab.Net"},
    {"arch": {"class_path": "my_lab.Net", "init_args": {"width": 2}}},
]
COMMANDS = {
    "predict": ["predict", "FILE", "x.png"],
    "explain": ["explain", "FILE", "x.png"],
    "export": ["export", "FILE", "--format", "torch"],
    "convert": ["convert", "FILE", "out.safetensors"],
    "test": ["test", "--ckpt_path", "FILE", "--data.name", "digits"],
    "validate": ["validate", "--ckpt_path", "FILE", "--data.name", "digits"],
}


@pytest.mark.parametrize("described", FOREIGN, ids=str)
@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("ending", [".ckpt", ".pth", ".safetensors"])
def test_every_command_refuses(
    command: str, ending: str, described: dict[str, Any], cct: Cct, ran: Path, tmp_path: Path
) -> None:
    path = save(tmp_path / f"w{ending}", **described)
    before = set(tmp_path.iterdir())
    code, out, err = cct(*(str(path) if word == "FILE" else word for word in COMMANDS[command]))
    assert code == 2, out + err
    assert err.count("\n") == 1
    if ending == ".ckpt" or command not in ("test", "validate"):  # which take Lightning's checkpoints alone
        name = "my_lab.Net" if "arch" in described else "my_lab.Mean"
        assert f"names code that loading it would run ({name})" in err
        assert f"--allow_import {name}" in err
    assert set(tmp_path.iterdir()) == before
    assert not ran.exists()


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("described", [FOREIGN[1], FOREIGN[4]], ids=str)
def test_every_command_takes_what_is_repeated(
    command: str, described: dict[str, Any], cct: Cct, ran: Path, tmp_path: Path
) -> None:
    path, name = save(tmp_path / "w.ckpt", **described), "my_lab.Net" if "arch" in described else "my_lab.Mean"
    words = [str(path) if word == "FILE" else word for word in COMMANDS[command]]
    code, out, err = cct(*words, "--allow_import", name)
    assert code == 0, out + err
    assert ran.exists()


def test_the_name_of_the_model_is_a_repetition_with_its_arguments(cct: Cct, tmp_path: Path) -> None:
    path = save(tmp_path / "w.safetensors", **FOREIGN[4])
    code, out, err = cct("convert", str(path), "out.safetensors", "--arch", "my_lab.Net")
    assert code == 0, out + err
    assert load_model(tmp_path / "out.safetensors")[1].hparams["arch"] == FOREIGN[4]["arch"]


@pytest.mark.parametrize("word", ["--model.loss=my_lab.Loss", '--model.loss={"class_path": "my_lab.Loss"}', "YAML"])
def test_an_option_of_test_is_a_repetition(word: str, cct: Cct, tmp_path: Path) -> None:
    path = save(tmp_path / "w.ckpt", pool="mean", loss="my_lab.Loss")
    (tmp_path / "mine.yaml").write_text("model: {loss: my_lab.Loss}\n")
    test = ["test", "--ckpt_path", str(path), "--data.name", "digits"]
    code, _, err = cct(*test)
    assert (code, "(my_lab.Loss)" in err) == (2, True), err
    code, out, err = cct(*test, *(["--config", "mine.yaml"] if word == "YAML" else [word]))
    assert code == 0, out + err


@pytest.mark.parametrize(
    "config",
    [
        {"model": {"arch": "cct_2_3x1", "pool": "my_lab.Mean"}},
        {"model": {"arch": "cct_2_3x1", "optim": {"optimizer": "my_lab.Mean"}}},
        {"model": {"arch": "cct_2_3x1", "pretrained": True}},  # then the position is that of the hyperparameters
        {"data": {"name": "my_lab.Mean"}},
        {"data": {"name": "digits", "augment": {"auto": "randaugment", "extra_ops": ["my_lab.Mean"]}}},
        # What the parser imports before it refuses it.
        {"model": {"optim": "my_lab.Mean"}},
        {"model": {"finetune": {"class_path": "my_lab.Mean"}}},
        {"model": {"optim": {"optimizer": {"class_path": "adamw", "init_args": {"x": {"class_path": "my_lab.Mean"}}}}}},
        {"data": {"mixing": "my_lab.Mean"}},
        {"data": {"augment": {"class_path": "my_lab.Mean"}}},
    ],
    ids=str,
)
@pytest.mark.parametrize("name", ["w.ckpt", "my_lab.Mean"])  # whoever names the file repeats nothing
def test_options_of_the_run_in_a_checkpoint(name: str, config: dict[str, Any], cct: Cct, ran: Path) -> None:
    content = torch.load(save(Path("a.ckpt"), position="my_lab.Mean"), weights_only=True)
    torch.save({**content, "config": config}, name)
    for words in (["--ckpt_path", name], [f"--ckpt_path={name}"]):
        code, _, err = cct("test", *words)
        assert (code, "(my_lab.Mean)" in err) == (2, True), err
    assert not ran.exists()


@pytest.mark.parametrize("key", ["pool", "position", "optim", "finetune", "loss"])
@pytest.mark.parametrize(
    "text", ["{class_path: my_lab.Mean}", '{"class_path": "my_lab.Mean"}', "my_lab.Mean\n", "my_lab.Mean#", "options"]
)
def test_texts_in_a_checkpoint_are_no_yaml(text: str, key: str, cct: Cct, ran: Path) -> None:
    content = torch.load(save(Path("a.ckpt")), weights_only=True)
    Path("options").write_text("class_path: my_lab.Mean\n")
    torch.save({**content, "config": {"model": {"arch": "cct_2_3x1", key: text}}}, "w.ckpt")
    code, _, err = cct("test", "--ckpt_path", "w.ckpt")
    assert (code, err.count("\n")) == (2, 1), err
    torch.save({**content, "hyper_parameters": {**content["hyper_parameters"], key: text}}, "w.ckpt")
    assert cct("test", "--ckpt_path", "w.ckpt", "--data.name", "digits")[0] == 2
    assert not ran.exists()


@pytest.mark.parametrize("name", ["best[my_lab.Mean].ckpt", "a my_lab.Mean", "a=my_lab.Mean"])
def test_the_author_of_a_file_repeats_nothing_by_its_name(name: str, cct: Cct, ran: Path) -> None:
    save(Path("a.ckpt"), pool="my_lab.Mean").rename(name)
    for words in (["--ckpt_path", name], [f"--ckpt_path={name}"]):
        code, _, err = cct("test", *words, "--data.name", "digits")
        assert (code, "(my_lab.Mean)" in err) == (2, True), err
    assert not ran.exists()


def test_hyperparameters_are_neither_one_argument_nor_in_a_file(ran: Path, tmp_path: Path) -> None:
    path = save(tmp_path / "w.ckpt", pool="mean")
    content = torch.load(path, weights_only=True)
    foreign = {"class_path": "my_lab.Net"}
    torch.save({**content, "hparams_name": "arch", "hyper_parameters": foreign}, tmp_path / "one.ckpt")
    (tmp_path / "hparams.yaml").write_text("arch: my_lab.Net\n")
    for load in (Classifier.load, Classifier.load_from_checkpoint):
        with pytest.raises(InputError):
            load(tmp_path / "one.ckpt")
    with pytest.raises(InputError, match="in a file"):
        Classifier.load_from_checkpoint(path, hparams_file=tmp_path / "hparams.yaml")
    assert not ran.exists()


@pytest.mark.parametrize("described", [*FOREIGN, {"loss": "my_lab.Loss"}, {"optim": {"optimizer": "my_lab.Loss"}}])
def test_python_refuses(described: dict[str, Any], ran: Path, tmp_path: Path) -> None:
    path = save(tmp_path / "w.ckpt", **described)
    content = torch.load(path, weights_only=True)
    for key in ("hparams", "module_arguments"):  # which Lightning takes, too
        torch.save({**content, "hyper_parameters": {}, key: content["hyper_parameters"]}, tmp_path / f"{key}.ckpt")
    loads: list[Callable[[Path], object]] = [Classifier.load, Classifier.load_from_checkpoint]
    if not {"loss", "optim"} & described.keys():  # which a network has not
        with pytest.raises(InputError, match="names code that loading it would run"):
            load_model(path)
    for load in loads:
        for file in (path, tmp_path / "hparams.ckpt", tmp_path / "module_arguments.ckpt"):
            with pytest.raises(InputError, match=r"in Python as allow_import=\['my_lab\.(Mean|Net|Loss)'\]"):
                load(file)
    assert not ran.exists()


@torch.no_grad()
def test_python_takes_what_is_repeated(ran: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, images = save(tmp_path / "w.ckpt", pool=FOREIGN[1]["pool"]), torch.randn(2, 1, 8, 8)
    model = Classifier.load(path, allow_import=["my_lab.Mean"])
    assert model.net.pool.scale == 2
    assert ran.exists()
    # From now on the user has chosen it.
    assert torch.equal(load_model(path)[0](images), model(images))
    monkeypatch.setattr(importing, "_imported", set())
    assert torch.equal(load_model(path, allow_import=["my_lab.Mean"])[0](images), model(images))
    monkeypatch.setattr(importing, "_imported", set())
    again = Classifier.load_from_checkpoint(path, pool=FOREIGN[1]["pool"]).eval()
    assert torch.equal(again(images), model(images))


@pytest.mark.parametrize(
    "data", [{"name": "my_lab.Mean"}, {"name": "digits", "augment": {"auto": "randaugment", "extra_ops": ["my_lab.f"]}}]
)
def test_a_run_folder_is_read_without_its_code(data: dict[str, Any], ran: Path, cct: Cct, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.yaml").write_text(json.dumps({"model": {"arch": "cct_2_3x1"}, "data": data}))
    (tmp_path / "run" / "summary.json").write_text(json.dumps({"status": "finished", "test/acc": 0.5}))
    save(tmp_path / "run" / "best.ckpt")
    assert RunFolder(tmp_path / "run").config() is not None
    assert cct("compare", "run")[0] == 0
    cct("test", "--run_dir", "run", "--data.name", "digits")
    assert not ran.exists()


def test_options_that_are_none(cct: Cct, tmp_path: Path) -> None:
    content = torch.load(save(tmp_path / "w.ckpt"), weights_only=True)
    torch.save({**content, "config": {"model": "cct_2_3x1"}}, tmp_path / "w.ckpt")
    code, _, err = cct("test", "--ckpt_path", "w.ckpt")
    assert (code, "its options of the model are no options" in err) == (2, True), err


def test_the_parser_of_lightning_builds_nothing(ran: Path, tmp_path: Path) -> None:
    hparams = {"_instantiator": "pytorch_lightning.cli.instantiate_module", "optim": {"class_path": "my_lab.Mean"}}
    for load in (Classifier.load, Classifier.load_from_checkpoint):
        with pytest.raises(InputError, match=r"would run \(pytorch_lightning\.cli\.instantiate_module\)"):
            load(save(tmp_path / "w.ckpt", **hparams))
    assert not ran.exists()


def test_weights_to_start_from_name_no_code(ran: Path, tmp_path: Path) -> None:
    path = save(tmp_path / "w.ckpt", pool="my_lab.Mean")
    with pytest.raises(InputError, match=r"with pool='my_lab\.Mean' and does not fit cct_2_3x1, which has pool='seqp"):
        create_model("cct_2_3x1", pretrained=path)
    create_model("cct_2_3x1", pretrained=path, pool="mean")
    with pytest.raises(InputError, match=r"with pool='my_lab\.Mean'"):
        Classifier(arch="cct_2_3x1", pretrained=str(path), img_size=(8, 8), in_chans=1)
    assert not ran.exists()


def test_losses_and_optimizers_of_torch_are_known(tmp_path: Path) -> None:
    path = save(
        tmp_path / "w.ckpt", pool="mean", loss="torch.nn.MultiMarginLoss", optim={"optimizer": "torch.optim.NAdam"}
    )
    assert isinstance(Classifier.load(path).loss, torch.nn.MultiMarginLoss)
