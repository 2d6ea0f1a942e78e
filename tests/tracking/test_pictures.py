"""A picture of your own is in W&B's run file; with EMA it shows the weights that count."""

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from torch import nn
from tracking.test_media import inspected
from warm import run_cct

from cct_lightning.analysis.overlay import UNIFORM
from cct_lightning.analysis.pictures import PICTURES, Maps, import_pictures
from cct_lightning.errors import InputError
from cct_lightning.models.factory import create_model
from cct_lightning.tracking.media import Media

MINE = """
import torch
from cct_lightning.analysis import Maps, picture

@picture("brightness")
def brightness(net, images):
    torch.save(dict(net.net.state_dict()), f"shown{net.trainer.current_epoch}{net.trainer.state.stage.value}.pt")
    return Maps(images.mean(1) - images.min(), unit="brightness")

@picture("mine/broken")
def broken(net, images):
    raise ZeroDivisionError("this picture cannot be drawn")

def unregistered(net, images): ...
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A real run that averages its weights and has two pictures of a user's, one of which cannot be drawn."""
    folder = tmp_path_factory.mktemp("pictures")
    (folder / "my_lab.py").write_text(MINE)
    words = [
        "fit", "--config=digits", "--trainer.max_epochs=2", "--model.optim.warmup_epochs=1", "--model.ema_decay=0.9",
        "--trainer.limit_train_batches=8", "--tracking.media_every_n_epochs=1", "--run_dir=run",
        "--tracking.pictures=[my_lab.brightness,my_lab.broken]",
    ]  # fmt: skip
    variables = {**os.environ, "WANDB_MODE": "offline", "OMP_NUM_THREADS": "1", "PYTHONPATH": str(folder)}
    done = run_cct(*words, environment=variables, cwd=folder)
    assert done.returncode == 0, done.stdout + done.stderr
    (folder / "log.txt").write_text(done.stdout)
    return folder


def test_it_is_in_the_run_file(folder: Path) -> None:
    [log] = folder.glob("run/wandb/offline-run-*/run-*.wandb")
    rows = [r["history"]["item"] for r in inspected(log) if r["type"] == "history"]
    logged = {key.partition(".")[0] for row in rows for key in row if "._type" in key}
    assert {"val/brightness", "test/brightness", "val/rollout", "tokenizer/filters"} <= logged
    assert len(list(log.parent.glob("files/media/images/val/brightness_*.png"))) == 2 * 12
    captions = [value for row in rows for key, value in row.items() if key.startswith("val/brightness.captions")]
    assert "brightness" in str(captions)


def test_a_picture_that_fails_stops_no_run(folder: Path) -> None:
    message = "The picture mine/broken is left out (ZeroDivisionError: this picture cannot be drawn)."
    # Once while it trains, once in the test.
    assert (folder / "log.txt").read_text().count(message) == 1


def test_pictures_and_accuracy_are_of_the_same_weights(folder: Path) -> None:
    checkpoint = torch.load(folder / "run" / "last.ckpt", weights_only=True)
    shown = torch.load(folder / "shown1validate.pt", weights_only=True)
    average = {key.removeprefix("net."): value for key, value in checkpoint["state_dict"].items()}
    trained = {key.removeprefix("net."): value for key, value in checkpoint["current_model_state"].items()}
    assert all(torch.equal(value, average[key]) for key, value in shown.items())
    assert not all(torch.equal(value, trained[key]) for key, value in shown.items())


def test_bad_pictures_are_one_sentence(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(folder))
    monkeypatch.setattr("cct_lightning.analysis.pictures.PICTURES", dict(PICTURES))
    with pytest.raises(InputError, match="Cannot import the picture"):
        import_pictures(["my_lab.nothing"])
    with pytest.raises(InputError, match=r"my_lab.unregistered is not registered: write @picture"):
        Media(every_n_epochs=1, pictures=["my_lab.unregistered"])


def test_built_in_pictures_are_drawn_of_models_that_have_them() -> None:
    images = torch.randn(2, 3, 32, 32)
    drawn = {}
    for arch in ("cct_2_3x2", "resnet56"):
        net: nn.Module = create_model(arch, img_size=32)
        for name, draw in PICTURES.items():
            try:
                drawn[arch, name] = draw(net, images)
            except InputError:
                assert arch == "resnet56"
    assert [name for arch, name in drawn if arch == "resnet56"] == ["saliency"]
    weights = drawn["cct_2_3x2", "pool_weights"]
    assert isinstance(weights, Maps)
    assert weights.unit == UNIFORM
    assert np.mean(weights.values) == pytest.approx(1)
    assert isinstance(drawn["cct_2_3x2", "position/similarity"], Figure)
