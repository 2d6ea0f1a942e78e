"""Real images for the tests of augmentation: scikit-learn's photographs and digits, and CIFAR-10 where it is."""

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from sklearn.datasets import load_digits, load_sample_images
from torch import Tensor


def photographs(count: int = 48, *, height: int = 32, width: int = 32) -> Tensor:
    """Cuts of two photographs, uint8 (count, 3, height, width), dark, bright and detailed ones among them."""
    pictures, rng, cuts = load_sample_images().images, np.random.RandomState(0), []
    for i in range(count):
        picture = pictures[i % 2]
        top, left = rng.randint(picture.shape[0] - height), rng.randint(picture.shape[1] - width)
        cuts.append(picture[top : top + height, left : left + width])
    return torch.from_numpy(np.stack(cuts)).permute(0, 3, 1, 2).contiguous()


def scans(count: int = 16) -> Tensor:
    """Handwritten digits, uint8 (count, 1, 8, 8)."""
    return torch.from_numpy(np.round(load_digits().images[:count] * (255 / 16)).astype(np.uint8))[:, None]


def cifar(folder: Path, count: int = 48) -> Tensor:
    """The first training images of packed CIFAR-10, uint8 (count, 3, 32, 32)."""
    with np.load(folder / "cifar10-0.npz") as pack:
        key = next(k for k in sorted(pack.files) if k.endswith(".bytes") and ".train." in f".{k}")
        sheet = np.asarray(Image.open(io.BytesIO(pack[key].tobytes())).convert("RGB"))
    rows = sheet.shape[0] // 32
    images = sheet.reshape(rows, 32, -1, 32, 3).swapaxes(1, 2).reshape(-1, 32, 32, 3)[:count]
    return torch.from_numpy(images.copy()).permute(0, 3, 1, 2).contiguous()


def by_pillow(images: Tensor, change: Callable[[Any], Any]) -> Tensor:
    """Send images through Pillow one by one."""
    done = [np.asarray(change(Image.fromarray(image.permute(1, 2, 0).numpy()))) for image in images]
    return torch.from_numpy(np.stack(done)).permute(0, 3, 1, 2)


def distance(ours: Tensor, theirs: Tensor) -> int:
    """The largest difference of two uint8 images, in gray levels of 255."""
    assert ours.dtype == theirs.dtype == torch.uint8
    assert ours.shape == theirs.shape
    return int((ours.int() - theirs.int()).abs().max())
