"""Own parts with arguments, in every form and through every file; what a part from outside needs: no line of ours."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from cct_lightning.analysis import measured_receptive_field, receptive_field, shift_error
from cct_lightning.analysis.receptive import receptive_fields
from cct_lightning.commands.convert import convert
from cct_lightning.commands.models import models_command
from cct_lightning.errors import InputError
from cct_lightning.models.arch import parse_arch, resolve_arch
from cct_lightning.models.complexity import POOL_COSTS, POSITION_COSTS, TOKENIZER_COSTS, budget, summarize
from cct_lightning.models.factory import create_model, load_model
from cct_lightning.models.parts import plain_spec
from cct_lightning.models.pooling import POOLINGS, MaxPool, MeanPool
from cct_lightning.models.position import POSITIONS
from cct_lightning.models.tokenizer import TOKENIZERS, ConvTokenizer
from cct_lightning.training.module import Classifier

PACKAGE = """
import torch
from torch import nn
from cct_lightning.models.pooling import Pooling
from cct_lightning.models.position import PositionEmbedding
from cct_lightning.models.tokenizer import ConvTokenizer, Tokenizer

class GemPool(Pooling):
    def __init__(self, *, embed_dim, p, eps=1e-6):
        super().__init__(embed_dim=embed_dim)
        if p <= 0:
            raise ValueError("p must be positive")
        self.p, self.eps = p, eps

    def forward(self, tokens):
        return tokens.clamp_min(self.eps).pow(self.p).mean(1).pow(1 / self.p)

class Stripes(Tokenizer):
    def __init__(self, *, in_chans, embed_dim, kernel_size, conv_blocks, height=2):
        super().__init__(in_chans=in_chans, embed_dim=embed_dim, kernel_size=kernel_size, conv_blocks=conv_blocks)
        self.height = height
        self.proj = nn.Conv2d(in_chans, embed_dim, (height, 4), (height, 4), bias=False)

    def grid(self, img_size):
        return img_size[0] // self.height, img_size[1] // 4

    def forward(self, images):
        return self.proj(images).flatten(2).transpose(1, 2)

class Squares(Stripes):
    def __init__(self, *, in_chans, embed_dim, kernel_size, conv_blocks):
        super().__init__(
            in_chans=in_chans, embed_dim=embed_dim, kernel_size=kernel_size, conv_blocks=conv_blocks, height=4
        )

    def layers(self):
        return [(4, 4, 0)]

class Ported(Squares):
    def __init__(self, *, in_chans, embed_dim, kernel_size, conv_blocks):
        super().__init__(in_chans=in_chans, embed_dim=embed_dim, kernel_size=kernel_size, conv_blocks=conv_blocks)
        self.conv_layers = nn.Sequential(nn.Sequential(self.proj))
        del self.proj

    def forward(self, images):
        return self.conv_layers(images).flatten(2).transpose(1, 2)

class Shifted(ConvTokenizer):
    def forward(self, images):
        return super().forward(images.roll(1, -1) + images)

class Scaled(PositionEmbedding):
    def __init__(self, *, grid, num_prefix_tokens, embed_dim, scale):
        super().__init__(grid=grid, num_prefix_tokens=num_prefix_tokens, embed_dim=embed_dim)
        self.scale = nn.Parameter(torch.full((embed_dim,), float(scale)))

    def forward(self, tokens, grid):
        return tokens * self.scale

class Net(nn.Module):
    def __init__(self, *, img_size, in_chans, num_classes, width, layers=(1,)):
        super().__init__()
        self.layers, self.arch = layers, "mine"
        self.conv = nn.Conv2d(in_chans, width, 3, padding=1)
        self.out = nn.Linear(width, num_classes)

    def forward(self, images):
        return self.out(self.conv(images).relu().mean((2, 3)))

class Anything(Pooling):
    def __init__(self, **kwargs):
        super().__init__(embed_dim=kwargs.pop("embed_dim"))
        self.p = kwargs.pop("p")

    def forward(self, tokens):
        return tokens.mean(1)
"""
GEM = {"class_path": "their_lab.GemPool", "init_args": {"p": 3}}
STRIPES = {"class_path": "their_lab.Stripes", "init_args": {"height": 8}}
SCALED = {"class_path": "their_lab.Scaled", "init_args": {"scale": 2}}
NET = {"class_path": "their_lab.Net", "init_args": {"width": 8, "layers": (1, 2)}}


@pytest.fixture(autouse=True)
def _their_lab(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path_factory.mktemp("lab")
    (folder / "their_lab.py").write_text(PACKAGE)
    monkeypatch.syspath_prepend(folder)


def test_one_form() -> None:
    assert plain_spec("pool", "mean") == "mean"
    assert plain_spec("pool", {"class_path": "mean"}) == plain_spec("pool", {"class_path": "mean", "init_args": None})
    assert plain_spec("pool", {"class_path": "mean", "init_args": {}}) == "mean"
    # As `--model.pool my_lab.GemPool --model.pool.p 3` arrives, after a recipe that says 2, too.
    assert plain_spec("pool", {"class_path": "their_lab.GemPool", "p": 3}) == GEM
    assert plain_spec("pool", {"class_path": "their_lab.GemPool", "init_args": {"p": 2}, "p": 3}) == GEM
    found = plain_spec("arch", NET)
    assert found == {"class_path": "their_lab.Net", "init_args": {"width": 8, "layers": [1, 2]}}
    assert json.loads(json.dumps(found)) == found
    assert resolve_arch("cct_2_3x1", pool={"class_path": "seqpool", "init_args": {}}) == parse_arch("cct_2_3x1")


@torch.no_grad()
def test_arguments_arrive() -> None:
    model = create_model("cct_2_3x1", pool=GEM, tokenizer=STRIPES, position=SCALED, num_classes=4).eval()
    images = torch.randn(2, 3, 32, 32)
    assert model(images).shape == (2, 4)
    assert (model.pool.p, model.tokenizer.height) == (3, 8)
    assert torch.equal(model.position.scale, torch.full((128,), 2.0))
    assert model.arch.pool == GEM
    tokens = torch.rand(2, 5, 128)
    torch.testing.assert_close(model.pool(tokens), tokens.pow(3).mean(1).pow(1 / 3))
    assert create_model(NET).conv.out_channels == 8
    assert create_model("cct_2_3x1", pool={"class_path": "their_lab.Anything", "init_args": {"p": 5}}).pool.p == 5


@pytest.mark.parametrize(
    "options",
    [
        {"arch": "cct_2_3x1", "pool": GEM, "tokenizer": STRIPES, "position": SCALED},
        {"arch": "cct_2_3x1", "tokenizer": "their_lab.Ported"},  # with the names of the published files
        {"arch": NET},
    ],
    ids=["parts", "names", "model"],
)
@torch.no_grad()
def test_through_checkpoints_and_conversions(options: dict[str, Any], tmp_path: Path) -> None:
    module = Classifier(**options, img_size=(16, 16), in_chans=1, num_classes=3).eval()
    images = torch.randn(2, 1, 16, 16)
    expected = module(images)
    content = {
        "pytorch-lightning_version": "2.6.1",
        "state_dict": module.state_dict(),
        "hyper_parameters": dict(module.hparams),
    }
    torch.save(content, tmp_path / "a.ckpt")
    assert torch.equal(Classifier.load(tmp_path / "a.ckpt")(images), expected)
    again = create_model(**{"name" if key == "arch" else key: value for key, value in options.items()},
                         pretrained=tmp_path / "a.ckpt").eval()  # fmt: skip
    assert torch.equal(again(images), expected)
    for src, dst in (("a.ckpt", "b.safetensors"), ("b.safetensors", "c.pth"), ("c.pth", "d.ckpt")):
        convert(tmp_path / src, tmp_path / dst)
        model, stored = load_model(tmp_path / dst)
        assert torch.equal(model(images), expected), dst
        for key, value in options.items():
            assert stored.hparams[key] == plain_spec(key, value), dst
    assert torch.equal(Classifier.load(tmp_path / "d.ckpt")(images), expected)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"pool": {"class_path": "their_lab.GemPool", "init_args": {"p": 3, "epps": 1}}},
         r"takes no argument 'epps': it takes p, eps\. Did you mean 'eps'\?"),
        ({"pool": {"class_path": "seqpool", "init_args": {"p": 3}}}, r"no argument 'p': it takes none\."),
        ({"pool": {"class_path": "their_lab.GemPool", "init_args": {"p": 3, "embed_dim": 4}}},
         "gets its embed_dim from the model: leave embed_dim out of init_args"),
        ({"tokenizer": {"class_path": "conv", "init_args": {"kernel_size": 4}}}, "gets its kernel_size from the model"),
        ({"pool": "their_lab.GemPool"}, "'their_lab.GemPool' needs the argument p: give a dict of class_path"),
        ({"pool": {"class_path": "their_lab.GemPool", "init_args": {"p": -1}}},
         r"The pool 'their_lab.GemPool' cannot be built: p must be positive\."),
        ({"pool": {"class_path": "their_lab.GemPool", "init_args": {"p": "3"}}}, "cannot be built: '<=' not supported"),
        ({"pool": {"class_path": "their_lab.Net", "init_args": {}}}, "not a subclass of"),
        ({"pool": {"init_args": {"p": 3}}}, "give a name, an import path"),
        ({"pool": {"class_path": 3}}, "give a name, an import path"),
        ({"pool": 3}, "The pool is 3: give a name"),
        ({"pool": {"class_path": "their_lab.GemPool", "p": 3, "init_arg": {}}}, "takes no argument 'init_arg'"),
        ({"pool": {"class_path": "their_lab.GemPool", "init_args": [3]}}, r"of the pool are \[3\]: give a dict"),
        ({"pool": {"class_path": "their_lab.GemPool", "init_args": {"p": Path("x")}}}, "which checkpoints can keep"),
        ({"name": {"class_path": "cct_2_3x1", "init_args": {"pool": "mean"}}}, "cct_2_3x1 takes no init_args"),
        ({"name": {"class_path": "resnet18", "init_args": {"width": 2}}}, "resnet18 takes no init_args"),
        ({"name": "their_lab.Net"}, "The model 'their_lab.Net' needs the argument width"),
        ({"name": {"class_path": "their_lab.Net", "init_args": {"widht": 8}}}, "Did you mean 'width'"),
        ({"name": NET, "pool": "mean"}, "their_lab.Net has no pool"),
    ],
    ids=str,
)  # fmt: skip
def test_one_sentence(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message) as error:
        create_model(**{"name": "cct_2_3x1", **options})
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("parts", [
    {"tokenizer": STRIPES}, {"pool": GEM}, {"position": SCALED},
    {"tokenizer": "their_lab.Squares", "pool": "class_token"},
], ids=str)  # fmt: skip
def test_costs_of_parts_from_outside(parts: dict[str, Any]) -> None:
    arch = resolve_arch("cct_2_3x1", img_size=(16, 32), **parts)
    torch.manual_seed(0)
    before = torch.get_rng_state()
    found = budget(arch)
    assert torch.equal(torch.get_rng_state(), before), "to count costs no random number of the caller's"
    built = summarize(create_model("cct_2_3x1", img_size=(16, 32), **parts), (16, 32), 3)
    assert found.attention_macs == 2 * 2 * 128 * found.tokens**2
    assert (found.tokens, found.params, found.macs + found.attention_macs) == (built.tokens, built.params, built.macs)


def test_weights_of_another_model_are_one_sentence(tmp_path: Path) -> None:
    torch.save(create_model(NET).state_dict(), tmp_path / "x.pth")
    wider = {"class_path": "their_lab.Net", "init_args": {"width": 9}}
    with pytest.raises(InputError, match=r"does not fit Net: conv.weight \(shape 8x3x3x3 stored, 9x3x3x3 wanted\)"):
        create_model(wider, pretrained=tmp_path / "x.pth")


def test_cct_models_takes_arguments(capsys: pytest.CaptureFixture[str]) -> None:
    models_command(["cct_2_3x1", "--json"])
    plain = json.loads(capsys.readouterr().out)[0]
    models_command(["cct_2_3x1", "--json", "--tokenizer", json.dumps(STRIPES)])
    found = json.loads(capsys.readouterr().out)[0]
    assert (plain["tokens"], found["tokens"]) == (256, 32)
    models_command([json.dumps({**NET, "init_args": {"width": 8}}), "--json"])
    assert json.loads(capsys.readouterr().out)[0]["params"] == 8 * 27 + 8 + 8 * 10 + 10
    with pytest.raises(InputError, match="is not JSON"):
        models_command(["cct_2_3x1", "--pool", "{class_path"])


def test_the_arithmetic_is_of_built_in_parts() -> None:
    assert TOKENIZER_COSTS.keys() <= TOKENIZERS.keys()
    assert POOL_COSTS.keys() <= POOLINGS.keys()
    assert POSITION_COSTS.keys() <= POSITIONS.keys()


def test_what_a_tokenizer_from_outside_sees() -> None:
    squares = create_model("cct_2_3x1", tokenizer="their_lab.Squares")
    assert receptive_fields(squares) == (receptive_field(squares), receptive_field(squares))
    assert measured_receptive_field(squares) == receptive_fields(squares)
    stripes = create_model("cct_2_3x1", tokenizer=STRIPES)
    assert [field.size for field in receptive_fields(stripes)] == [8, 4]
    error = shift_error(stripes, torch.randn(2, 3, 32, 32), shifts=[0, 8])
    assert float(error.max()) < 1e-5


def test_a_subclass_that_sees_other_pixels_is_measured() -> None:
    model = create_model("cct_2_3x1", tokenizer="their_lab.Shifted")
    assert isinstance(model.tokenizer, ConvTokenizer)
    assert model.tokenizer.layers() is None
    assert [field.size for field in receptive_fields(model)] == [5, 6]


def test_how_poolings_read_tokens() -> None:
    tokens = torch.randn(3, 6, 128)
    for name, kind in POOLINGS.items():
        pool = kind(embed_dim=128)
        weights = getattr(pool, "weights", None)
        if weights is None:
            assert name == "class_token"  # its token is all that it reads: the attention to it says more
            continue
        found: Tensor = weights(tokens)
        assert found.shape == (3, 6)
        torch.testing.assert_close(found.sum(1), torch.ones(3))
    assert (MeanPool(embed_dim=128).weights(tokens) == 1 / 6).all()
    largest = MaxPool(embed_dim=128).weights(tokens)
    counts = torch.stack([(tokens.argmax(1) == n).sum(1) for n in range(6)], 1)
    torch.testing.assert_close(largest * 128, counts.float())
