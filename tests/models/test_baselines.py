"""The baselines under the same interface, with the sizes that their papers give."""

import sys

import pytest
import torch

from cct_lightning.errors import InputError
from cct_lightning.models.arch import BASELINES
from cct_lightning.models.complexity import summarize
from cct_lightning.models.factory import create_model

# Parameters and MACs of one 32x32 RGB image, 10 classes.
COSTS = {
    "resnet18": (11_173_962, 555_422_720),
    "resnet56": (853_018, 125_485_696),  # He et al., table 6: 0.85M
}


@pytest.mark.parametrize("name", BASELINES)
def test_logits_for_other_channels_and_classes(name: str) -> None:
    if name.startswith("deit"):
        pytest.importorskip("timm")
    model = create_model(name, in_chans=1, num_classes=7).eval()
    with torch.no_grad():
        assert model(torch.randn(2, 1, 32, 32)).shape == (2, 7)


@pytest.mark.parametrize("name", COSTS)
def test_costs(name: str) -> None:
    found = summarize(create_model(name), (32, 32), 3)
    assert (found.params, found.macs, found.tokens) == (*COSTS[name], None)


def test_small_image_form_keeps_resolution() -> None:
    images = torch.randn(1, 3, 32, 32)
    resnet = create_model("resnet18").eval()
    assert resnet.maxpool(resnet.conv1(images)).shape[-2:] == (32, 32)
    assert create_model("mobilenet_v2").eval().features(images).shape[-2:] == (4, 4)


def test_a_part_of_a_baseline_is_refused() -> None:
    with pytest.raises(InputError, match=r"resnet18 has no pool"):
        create_model("resnet18", pool="mean")


@pytest.mark.parametrize(
    ("name", "img_size", "message"),
    [("vit_b_16", (32, 48), "square"), ("vit_b_16", 28, "multiple of 16"), ("deit_tiny", 28, "multiples of 16")],
)
def test_image_sizes_that_do_not_suit(name: str, img_size: int, message: str) -> None:
    with pytest.raises(InputError, match=message):
        create_model(name, img_size=img_size)


@pytest.mark.parametrize("option", ["in_chans", "num_classes", "img_size"])
def test_sizes_below_one(option: str) -> None:
    with pytest.raises(InputError, match=option):
        create_model("resnet18", **{option: 0})


def test_without_timm(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(InputError, match=r"pip install 'cct_lightning\[timm\]'"):
        create_model("deit_tiny")


def test_near_name() -> None:
    with pytest.raises(InputError, match="Did you mean 'resnet18'"):
        create_model("resnet_18")
