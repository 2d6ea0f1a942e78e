"""Real digits and models trained on them for seconds: one for each kind of tokenizer and pooling."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits, load_sample_image
from torch import Tensor, nn

from cct_lightning.models.compact import CompactTransformer
from cct_lightning.models.factory import create_model

VARIANTS = {
    "cct": ("cct_2_3x1", {}),
    "cvt": ("cvt_2_2", {}),
    "vit": ("vit_2_2", {}),
    "cct_class_token": ("cct_2_3x1", {"pool": "class_token"}),
    "cct_mean": ("cct_2_3x1", {"pool": "mean", "position": "sine"}),
    "cvt_max": ("cvt_2_2", {"pool": "max", "position": "none"}),
}


class Digits(NamedTuple):
    """Images as the model reads them, as they are shown, and their classes."""

    images: Tensor  # (B, 1, 8, 8) float32, normalized
    raw: Tensor  # (B, 1, 8, 8) uint8
    labels: Tensor  # (B,) int64


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def all_digits() -> Digits:
    digits = load_digits()
    order = np.random.RandomState(0).permutation(len(digits.target))
    grey = torch.from_numpy(digits.images[order]).float()[:, None] / 16
    return Digits((grey - 0.3) / 0.38, (255 * grey).round().byte(), torch.from_numpy(digits.target[order]))


@pytest.fixture(scope="session")
def digits(all_digits: Digits) -> Digits:
    """Held out from the training."""
    return Digits(*(part[1408:1600] for part in all_digits))


@pytest.fixture(scope="session")
def photos() -> Tensor:
    """Crops of a photograph, (8, 3, 32, 32), normalized."""
    pixels = torch.from_numpy(load_sample_image("china.jpg").copy()).permute(2, 0, 1).float() / 255
    crops = pixels.unfold(1, 32, 45).unfold(2, 32, 90).permute(1, 2, 0, 3, 4).flatten(0, 1)
    return (crops[:8] - 0.5) / 0.25


def train(net: CompactTransformer, digits: Digits, *, steps: int) -> CompactTransformer:
    optimizer = torch.optim.AdamW(net.parameters(), 1e-3)
    for step in range(steps):
        batch = torch.arange(64 * step, 64 * (step + 1)) % 1408
        loss = nn.functional.cross_entropy(net(digits.images[batch]), digits.labels[batch])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return net


@pytest.fixture(scope="session")
def nets(all_digits: Digits) -> dict[str, CompactTransformer]:
    """Left in training mode, as a model in the middle of a run is."""
    torch.manual_seed(0)
    return {
        key: train(create_model(name, img_size=8, in_chans=1, **parts), all_digits, steps=60 if key == "cct" else 15)
        for key, (name, parts) in VARIANTS.items()
    }


@pytest.fixture(params=VARIANTS)
def net(request: pytest.FixtureRequest, nets: dict[str, CompactTransformer]) -> CompactTransformer:
    """Each variant in turn."""
    return nets[request.param]
