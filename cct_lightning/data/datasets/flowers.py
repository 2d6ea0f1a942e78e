"""Oxford 102 Flowers: photographs, their labels and the published splits in MATLAB files."""

from pathlib import Path

import numpy as np

from cct_lightning.data.datasets.sources import TEST, TRAIN, VAL, Files, Source, class_names, register
from cct_lightning.data.datasets.svhn import read_matlab
from cct_lightning.errors import InputError

_CLASSES = class_names("flowers102")


def flowers102(root: Path) -> Files:
    """List the photographs of the folder flowers-102, in the published splits 1,020, 1,020 and 6,149."""
    number_of = read_matlab(root / "imagelabels.mat", "labels")["labels"].reshape(-1).astype(np.int64) - 1
    sets = read_matlab(root / "setid.mat", "trnid", "valid", "tstid")
    ids = [sets[name].reshape(-1).astype(np.int64) for name in ("trnid", "valid", "tstid")]
    every = np.concatenate(ids)
    if len(every) == 0 or every.min() < 1 or every.max() > len(number_of):
        raise InputError(f"{root}: setid.mat names images that imagelabels.mat does not know. Download both again.")
    return Files(
        root=root,
        path=[f"jpg/image_{i:05d}.jpg" for i in every],
        label=number_of[every - 1],
        split=np.repeat(np.array([TRAIN, VAL, TEST], dtype=np.uint8), [len(part) for part in ids]),
        classes=_CLASSES,
    )


register(
    Source(
        name="flowers102",
        title="Oxford 102 Flowers",
        origin="https://www.robots.ox.ac.uk/~vgg/data/flowers/102",
        license="no license stated; for research, cite Nilsback and Zisserman (2008)",
        read=flowers102,
        base="flowers-102",
        files=("jpg/image_00001.jpg", "imagelabels.mat", "setid.mat"),
        made_of_images=True,
        torchvision="Flowers102",
        classes=_CLASSES,
        in_chans=3,
        size=(224, 224),
        margin=8 / 7,
        mean=(0.4353, 0.3773, 0.2872),
        std=(0.2966, 0.2455, 0.2698),
        splits={"train": 1020, "val": 1020, "test": 6149},
    )
)
