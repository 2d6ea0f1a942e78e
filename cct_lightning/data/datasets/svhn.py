"""SVHN, cropped: two MATLAB files."""

from pathlib import Path

import numpy as np

from cct_lightning.data.datasets.sources import TEST, TRAIN, Arrays, Source, register
from cct_lightning.errors import InputError


def svhn(root: Path) -> Arrays:
    """Read the two MATLAB files of cropped digits; label 10 is the digit 0."""
    parts = []
    for name, number in (("train_32x32.mat", TRAIN), ("test_32x32.mat", TEST)):
        content = read_matlab(root / name, "X", "y")
        label = content["y"].astype(np.int64).reshape(-1) % 10
        image = np.ascontiguousarray(content["X"].transpose(3, 2, 0, 1))  # (H, W, C, N) -> (N, C, H, W)
        parts.append((image, label, number))
    return Arrays.joined(parts)


def read_matlab(path: Path, *names: str) -> dict[str, np.ndarray]:
    """Return variables of a MATLAB file by their names."""
    from scipy.io import loadmat

    try:
        content = loadmat(path, variable_names=names)
        return {name: content[name] for name in names}
    except Exception as error:  # a broken file raises nearly anything
        raise InputError(f"{path} is not a complete MATLAB file ({error}). Remove it and download it again.") from error


register(
    Source(
        name="svhn",
        title="SVHN (street view house numbers, cropped)",
        origin="http://ufldl.stanford.edu/housenumbers",
        license="for non-commercial use only",
        read=svhn,
        files=("train_32x32.mat", "test_32x32.mat"),
        torchvision="SVHN",
        by_split=({"split": "train"}, {"split": "test"}),
        classes=tuple("0123456789"),
        in_chans=3,
        size=(32, 32),
        mean=(0.4377, 0.4438, 0.4728),
        std=(0.1980, 0.2010, 0.1970),
        splits={"train": 73257, "test": 26032},
        augment="digits",
    )
)
