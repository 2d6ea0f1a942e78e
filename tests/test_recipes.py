"""Every shipped recipe trains: its options resolve, and one step of it on real images gives a finite loss."""

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image
from sklearn.datasets import load_digits

from cct_lightning.config.recipes import recipes

HEADER = r"# .+\n(# .+\n)?#\n# command   cct fit --config (\w+).*\n(# published .+\n)?# measured  .+\n"
CONFIGS = Path(__file__).parents[1] / "cct_lightning" / "configs"


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A folder of real scans in grey, and one in color, of two classes each."""
    digits = load_digits()
    roots = {mode: tmp_path_factory.mktemp(mode) for mode in ("L", "RGB")}
    for mode, root in roots.items():
        for split, places in (("train", range(48)), ("val", range(48, 60)), ("test", range(60, 80))):
            for place in places:
                folder = root / split / ("even" if digits.target[place] % 2 == 0 else "odd")
                folder.mkdir(parents=True, exist_ok=True)
                scan = Image.fromarray((digits.images[place] * 15.9).astype(np.uint8))
                scan.resize((32, 32)).convert(mode).save(folder / f"{place}.png")
    return roots


@pytest.mark.parametrize("name", sorted(recipes()))
def test_a_recipe_steps(
    name: str,
    cct: Callable[..., tuple[int, str, str]],
    images: dict[str, Path],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.chdir(tmp_path)
    code, out, err = cct("fit", "--config", name, "--print_config")
    assert code == 0, err
    config = yaml.safe_load(out)
    size = "64" if re.search(r"_\d{3}(_|$)", config["model"]["arch"]) else "32"  # larger ones would take minutes
    words = ["--data.name", "folder", "--data.root", str(images["L" if "mnist" in name or name == "digits" else "RGB"])]
    words += ["--data.img_size", size, "--trainer.fast_dev_run", "1", "--data.num_workers", "0"]
    # What only a GPU does in the time of a test, and what only a network brings.
    words += ["--model.compile", "false", "--model.pretrained", "null"]
    batch = "global_batch_size" if config["data"]["global_batch_size"] else "batch_size"
    code, out, err = cct("fit", "--config", name, *words, f"--data.{batch}", "4", "--data.cache_dir", str(tmp_path))
    assert code == 0, err


@pytest.mark.parametrize("name", sorted(recipes()))
def test_a_recipe_says_what_it_costs(name: str) -> None:
    header = re.match(HEADER, (CONFIGS / f"{name}.yaml").read_text())
    assert header, name
    assert header[2] == name
