"""A user's own tokenizer, pool, position embedding and backbone, from a package that is not ours."""

from pathlib import Path

import pytest
import torch

from cct_lightning.errors import InputError
from cct_lightning.models.complexity import summarize
from cct_lightning.models.factory import create_model

PACKAGE = """
import torch
from torch import nn
from cct_lightning.models.pooling import Pooling
from cct_lightning.models.position import PositionEmbedding
from cct_lightning.models.tokenizer import Tokenizer

class TopKPool(Pooling):
    def __init__(self, *, embed_dim):
        super().__init__(embed_dim=embed_dim)
        self.score = nn.Linear(embed_dim, 1)

    def forward(self, tokens):
        best = self.score(tokens).topk(4, dim=1).indices
        return tokens.gather(1, best.expand(-1, -1, tokens.shape[-1])).mean(1)

class RowPosition(PositionEmbedding):
    def __init__(self, *, grid, num_prefix_tokens, embed_dim):
        super().__init__(grid=grid, num_prefix_tokens=num_prefix_tokens, embed_dim=embed_dim)
        self.rows = nn.Parameter(torch.ones(grid[0], embed_dim))

    def forward(self, tokens, grid):
        return tokens + self.rows.repeat_interleave(grid[1], 0)

class PixelTokenizer(Tokenizer):
    def __init__(self, *, in_chans, embed_dim, kernel_size, conv_blocks):
        super().__init__(in_chans=in_chans, embed_dim=embed_dim, kernel_size=kernel_size, conv_blocks=conv_blocks)
        self.proj = nn.Linear(in_chans, embed_dim)

    def grid(self, img_size):
        return img_size[0] // 4, img_size[1] // 4

    def forward(self, images):
        return self.proj(images[:, :, ::4, ::4].flatten(2).transpose(1, 2))

class MyNet(nn.Module):
    def __init__(self, *, img_size, in_chans, num_classes):
        super().__init__()
        self.conv = nn.Conv2d(in_chans, 8, 3, padding=1)
        self.out = nn.Linear(8 * img_size[0] * img_size[1], num_classes)

    def forward(self, images):
        return self.out(self.conv(images).relu().flatten(1))

class OtherNet(nn.Module):
    def __init__(self, width):
        super().__init__()
"""


@pytest.fixture
def my_lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "my_lab").mkdir()
    (tmp_path / "my_lab" / "__init__.py").touch()
    (tmp_path / "my_lab" / "nets.py").write_text(PACKAGE)
    monkeypatch.syspath_prepend(tmp_path)


@pytest.mark.usefixtures("my_lab")
@pytest.mark.parametrize(
    "parts",
    [
        {"pool": "my_lab.nets.TopKPool"},
        {"position": "my_lab.nets.RowPosition"},
        {"tokenizer": "my_lab.nets.PixelTokenizer"},
        {"tokenizer": "my_lab.nets.PixelTokenizer", "pool": "class_token"},
    ],
    ids=str,
)
def test_parts(parts: dict[str, str], tmp_path: Path) -> None:
    model = create_model("cct_2_3x1", num_classes=4, **parts).eval()
    images = torch.randn(2, 3, 32, 32)
    logits = model(images)
    logits.sum().backward()
    assert logits.shape == (2, 4)
    assert all(p.grad is not None for n, p in model.named_parameters() if "score" not in n)
    plain = summarize(create_model("cct_2_3x1", num_classes=4), (32, 32), 3)
    assert summarize(model, (32, 32), 3) != plain
    torch.save(model.state_dict(), tmp_path / "mine.pth")
    again = create_model("cct_2_3x1", pretrained=tmp_path / "mine.pth", **parts).eval()
    assert torch.equal(again(images), logits)


@pytest.mark.usefixtures("my_lab")
def test_backbone(tmp_path: Path) -> None:
    model = create_model("my_lab.nets.MyNet", img_size=(8, 12), in_chans=1, num_classes=5)
    images = torch.randn(2, 1, 8, 12)
    assert model(images).shape == (2, 5)
    found = summarize(model, (8, 12), 1)
    assert (found.params, found.macs) == (80 + 8 * 96 * 5 + 5, 72 * 96 + 8 * 96 * 5)
    torch.save(model.state_dict(), tmp_path / "mine.pth")
    again = create_model(
        "my_lab.nets.MyNet", pretrained=tmp_path / "mine.pth", img_size=(8, 12), in_chans=3, num_classes=5
    )
    grey = torch.randn(2, 1, 8, 12)
    # From one channel to three: repeated and divided by three, so that grey images give what they gave.
    torch.testing.assert_close(again(grey.expand(-1, 3, -1, -1)), model(grey))


@pytest.mark.usefixtures("my_lab")
@pytest.mark.parametrize(
    ("name", "parts", "message"),
    [
        ("my_lab.nets.OtherNet", {}, "must take the keywords img_size, in_chans and num_classes"),
        ("my_lab.nets.NoNet", {}, "Cannot import the model"),
        ("my_lab.other.Net", {}, "Cannot import the model"),
        ("my_lab.nets.PACKAGE", {}, "Cannot import"),
        ("pathlib.Path", {}, r"not a subclass of torch\.nn\.Module"),
        ("my_lab.nets.MyNet", {"pool": "mean"}, "has no pool"),
        ("cct_2_3x1", {"pool": "my_lab.nets.MyNet"}, r"not a subclass of cct_lightning\.models\.pooling\.Pooling"),
        ("cct_2_3x1", {"pool": "my_lab.nets.TopPool"}, "Cannot import the pool"),
        ("cct_2_3x1", {"pool": "seqpol"}, "Did you mean 'seqpool'"),
    ],
)
def test_one_sentence(name: str, parts: dict[str, str], message: str) -> None:
    with pytest.raises(InputError, match=message):
        create_model(name, **parts)
