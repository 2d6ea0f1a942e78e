"""What the tests of training share."""

import pytest
from training.small import digits

from cct_lightning.data.datamodule import ImageDataModule


@pytest.fixture
def data() -> ImageDataModule:
    """scikit-learn's digits in batches of 64."""
    return digits()
