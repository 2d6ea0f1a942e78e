"""Weights that every machine can rebuild: the rule of the golden files."""

import zlib
from collections.abc import Callable

import numpy as np
import pytest
import torch

from cct_lightning.models.arch import parse_arch
from cct_lightning.models.compact import CompactTransformer
from cct_lightning.models.position import sine_table
from cct_lightning.models.weights.reference import to_published

NORMS = ("pre_norm.weight", "norm1.weight", "norm.weight")


def golden_weight(name: str, shape: tuple[int, ...]) -> torch.Tensor:
    """The rule by which the golden weights are rebuilt from a parameter's published name."""
    x = np.random.RandomState(zlib.crc32(name.encode()) % 2**31).standard_normal(shape).astype(np.float32)
    if name.endswith(NORMS):
        x = 1 + 0.1 * x
    elif "conv_layers" in name and name.endswith("weight"):
        x = x * np.sqrt(2 / np.prod(shape[1:]))
    else:
        x = 0.1 * x
    return torch.from_numpy(x.astype(np.float32))


def _golden_state(name: str) -> dict[str, torch.Tensor]:
    with torch.device("meta"):
        model = CompactTransformer(parse_arch(name))
    shapes = {key: value.shape for key, value in to_published(model.state_dict()).items()}
    state = {key: golden_weight(key, shape) for key, shape in shapes.items()}
    if "sine" in name:
        table = shapes["classifier.positional_emb"]
        state["classifier.positional_emb"] = sine_table(table[1], table[2])
    return state


@pytest.fixture(scope="session")
def golden_state() -> Callable[[str], dict[str, torch.Tensor]]:
    """From a model's name to its golden weights, under the published names."""
    return _golden_state


@pytest.fixture(scope="session")
def golden_images() -> Callable[[int, int], torch.Tensor]:
    """From channels and side to the two golden images."""

    def images(channels: int, side: int) -> torch.Tensor:
        return torch.from_numpy(np.random.RandomState(0).standard_normal((2, channels, side, side)).astype(np.float32))

    return images
