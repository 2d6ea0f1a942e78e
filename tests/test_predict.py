"""`predict` on real image files, some of them broken."""

import csv
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.datasets import load_digits, load_sample_images

from cct_lightning.commands.predict import COLUMNS, predict
from cct_lightning.errors import InputError
from cct_lightning.models.factory import create_model

CLASSES = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]


def save_checkpoint(path: Path, **changes: object) -> torch.nn.Module:
    torch.manual_seed(0)
    model = create_model("cct_2_3x1", img_size=8, in_chans=1)
    with torch.no_grad():
        model.head.weight.mul_(20)  # probabilities that differ
    hparams = {
        "arch": "cct_2_3x1", "img_size": [8, 8], "in_chans": 1, "num_classes": 10,
        "classes": CLASSES, "mean": [0.3], "std": [0.4], **changes,
    }  # fmt: skip
    state = {f"net.{name}": value for name, value in model.state_dict().items()}
    content = {"pytorch-lightning_version": "2.6.1", "state_dict": state, "hyper_parameters": hparams}
    torch.save(content, path)
    return model.eval()


@pytest.fixture
def digits(tmp_path: Path) -> Path:
    """40 real digits in two folders, one in a subfolder with another ending."""
    images = (load_digits().images * 15.9).astype(np.uint8)
    for k in range(40):
        place = tmp_path / "digits" / ("a" if k < 20 else "b/deep")
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(images[k]).save(place / f"{k:02}.{'png' if k % 2 else 'BMP'}")
    (tmp_path / "digits" / "notes.txt").write_text("not an image")
    return tmp_path / "digits"


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize("batch_size", [7, 256])
@torch.no_grad()
def test_folder(digits: Path, tmp_path: Path, batch_size: int) -> None:
    model = save_checkpoint(tmp_path / "x.ckpt")
    done = predict(tmp_path / "x.ckpt", [digits], tmp_path / "out" / "p.csv", batch_size=batch_size, device="cpu")
    assert (done.images, done.errors) == (40, 0)
    found = rows(done.out)
    assert tuple(found[0]) == COLUMNS
    assert [row["file"] for row in found] == sorted(str(path) for path in digits.rglob("*.*") if path.suffix != ".txt")
    for row in found[::7]:
        pixels = torch.from_numpy(np.array(Image.open(row["file"])))[None, None].float() / 255
        probabilities = model((pixels - 0.3) / 0.4).softmax(-1)[0]
        assert row["class"] == CLASSES[probabilities.argmax()]
        assert float(row["probability"]) == pytest.approx(probabilities.max().item(), abs=2e-6)
        best = [pair.split(":") for pair in row["top5"].split(";")]
        assert [CLASSES.index(name) for name, _ in best] == probabilities.topk(5).indices.tolist()
        assert [float(p) for _, p in best] == pytest.approx(probabilities.topk(5).values.tolist(), abs=2e-6)
        assert row["error"] == ""


def test_broken_images_are_rows(digits: Path, tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "x.ckpt")
    good = next(digits.rglob("*.png")).read_bytes()
    (digits / "broken.png").write_bytes(good[: len(good) // 2])
    (digits / "empty.png").touch()
    (digits / "text.jpg").write_text("not an image")
    done = predict(tmp_path / "x.ckpt", [digits], tmp_path / "p.csv", batch_size=8, device="cpu")
    assert (done.images, done.errors) == (40, 3)
    found = {Path(row["file"]).name: row for row in rows(done.out)}
    assert len(found) == 43
    for name in ("broken.png", "empty.png", "text.jpg"):
        assert found[name]["class"] == found[name]["probability"] == found[name]["top5"] == ""
        assert name in found[name]["error"]
    assert found["empty.png"]["error"].endswith("Replace or remove the file.")


def test_nothing_but_broken_images(tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "x.ckpt")
    (tmp_path / "a.png").touch()
    assert predict(tmp_path / "x.ckpt", [tmp_path / "a.png"], tmp_path / "p.csv", device="cpu").images == 0
    assert len(rows(tmp_path / "p.csv")) == 1


def test_photographs_of_any_size(tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "x.ckpt")
    for k, photo in enumerate(load_sample_images().images):
        Image.fromarray(photo[: 300 + 40 * k]).save(tmp_path / f"{k}.jpg")
    (tmp_path / "no_suffix").write_bytes((tmp_path / "0.jpg").read_bytes())
    files = [tmp_path / "no_suffix", tmp_path / "0.jpg", tmp_path / "1.jpg", tmp_path / "0.jpg"]
    done = predict(tmp_path / "x.ckpt", files, tmp_path / "p.csv", device="cpu")
    found = rows(done.out)
    assert [Path(row["file"]).name for row in found] == ["no_suffix", "0.jpg", "1.jpg"]
    assert found[0]["top5"] == found[1]["top5"]


def test_a_link_that_leads_back(digits: Path, tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "x.ckpt")
    os.symlink(digits, digits / "a" / "again")
    assert predict(tmp_path / "x.ckpt", [digits], tmp_path / "p.csv", device="cpu").images == 40


def test_no_bar_in_a_notebook(
    digits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    save_checkpoint(tmp_path / "x.ckpt")
    monkeypatch.setenv("FORCE_COLOR", "1")  # as Jupyter does; rich takes it for a terminal
    predict(tmp_path / "x.ckpt", [digits], tmp_path / "p.csv", device="cpu")
    assert capsys.readouterr() == ("", "")


def test_published_weights_need_mean_and_std(digits: Path, tmp_path: Path) -> None:
    torch.save(create_model("cct_2_3x2_32").state_dict(), tmp_path / "x.pth")
    with pytest.raises(InputError, match="give --mean and --std"):
        predict(tmp_path / "x.pth", [digits], tmp_path / "p.csv", device="cpu")
    assert not (tmp_path / "p.csv").exists()
    done = predict(
        tmp_path / "x.pth", [digits / "a"], tmp_path / "p.csv", device="cpu",
        mean=[0.5, 0.5, 0.5], std=[0.25, 0.25, 0.25], classes=[f"my {name}" for name in CLASSES],
    )  # fmt: skip
    assert done.images == 20
    assert rows(done.out)[0]["class"].startswith("my ")


def test_given_classes_of_another_order_are_those_of_the_checkpoint(digits: Path, tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "x.ckpt")
    for k, classes in enumerate((None, CLASSES[::-1])):
        predict(tmp_path / "x.ckpt", [digits / "a"], tmp_path / f"{k}.csv", device="cpu", classes=classes)
    assert rows(tmp_path / "0.csv") == rows(tmp_path / "1.csv")


Change = Callable[[Path], dict[str, object]]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch_size": 0}, "batch_size is 0"),
        ({"threads": 0}, "threads is 0"),
        ({"device": "cuda:99"}, "device 'cuda:99'"),
        ({"device": "toaster"}, "device 'toaster'"),
        ({"classes": ["a", "b"]}, "2 class names"),
        ({"classes": [*CLASSES[1:], "ten"]}, r"names its classes itself \(zero, one, .*leave --classes out"),
        ({"mean": [0.5, 0.5]}, "mean has 2 numbers"),
        ({"mean": [125.0]}, "mean is from 0 to 1 in every channel"),
        ({"std": [0.0]}, "std is positive"),
        ({"std": [-0.2]}, "std is positive"),
        ({"paths": []}, "No images found"),
        ({"paths": ["nowhere"]}, "nowhere does not exist"),
        ({"ckpt": "nothing.ckpt"}, "does not exist"),
    ],
)
def test_bad_input_writes_nothing(digits: Path, tmp_path: Path, options: dict, message: str) -> None:
    save_checkpoint(tmp_path / "x.ckpt")
    given = {
        "ckpt": tmp_path / "x.ckpt",
        "paths": [digits],
        "out": tmp_path / "out" / "p.csv",
        "device": "cpu",
        **options,
    }
    with pytest.raises(InputError, match=message):
        predict(**given)
    assert not list(tmp_path.rglob("*p.csv"))


def test_an_existing_file_is_kept(digits: Path, tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "x.ckpt")
    (tmp_path / "p.csv").write_text("precious")
    with pytest.raises(InputError, match="exists"):
        predict(tmp_path / "x.ckpt", [digits], tmp_path / "p.csv", device="cpu")
    assert (tmp_path / "p.csv").read_text() == "precious"
    predict(tmp_path / "x.ckpt", [digits], tmp_path / "p.csv", device="cpu", overwrite=True)
    assert len(rows(tmp_path / "p.csv")) == 40
