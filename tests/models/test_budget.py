"""Parameters and MACs: arithmetic against built modules, against PyTorch's counter and against the published table."""

import pytest
import torch

from cct_lightning.models.arch import HIDDEN_CHANS, PUBLISHED, conv_grids, parse_arch, resolve_arch
from cct_lightning.models.compact import CompactTransformer
from cct_lightning.models.complexity import budget, summarize
from cct_lightning.models.factory import create_model

# Parameters in millions and MACs in billions, as printed (arXiv 2104.05704 and the tables of its repository).
TABLE = {
    "vit_6_4": ("3.191", "0.205"), "vit_7_4": ("3.717", "0.239"), "cvt_6_4": ("3.190", "0.202"),
    "cvt_7_4": ("3.717", "0.236"), "cct_2_3x2": ("0.284", "0.033"), "cct_4_3x2": ("0.482", "0.046"),
    "cct_6_3x2": ("3.327", "0.241"), "cct_7_3x2": ("3.853", "0.275"), "cct_6_3x1_32_sine": ("3.168", "0.813"),
    "cct_7_3x1": ("3.760", "0.947"), "cct_14_7x2_224": ("22.36", "5.11"), "cct_14_7x2_384": ("22.51", "15.02"),
}  # fmt: skip

SWAPS = [
    *({"pool": pool} for pool in ("seqpool", "class_token", "mean", "max")),
    *({"position": position} for position in ("learnable", "sine", "none")),
    {"tokenizer": "patch", "kernel_size": 8}, {"tokenizer": "conv", "kernel_size": 7, "conv_blocks": 2},
    {"mlp_ratio": 2.5}, {"embed_dim": 96, "num_heads": 3}, {"depth": 3},
    {"img_size": (24, 40)}, {"in_chans": 1}, {"num_classes": 37},
]  # fmt: skip


def check(arch_name: str, **parts: object) -> None:
    arch = resolve_arch(arch_name, **parts)
    with torch.device("meta"):
        model = CompactTransformer(arch)
    counted, built = budget(arch), summarize(model, arch.img_size, arch.in_chans)
    assert (counted.params, counted.macs + counted.attention_macs, counted.tokens) == (
        built.params,
        built.macs,
        built.tokens,
    )


@pytest.mark.parametrize("name", PUBLISHED)
def test_budget_is_that_of_the_built_module(name: str) -> None:
    check(name)


@pytest.mark.parametrize("family", ["cct_2_3x1", "vit_2_4"])
@pytest.mark.parametrize("parts", SWAPS, ids=str)
def test_budget_of_every_swap(family: str, parts: dict[str, object]) -> None:
    check(family, **parts)


def test_every_published_name_once() -> None:
    assert len(set(PUBLISHED)) == len(PUBLISHED) == 35


@pytest.mark.parametrize("name", TABLE)
def test_published_table(name: str) -> None:
    arch, (params, macs) = parse_arch(name), TABLE[name]
    counted, relu = budget(arch), 0
    if arch.tokenizer == "conv":  # see the docstring of `budget`
        grids = conv_grids(arch.img_size, kernel_size=arch.kernel_size, conv_blocks=arch.conv_blocks)[::2]
        chans = [HIDDEN_CHANS] * (arch.conv_blocks - 1) + [arch.embed_dim]
        relu = sum(channels * height * width for channels, (height, width) in zip(chans, grids, strict=True))
    assert f"{(counted.macs + relu) / 1e9:.{len(macs.split('.')[1])}f}" == macs
    cut = name == "cct_14_7x2_224"
    assert f"{counted.params / 1e6 - 0.005 * cut:.{len(params.split('.')[1])}f}" == params


def test_summary_leaves_the_model_as_it_was() -> None:
    model = create_model("resnet18", num_classes=7).train()
    model.layer1.eval()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    summarize(model, (32, 32), 3)
    assert model.training
    assert model.bn1.training
    assert not model.layer1[0].bn1.training
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_classes_of_names_without_a_data_set() -> None:
    published = {"cct_7_7x2_224": 102, "cct_7_7x2_224_sine": 102, "cct_14_7x2_224": 1000, "cct_14_7x2_384": 1000}
    data = {"cct_14_7x2_384_fl": 102, "cct_7_3x1_c100": 100}
    # What nobody has published means no data set.
    others = dict.fromkeys(("cct_2_3x2_224", "cct_14_3x1_224", "cct_7_7x2_384", "vit_7_16_224", "cct_7_3x1"), 10)
    for name, classes in {**published, **data, **others}.items():
        assert parse_arch(name).num_classes == classes, name
    assert create_model("cct_2_3x2_224").head.out_features == 10
