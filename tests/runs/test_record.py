"""What a run measures of itself."""

import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from cct_lightning.config.resolved import ResolvedConfig
from cct_lightning.runs.folder import RunFolder
from cct_lightning.runs.record import RunRecord


def test_validations_are_not_in_images_per_second(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    logged: dict[str, float] = {}
    module: Any = SimpleNamespace(device=torch.device("cpu"), log=lambda name, value, **_: logged.update({name: value}))
    trainer: Any = SimpleNamespace(world_size=1, is_last_batch=False)
    batch: Any = SimpleNamespace(image=torch.zeros(10, 1, 8, 8))
    now = 0.0
    monkeypatch.setattr(time, "perf_counter", lambda: now)
    record = RunRecord(
        folder=RunFolder(tmp_path), config=ResolvedConfig.resolve({"data": {"name": "digits"}}), costs={}
    )
    for epoch in (0.0, 1000.0):
        now = epoch
        record.on_train_epoch_start(trainer, module)
        for number in range(2):  # a step of a second and a validation of a hundred: one in the middle, one at the end
            now += 1
            record.on_train_batch_end(trainer, module, None, batch, number)
            record.on_validation_start(trainer, module)
            now += 100
            record.on_validation_end(trainer, module)
        record.on_train_epoch_end(trainer, module)
        assert logged["train/images_per_s"] == 10
