"""`cct explain` on real digits and a briefly trained model: the page's content, safety and looks."""

import base64
import io
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from PIL import Image
from sklearn.datasets import load_digits

from cct_lightning.commands.explain import explain
from cct_lightning.data.datamodule import ImageDataModule
from cct_lightning.errors import InputError
from cct_lightning.training.module import Classifier
from cct_lightning.training.optim import Optim

CLASSES = [
    f"<b>{name}</b>" for name in ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
]
EVIL = '"><img src=x onerror=alert(1)>&lt;.png'


def checkpoint(path: Path, *, arch: str = "cct_2_3x1", batches: int | None = None, **parts: str) -> Path:
    """Train on real digits for a moment, as `cct fit` does, and save."""
    pl.seed_everything(0, verbose=False)
    data = ImageDataModule(name="digits", cache_dir=str(path.parent / "cache"), batch_size=64)
    module = Classifier(
        arch=arch,
        img_size=(8, 8),
        in_chans=1,
        num_classes=10,
        classes=CLASSES,
        mean=[0.3],
        std=[0.38],
        optim=Optim(lr=2e-3, warmup_epochs=0),
        **parts,
    )
    trainer = pl.Trainer(
        max_epochs=2,
        limit_train_batches=batches,
        limit_val_batches=0,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(module, data)
    trainer.save_checkpoint(path)
    return path


@pytest.fixture(scope="module")
def ckpt(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return checkpoint(tmp_path_factory.mktemp("run") / "best.ckpt")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six digits, one of them with markup for a name, a broken image and a text that calls itself an image."""
    folder = tmp_path_factory.mktemp("images")
    digits = load_digits()
    for i in range(1500, 1506):
        name = EVIL.replace("/", "") if i == 1500 else f"digit-{digits.target[i]}-{i}.png"
        Image.fromarray((digits.images[i] * 255 / 16).round().astype(np.uint8)).save(folder / name, "PNG")
    whole = (folder / f"digit-{digits.target[1501]}-1501.png").read_bytes()
    (folder / "torn.png").write_bytes(whole[: len(whole) // 2])
    (folder / "text.png").write_text("not an image")
    return folder


class Page(HTMLParser):
    """The elements and the visible text of a page."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.articles: list[str] = []
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag == "article":
            self.articles.append("")

    def handle_data(self, data: str) -> None:
        if self.articles:
            self.articles[-1] += data + " "

    def find(self, tag: str) -> list[dict[str, str | None]]:
        return [attrs for name, attrs in self.tags if name == tag]


@pytest.fixture(scope="module")
def page(ckpt: Path, folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Page:
    out = tmp_path_factory.mktemp("page") / "page.html"
    result = explain(ckpt, [folder], out, batch_size=4, device="cpu")
    assert (result.images, result.errors) == (6, 2)
    return Page(out)


def test_entries(page: Page, folder: Path) -> None:
    assert len(page.articles) == 8
    assert [attrs.get("class") for attrs in page.find("article")].count("error") == 2
    for name, why in {"torn.png": "Cannot read the image", "text.png": "is not an image"}.items():
        (entry,) = (article for article in page.articles if name in article)
        assert why in entry


def test_predictions_are_the_model_s(page: Page, ckpt: Path, folder: Path) -> None:
    module = Classifier.load(ckpt)
    for path in sorted(folder.glob("digit-*.png")):
        (entry,) = (article for article in page.articles if path.name in article)
        pixels = torch.from_numpy(np.array(Image.open(path))).float()[None, None] / 255
        with torch.no_grad():
            best = module((pixels - 0.3) / 0.38).softmax(-1)[0].topk(5)
        expected = [(CLASSES[k], f"{100 * p:.1f} %") for p, k in zip(*map(torch.Tensor.tolist, best), strict=True)]
        shown = re.findall(r"(\S+) +(\d+\.\d %)", entry)
        assert shown == expected


def test_markup_stays_text(page: Page) -> None:
    assert {tag for tag, _ in page.tags} <= {
        *("html", "meta", "title", "style", "h1", "h2", "p", "main", "article", "bdi", "div", "figure", "img"),
        *("figcaption", "strong", "br", "ol", "li", "span"),
    }
    assert any(EVIL in article for article in page.articles)
    assert sum("<b>three</b>" in article for article in page.articles) > 0
    assert not any(name.startswith("on") for _, attrs in page.tags for name in attrs)


def test_pictures_are_inside(page: Page) -> None:
    pictures = page.find("img")
    assert len(pictures) == 6 * 3
    for attrs in pictures:
        kind, _, data = str(attrs["src"]).partition(",")
        assert kind == "data:image/png;base64"
        image = Image.open(io.BytesIO(base64.b64decode(data, validate=True)))
        assert image.size == ((8, 8) if attrs["alt"] == "Image" else (224, 224))
    assert {attrs["alt"] for attrs in pictures} == {"Image", "SeqPool weights", "Attention rollout"}
    assert not any("href" in attrs or str(attrs.get("src", "data:"))[:5] != "data:" for _, attrs in page.tags)


@pytest.mark.parametrize(
    ("arch", "parts", "name"),
    [
        ("vit_2_2", {}, "Class token's attention"),
        ("cvt_2_2", {"pool": "mean"}, "Mean pooling (uniform)"),
    ],
)
def test_other_pools(arch: str, parts: dict[str, str], name: str, folder: Path, tmp_path: Path) -> None:
    ckpt = checkpoint(tmp_path / "x.ckpt", arch=arch, batches=1, **parts)
    explain(ckpt, [folder], tmp_path / "page.html", device="cpu")
    assert name in {attrs["alt"] for attrs in Page(tmp_path / "page.html").find("img")}


def test_network_without_tokens(folder: Path, tmp_path: Path) -> None:
    ckpt = checkpoint(tmp_path / "x.ckpt", arch="resnet18", batches=1)
    explain(ckpt, [next(folder.glob("digit-*.png"))], tmp_path / "page.html", device="cpu")
    page = Page(tmp_path / "page.html")
    assert [attrs["alt"] for attrs in page.find("img")] == ["Image", "SmoothGrad"]


def test_name_that_is_no_text(ckpt: Path, folder: Path, tmp_path: Path) -> None:
    strange = tmp_path / b"bad-\xff.png".decode("utf-8", "surrogateescape")
    try:
        shutil.copy(next(folder.glob("digit-*.png")), strange)
    except OSError:
        pytest.skip("this file system only takes names that are text")
    explain(ckpt, [strange], tmp_path / "page.html", device="cpu")
    assert "bad-\N{REPLACEMENT CHARACTER}.png" in (tmp_path / "page.html").read_text(encoding="utf-8")


def test_bad_input(ckpt: Path, folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "page.html"
    with pytest.raises(InputError, match="batch_size is 0"):
        explain(ckpt, [folder], out, batch_size=0)
    with pytest.raises(InputError, match="nowhere does not exist"):
        explain(ckpt, [tmp_path / "nowhere"], out)
    with pytest.raises(InputError, match="does not exist"):
        explain(tmp_path / "no.ckpt", [folder], out)
    with pytest.raises(InputError, match="device 'warp'"):
        explain(ckpt, [folder], out, device="warp")
    assert list(tmp_path.iterdir()) == []
    out.write_text("mine")
    with pytest.raises(InputError, match="exists"):
        explain(ckpt, [folder], out)
    assert out.read_text() == "mine"


@pytest.mark.skipif(shutil.which("chromium") is None, reason="needs chromium")
@pytest.mark.parametrize("width", [500, 1400])
def test_looks(ckpt: Path, folder: Path, tmp_path: Path, width: int) -> None:
    """Every picture is drawn, nothing is cut at the side, and no markup from a name runs."""
    out = tmp_path / "page.html"
    explain(ckpt, [folder], out, device="cpu")
    shot = tmp_path / "page.png"
    command = ["chromium", "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"]
    subprocess.run(
        [
            *command,
            f"--user-data-dir={tmp_path / 'profile'}",
            f"--window-size={width},2400",
            f"--screenshot={shot}",
            out.as_uri(),
        ],
        check=True,
        capture_output=True,
        timeout=600,
    )
    pixels = np.asarray(Image.open(shot).convert("RGB")).astype(int)
    assert pixels.shape[1] == width
    white = (pixels > 250).all(-1)
    assert white[:, -8:].all(), "something touches the right edge"
    yellow = (pixels[..., 0] > 170) & (pixels[..., 1] > 150) & (pixels[..., 2] < 120)
    assert yellow.sum() > 100, "no map was drawn"
