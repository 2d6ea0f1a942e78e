"""What one meets at a prompt: names after a dot, and how objects show themselves."""

import torch

import cct_lightning
from cct_lightning import Batch, ImageDataModule, analysis


def test_names_after_a_dot() -> None:
    assert dir(analysis) == sorted(analysis.__all__)
    for name in dir(cct_lightning) + [f"analysis.{name}" for name in dir(analysis)]:
        found = cct_lightning
        for part in name.split("."):
            found = getattr(found, part)
        assert found.__doc__, f"help({name}) says nothing"


def test_objects_tell_what_they_are() -> None:
    batch = Batch(torch.zeros(2, 1, 8, 8, dtype=torch.uint8), torch.zeros(2).long(), torch.arange(2))
    assert repr(batch) == "Batch(image=(2, 1, 8, 8) torch.uint8, label=(2,) torch.int64, index=(2,) torch.int64)"
    assert repr(ImageDataModule(batch_size=64)).startswith("ImageDataModule(digits, 8x8, batch_size=64, augment: ")
    assert "their own size" in repr(ImageDataModule(name="folder", root="nowhere"))
    result = analysis.reliability(torch.tensor([[2.0, 0.0], [0.0, 2.0]]), torch.tensor([0, 1]), bins=5)
    assert repr(result) == "Reliability(ece=0.1192, 2 images in 5 bins)"
