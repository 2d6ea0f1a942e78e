"""A batch's way on a device that computes on its own: nothing waits for the device, nothing is float64 there."""

from dataclasses import replace

import pytest
import torch
from pretended_gpu import DEVICE, pretended_gpu
from test_augment import EVERYTHING, MEAN, STD

from cct_lightning.data.augment import POLICIES, AugmentPolicy
from cct_lightning.data.augment.mixup import MixingPolicy
from cct_lightning.data.augment.transform import BatchTransform
from cct_lightning.data.batch import Batch
from cct_lightning.data.datamodule import ImageDataModule
from cct_lightning.data.input_spec import InputSpec

POLICY = {
    **EVERYTHING,
    "autoaugment": AugmentPolicy(auto="autoaugment", auto_first=True, crop_padding=0.1, interpolation="nearest"),
    "resized last": replace(POLICIES["timm"], auto_first=True, resized_crop_interpolation="random"),
}
MIXING = {
    "both": MixingPolicy(),
    "mixup": MixingPolicy(cutmix_alpha=0.0, prob=0.5),
    "cutmix": MixingPolicy(mixup_alpha=0.0),
    "neither": None,
}


def transform(name: str, mixing: MixingPolicy | None = None, channels: int = 3, side: int = 32) -> BatchTransform:
    mean, std = MEAN[:channels], STD[:channels]
    spec = InputSpec(
        in_chans=channels,
        img_size=(side, side),
        stored_size=(32, 32),
        fit="resize",
        mean=mean,
        std=std,
        classes=("a",) * 10,
    )
    return BatchTransform(spec, policy=POLICY[name], mixing=mixing)


def batch(device: torch.device, channels: int = 3) -> Batch:
    return Batch(
        torch.zeros(8, channels, 32, 32, dtype=torch.uint8, device=device),
        torch.zeros(8, dtype=torch.int64, device=device),
        torch.zeros(8, dtype=torch.int64),
    )


@pytest.mark.parametrize(
    ("name", "mixing", "channels", "side"),
    [
        *((name, "both", 3, 32) for name in POLICY),
        *(("light", mixing, 3, 32) for mixing in MIXING),
        ("everything", "neither", 1, 24),
        ("none", "neither", 1, 24),
    ],
)
def test_no_batch_waits_for_the_device(name: str, mixing: str, channels: int, side: int) -> None:
    ours = transform(name, MIXING[mixing], channels, side)
    with pretended_gpu() as watch:
        images = batch(DEVICE, channels)
        for step in range(2):  # the first batch brings the tables
            before = watch.waits
            seen = ours.on(DEVICE).train_batch(images, epoch=0, step=step)
            shown = ours.on(DEVICE).eval_batch(images)
    assert watch.waits == before
    for image in (seen.image, shown.image):
        assert (image.device, image.dtype, image.shape) == (DEVICE, torch.float32, (8, channels, side, side))
    assert seen.label.shape == ((8,) if mixing == "neither" else (8, 10))
    assert seen.label.device == DEVICE


def test_indices_stay_where_augmentation_is_drawn() -> None:
    with pretended_gpu():
        loaded = batch(torch.device("cpu"))
        moved = ImageDataModule().transfer_batch_to_device(loaded, DEVICE, 0)
    assert [part.device.type for part in (moved.image, moved.label, moved.index)] == ["cuda", "cuda", "cpu"]


@pytest.mark.gpu
@pytest.mark.parametrize("name", EVERYTHING)
def test_no_batch_waits_for_a_gpu(name: str) -> None:
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    ours, device = transform(name, MixingPolicy()), torch.device("cuda", 0)
    images = batch(device)
    ours.on(device).train_batch(images, epoch=0, step=0)
    torch.cuda.set_sync_debug_mode("error")
    try:
        ours.on(device).train_batch(images, epoch=0, step=1)
        ours.on(device).eval_batch(images)
    finally:
        torch.cuda.set_sync_debug_mode("default")
