"""The test predictions that two processes keep are those of one, to the bit."""

import subprocess
from pathlib import Path

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from warm import python, warm_environment

from cct_lightning.data.datamodule import ImageDataModule
from cct_lightning.runs.predictions import PredictionsFile
from cct_lightning.training.module import Classifier

CHECKPOINT = Path(__file__).with_name("version_0_1") / "best.ckpt"
# Batches of one size, or the rounding of a matrix product may differ with its number of rows: 359 images are prime.
SCRIPT = """
import sys
from pathlib import Path

import pytorch_lightning as pl

from cct_lightning.data.datamodule import ImageDataModule
from cct_lightning.runs.predictions import PredictionsFile
from cct_lightning.training.module import Classifier

devices, folder, checkpoint = int(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]
folder.mkdir(exist_ok=True)
trainer = pl.Trainer(
    accelerator="cpu", devices=devices, strategy="ddp" if devices > 1 else "auto", logger=False,
    callbacks=[PredictionsFile(run_dir=folder)], enable_progress_bar=False, enable_model_summary=False,
)
trainer.test(Classifier.load(checkpoint), ImageDataModule(name="digits", batch_size=1), verbose=False)
"""


def predictions(folder: Path, devices: int) -> dict[str, np.ndarray]:
    script = folder / "script.py"
    script.write_text(SCRIPT)
    out = folder / str(devices)
    command = [python(), str(script), str(devices), str(out), str(CHECKPOINT)]
    done = subprocess.run(command, cwd=folder, env=warm_environment(), capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr[-3000:]
    with np.load(out / "test_predictions.npz", allow_pickle=False) as file:
        return dict(file)


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    folder = tmp_path_factory.mktemp("predictions")
    return predictions(folder, 1), predictions(folder, 2)


def test_two_processes_keep_what_one_keeps(both: tuple[dict[str, np.ndarray], dict[str, np.ndarray]]) -> None:
    one, two = both
    assert one.keys() == two.keys()
    for key, array in one.items():
        assert array.dtype == two[key].dtype
        assert np.array_equal(array, two[key]), key


def test_predictions_do_not_depend_on_the_order_of_the_images(tmp_path: Path) -> None:
    data, kept = ImageDataModule(name="digits", batch_size=100), []
    order = data.index["test"][torch.randperm(359, generator=torch.Generator().manual_seed(0))]
    for k, index in enumerate((data.index["test"], order)):
        data.index["test"] = index
        (tmp_path / str(k)).mkdir()
        trainer = pl.Trainer(
            accelerator="cpu", logger=False, callbacks=[PredictionsFile(run_dir=tmp_path / str(k))],
            enable_progress_bar=False, enable_model_summary=False,
        )  # fmt: skip
        trainer.test(Classifier.load(CHECKPOINT), data, verbose=False)
        with np.load(tmp_path / str(k) / "test_predictions.npz", allow_pickle=False) as file:
            kept.append(dict(file))
    for key in ("label", "index", "row", "image"):
        assert np.array_equal(kept[0][key], kept[1][key]), key


def test_every_image_of_the_split_is_kept_once(both: tuple[dict[str, np.ndarray], dict[str, np.ndarray]]) -> None:
    for kept in both:
        assert len(kept["index"]) == len(kept["label"]) == len(kept["prob"]) == 359
        assert (np.diff(kept["index"]) > 0).all(), "in the order of the data set"
        assert kept["row"][:12].tolist() == list(range(12))
        assert len(kept["image"]) == len(kept["weight"]) == 24
