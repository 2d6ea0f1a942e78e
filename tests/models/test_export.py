"""Exported files against the model, on real images and at several batch sizes."""

import json
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.datasets import load_sample_images
from torch import Tensor

from cct_lightning.commands.export import export
from cct_lightning.errors import InputError
from cct_lightning.models.factory import create_model, load_model

State = Callable[[str], dict[str, Tensor]]
NAMES = ["cct_2_3x2_32", "vit_2_4_32_sine"]


def photographs(count: int, side: int) -> Tensor:
    """Crops of the two photographs that scikit-learn brings, normalized."""
    draw = np.random.RandomState(0)
    crops = []
    for i in range(count):
        photo = load_sample_images().images[i % 2]
        top, left = draw.randint(0, 427 - 2 * side), draw.randint(0, 640 - 2 * side)
        crops.append(photo[top : top + 2 * side : 2, left : left + 2 * side : 2])
    return torch.from_numpy(np.stack(crops)).permute(0, 3, 1, 2).float() / 127.5 - 1


@pytest.fixture
def ckpt(tmp_path: Path, golden_state: State) -> Callable[[str], Path]:
    def save(name: str) -> Path:
        torch.save(golden_state(name), tmp_path / "model.pth")
        return tmp_path / "model.pth"

    return save


@pytest.mark.parametrize("name", NAMES)
@torch.no_grad()
def test_onnx_agrees(name: str, ckpt: Callable[[str], Path]) -> None:
    runtime = pytest.importorskip("onnxruntime")
    path = export(ckpt(name))
    assert path.name == "model.onnx"
    session = runtime.InferenceSession(path, providers=["CPUExecutionProvider"])
    assert session.get_inputs()[0].shape == ["batch", 3, 32, 32]
    model, _ = load_model(ckpt(name))
    for batch in (1, 3, 8):
        images = photographs(batch, 32)
        (logits,) = session.run(None, {"images": images.numpy()})
        expected = model(images)
        assert expected.std() > 0.1
        torch.testing.assert_close(torch.from_numpy(logits), expected, rtol=0, atol=1e-4)
    about = {key: json.loads(value) for key, value in session.get_modelmeta().custom_metadata_map.items()}
    assert about["arch"] == name
    assert about["img_size"] == [32, 32]
    assert about["classes"] == [str(k) for k in range(10)]


@torch.no_grad()
def test_program_agrees(ckpt: Callable[[str], Path]) -> None:
    name = NAMES[0]
    path = export(ckpt(name), format="torch", img_size=(48, 40))
    extra = {"metadata.json": ""}
    program = torch.export.load(path, extra_files=extra).module()
    model, _ = load_model(ckpt(name))
    for batch in (1, 3, 8):
        images = photographs(batch, 48)[..., :40]
        torch.testing.assert_close(program(images), model(images), rtol=0, atol=1e-4)
    assert json.loads(extra["metadata.json"])["img_size"] == [48, 40]


def test_metadata_of_our_checkpoints(tmp_path: Path) -> None:
    model = load_model_state("cct_2_3x1", (8, 8), 1, 3)
    hparams = {
        "arch": "cct_2_3x1", "img_size": [8, 8], "in_chans": 1, "num_classes": 3,
        "classes": ["zero", "one", "two"], "mean": [0.3], "std": [0.4],
    }  # fmt: skip
    state = {f"net.{key}": value for key, value in model.items()}
    content = {"pytorch-lightning_version": "2.6.1", "state_dict": state, "hyper_parameters": hparams}
    torch.save(content, tmp_path / "x.ckpt")
    extra = {"metadata.json": ""}
    torch.export.load(export(tmp_path / "x.ckpt", tmp_path / "new" / "y.pt2", format="torch"), extra_files=extra)
    about = json.loads(extra["metadata.json"])
    preprocessing = about.pop("preprocessing")
    assert about == {key: value for key, value in hparams.items() if key != "num_classes"}
    # Version 0.1 said nothing of it: files are decoded at the model's size.
    assert preprocessing == {
        "stored_size": [8, 8], "fit": "crop", "interpolation": "bilinear", "decode_interpolation": "bicubic",
        "max_value": 255,
    }  # fmt: skip


def load_model_state(name: str, img_size: tuple[int, int], in_chans: int, num_classes: int) -> dict[str, Tensor]:
    return create_model(name, img_size=img_size, in_chans=in_chans, num_classes=num_classes).state_dict()


def test_bad_input_leaves_nothing(ckpt: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch) -> None:
    path = ckpt(NAMES[0])
    with pytest.raises(InputError, match=r"must end in \.onnx"):
        export(path, path.with_suffix(".bin"))
    with pytest.raises(InputError, match="choose onnx or torch"):
        export(path, format="tflite")
    with pytest.raises(InputError, match="img_size"):
        export(path, img_size=(0, 0), format="torch")
    with pytest.raises(InputError, match="does not exist"):
        export(path.with_name("nothing.ckpt"), format="torch")
    with pytest.raises(InputError, match="Name the file to write"):
        export(Path("hf-hub:me/model"), format="torch")
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    with pytest.raises(InputError, match=r"pip install 'cct_lightning\[onnx\]'"):
        export(path)
    assert [file.name for file in path.parent.iterdir()] == ["model.pth"]
