"""scikit-learn's digits: real data that is there offline, for the first minute and for tests."""

from pathlib import Path

import numpy as np

from cct_lightning.data.datasets.sources import TEST, Arrays, Source, register
from cct_lightning.data.split import DIGITS_TEST, stratified_order

TEST_SIZE, SEED = 359, 0  # a fifth; the seed is part of what "the digits test set" means here


def digits(root: Path) -> Arrays:
    """Read scikit-learn's 1,797 scans of 8x8 pixels (UCI ML hand-written digits, test set, 1998); root is not used.

    scikit-learn has no split. Ours holds out 359 images, stratified, always the same ones.
    """
    from sklearn.datasets import load_digits

    data = load_digits()
    image = np.round(data.images * (255 / 16)).astype(np.uint8)[:, None]
    label = data.target.astype(np.int64)
    split = np.zeros(len(label), dtype=np.uint8)
    split[stratified_order(label, seed=SEED, stream=DIGITS_TEST)[:TEST_SIZE]] = TEST
    return Arrays(image=image, label=label, split=split)


register(
    Source(
        name="digits",
        title="scikit-learn digits (UCI optical recognition of handwritten digits)",
        origin="inside the package scikit-learn",
        license="CC BY 4.0",
        read=digits,
        classes=tuple("0123456789"),
        in_chans=1,
        size=(8, 8),
        mean=(0.3046,),
        std=(0.3755,),
        splits={"train": 1438, "test": 359},
        augment="digits",
    )
)
