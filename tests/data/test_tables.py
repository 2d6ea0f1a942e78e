"""What is drawn comes to a device as it was, whatever the types and shapes beside each other."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from cct_lightning.data.augment.augment import Augment
from cct_lightning.data.augment.tables import to_device


def test_one_copy_keeps_every_value(monkeypatch: pytest.MonkeyPatch) -> None:
    augment = Augment("timm_erasing", size=(32, 32), mean=[0.5], std=[0.25])
    drawn = augment.draw(torch.arange(7), 3, (32, 32))  # an odd number of booleans between numbers of 4 and 8 bytes
    device: Any = SimpleNamespace(type="cuda")
    monkeypatch.setattr(torch.Tensor, "to", lambda tensor, *_, **__: tensor)
    moved = to_device(drawn, device)
    assert type(moved) is type(drawn)
    for one, two in zip(drawn, moved, strict=True):
        pairs = [(one, two)] if isinstance(one, torch.Tensor) else list(zip(one, two, strict=True))
        assert all(a.dtype == b.dtype and torch.equal(a, b) for a, b in pairs)
