"""One answer to what happens to pixels: test, predict, explain and exported files show a model the same images."""

import base64
import csv
import io
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from PIL import Image
from torch import Tensor

from cct_lightning.commands.convert import convert
from cct_lightning.commands.explain import explain
from cct_lightning.commands.export import export
from cct_lightning.commands.predict import predict
from cct_lightning.data import ImageDataModule
from cct_lightning.data.augment.input_transform import InputTransform
from cct_lightning.data.input_spec import InputSpec, stored_input_spec
from cct_lightning.errors import InputError
from cct_lightning.training.module import Classifier

MakeTree = Callable[..., Path]
LINKED = ("img_size", "in_chans", "num_classes", "classes", "mean", "std", "preprocessing")


class Keep(pl.Callback):
    """Keeps what the test step gave the model, and what the model said."""

    def __init__(self) -> None:
        self.seen: list[Tensor] = []
        self.probabilities: list[Tensor] = []
        self.index: list[Tensor] = []

    @torch.no_grad()
    def on_test_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, *_: Any) -> None:
        self.seen.append(batch.image)
        self.index.append(batch.index)
        self.probabilities.append(pl_module(batch.image).softmax(-1))


def evaluated(data: ImageDataModule, folder: Path) -> tuple[Path, dict[int, Tensor], dict[int, Tensor], list[Path]]:
    """Test a fresh model and save it; probabilities and pixels by image, and each image as a file of stored pixels."""
    torch.manual_seed(0)
    model = Classifier(arch="cct_2_3x1", **{name: getattr(data, name) for name in LINKED})
    with torch.no_grad():
        model.net.head.weight.mul_(10)  # probabilities that differ
    keep = Keep()
    trainer = pl.Trainer(
        accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False, callbacks=[keep],
        enable_model_summary=False, default_root_dir=folder,
    )  # fmt: skip
    trainer.test(model, data, verbose=False)
    trainer.save_checkpoint(folder / "best.ckpt")
    files = []
    (folder / "files").mkdir()
    index = torch.cat(keep.index).tolist()
    stored = data.stored.dataset(torch.tensor(index)).__getitems__(range(len(index))).image
    for i, pixels in zip(index, stored.numpy(), strict=True):
        files.append(folder / "files" / f"{i:04d}.png")
        Image.fromarray(pixels[0] if len(pixels) == 1 else pixels.transpose(1, 2, 0)).save(files[-1])
    probabilities, seen = torch.cat(keep.probabilities), torch.cat(keep.seen)
    return (
        folder / "best.ckpt",
        dict(zip(index, probabilities, strict=True)),
        dict(zip(index, seen, strict=True)),
        files,
    )


def make_data(kind: str, make_tree: MakeTree, cifar_root: Path) -> ImageDataModule:
    if kind == "digits at 16":
        return ImageDataModule(name="digits", img_size=16)
    if kind == "cifar10":
        return ImageDataModule(name="cifar10", root=str(cifar_root), batch_size=16)
    color = "RGB" in kind
    root = make_tree(train=4, test=5, side=44, color=color)
    size: dict[str, Any] = {"img_size": 32, "stored_size": 40} if "stored" in kind else {"img_size": (24, 32)}
    return ImageDataModule(name="folder", root=str(root), batch_size=4, **size)


KINDS = ["digits at 16", "cifar10", "grey stored at 40", "RGB stored at 40", "RGB, not square"]


@pytest.mark.parametrize("kind", KINDS)
def test_predict_explain_and_exports_show_what_the_test_shows(
    kind: str, make_tree: MakeTree, cifar_root: Path, tmp_path: Path
) -> None:
    """Stored at 40 and shown at 32, `cct predict` squeezed what `cct test` crops; digits at 16 it resized otherwise."""
    data = make_data(kind, make_tree, cifar_root)
    ckpt, probabilities, seen, files = evaluated(data, tmp_path)
    predict(ckpt, files, tmp_path / "p.csv", device="cpu")
    with (tmp_path / "p.csv").open() as file:
        rows = list(csv.DictReader(file))
    for row in rows:
        expected = probabilities[int(Path(row["file"]).stem)]
        found = {name: float(p) for name, p in (pair.rsplit(":", 1) for pair in row["top5"].split(";"))}
        for name, probability in found.items():
            assert probability == pytest.approx(expected[data.classes.index(name)].item(), abs=2e-6)
    assert len({row["probability"] for row in rows}) > 5

    spec = data.input_spec
    assert InputSpec.from_hparams(torch.load(ckpt, weights_only=True)["hyper_parameters"]) == spec
    assert stored_input_spec(ckpt) == spec
    assert stored_input_spec(convert(ckpt, tmp_path / "x.safetensors")) == spec
    assert stored_input_spec(convert(ckpt, tmp_path / "x.pth")) == spec
    # One function says how a file becomes stored pixels, one how those become what the model takes.
    batch = torch.from_numpy(np.stack([spec.decode(path) for path in files]))
    inputs = InputTransform(spec)
    assert torch.equal(inputs(batch), torch.stack([seen[int(path.stem)] for path in files]))

    explain(ckpt, files[:3], tmp_path / "page.html", device="cpu")
    pictures = re.findall(r'base64,([^"]+)" alt="Image"', (tmp_path / "page.html").read_text())
    for picture, shown in zip(pictures, inputs.shown(batch[:3]), strict=True):
        pixels = np.asarray(Image.open(io.BytesIO(base64.b64decode(picture))).convert("RGB"))
        assert (pixels == shown.expand(3, -1, -1).permute(1, 2, 0).numpy()).all()

    extra = {"metadata.json": ""}
    torch.export.load(export(ckpt, format="torch"), extra_files=extra)
    assert InputSpec.from_hparams(json.loads(extra["metadata.json"])) == spec


@pytest.mark.parametrize("kind", ["digits at 16", "RGB stored at 40"])
def test_onnx_needs_nothing_but_its_metadata(kind: str, make_tree: MakeTree, cifar_root: Path, tmp_path: Path) -> None:
    runtime = pytest.importorskip("onnxruntime")
    ckpt, probabilities, _, files = evaluated(make_data(kind, make_tree, cifar_root), tmp_path)
    session = runtime.InferenceSession(export(ckpt), providers=["CPUExecutionProvider"])
    about = {key: json.loads(value) for key, value in session.get_modelmeta().custom_metadata_map.items()}
    spec = InputSpec.from_hparams(about)
    assert spec == stored_input_spec(ckpt)
    # By hand, as a user without this package would; the files have the stored size.
    how, (height, width) = about["preprocessing"], about["img_size"]
    pixels = []
    for path in files[:20]:
        image = Image.open(path).convert("L" if about["in_chans"] == 1 else "RGB")
        assert [image.height, image.width] == how["stored_size"]
        if how["fit"] == "crop":
            left, top = (image.width - width) // 2, (image.height - height) // 2
            image = image.crop((left, top, left + width, top + height))
        else:
            image = image.resize((width, height), Image.Resampling[how["interpolation"].upper()])
        pixels.append(np.atleast_3d(np.asarray(image)).transpose(2, 0, 1))
    shape = (-1, 1, 1)
    mean, std = (np.array(about[name], np.float32).reshape(shape) for name in ("mean", "std"))
    images = (np.stack(pixels).astype(np.float32) / how["max_value"] - mean) / std
    (logits,) = session.run(None, {"images": images})
    found = torch.from_numpy(logits).softmax(-1)
    expected = torch.stack([probabilities[int(path.stem)] for path in files[:20]])
    # The resize differs from Pillow's in the rounding of a few pixels.
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5 if how["fit"] == "crop" else 0.05)
    seen = InputTransform(spec)(torch.from_numpy(np.stack([spec.decode(path) for path in files[:20]])))
    (logits,) = session.run(None, {"images": seen.numpy()})
    torch.testing.assert_close(torch.from_numpy(logits).softmax(-1), expected, rtol=0, atol=1e-5)


def test_checkpoints_of_version_0_1_keep_their_meaning() -> None:
    folder = Path(__file__).parents[1] / "survival"
    for path in (folder / "version_0_1.ckpt", folder / "version_0_1" / "best.ckpt"):
        hparams = torch.load(path, weights_only=True)["hyper_parameters"]
        assert "preprocessing" not in hparams
        spec = stored_input_spec(path)
        assert spec is not None
        assert spec.stored_size == spec.img_size == tuple(hparams["img_size"])
        assert (spec.mean, spec.std) == (tuple(hparams["mean"]), tuple(hparams["std"]))
        assert list(spec.classes) == hparams["classes"]
        assert Classifier.load(path).hparams["preprocessing"] is None


def test_weights_alone_say_nothing_of_their_images(tmp_path: Path) -> None:
    torch.save(Classifier(arch="cct_2_3x1").net.state_dict(), tmp_path / "x.pth")
    assert stored_input_spec(tmp_path / "x.pth") is None


SPEC = InputSpec(in_chans=1, img_size=(8, 8), stored_size=(10, 12), mean=(0.3,), std=(0.4,), classes=("a", "b"))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"fit": "squeeze"}, "fit is one of crop, resize; got 'squeeze'"),
        ({"interpolation": "nearest"}, "interpolation is one of bilinear, bicubic"),
        ({"stored_size": [0, 8]}, "stored_size is a height and a width"),
        ({"stored_size": [4, 8]}, "too small for a crop of"),
        ({"gamma": 2.2}, "unknown 'gamma': update cct_lightning"),
    ],
)
def test_a_spec_that_cannot_be_is_one_sentence(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        InputSpec.from_hparams({**SPEC.as_dict(), "preprocessing": {**SPEC.preprocessing, **changes}})


def test_a_model_of_another_size_sees_the_same_part_of_an_image() -> None:
    assert SPEC.at_size((16, 16)).stored_size == (20, 24)
    whole = InputSpec(in_chans=1, img_size=(16, 16), stored_size=(8, 8), fit="resize")
    assert whole.at_size((24, 24)).stored_size == (8, 8)


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
def test_resizing_is_pillows(interpolation: Any, scans: tuple[np.ndarray, np.ndarray]) -> None:
    spec = InputSpec(
        in_chans=1, img_size=(20, 13), stored_size=(8, 8), fit="resize", interpolation=interpolation, mean=(0.0,),
        std=(1.0,),
    )  # fmt: skip
    ours = InputTransform(spec).shown(torch.from_numpy(scans[0][:20, None]))
    for image, scan in zip(ours[:, 0].numpy(), scans[0], strict=False):
        pillows = Image.fromarray(scan).resize((13, 20), Image.Resampling[interpolation.upper()])
        assert np.abs(image.astype(int) - np.asarray(pillows)).max() <= 1


def test_constants_stay_float32_and_autocast_changes_nothing() -> None:
    images = torch.arange(256, dtype=torch.uint8).reshape(2, 1, 8, 16)
    inputs = InputTransform(SPEC)
    expected = inputs(images)
    assert torch.equal(inputs.to(torch.bfloat16)(images), expected)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(inputs(images), expected)
    assert torch.equal(inputs.to_pixels(expected), inputs.shown(images))
    assert inputs.state_dict() == {}
