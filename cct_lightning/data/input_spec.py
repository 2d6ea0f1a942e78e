"""`InputSpec`: everything that happens to pixels before the model; checkpoints and exports keep it.

Loaders, predictions and exports all ask here, so that they show a model the same pixels under the same names. An image
file becomes *stored* pixels (`decode`), and those what the model takes (`augment.input_transform.InputTransform`).

Letters: C channels, H height, W width, K classes.
"""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np

from cct_lightning.data.arguments import unit_scale
from cct_lightning.data.classes import normal_name
from cct_lightning.data.storage.decode import decode
from cct_lightning.errors import InputError

Interpolation = Literal["bilinear", "bicubic"]
Fit = Literal["crop", "resize"]


@dataclass(frozen=True, kw_only=True)
class InputSpec:
    """What a model's images are, from the file to the normalized tensor.

    Raises:
        InputError: An option is outside its range.
    """

    in_chans: int  # C, 1 for grey or 3 for RGB
    img_size: tuple[int, int]  # (H, W) that the model sees
    stored_size: tuple[int, int]  # (H, W) that image files are decoded to; arrays such as CIFAR's have it already
    fit: Fit = "crop"  # how stored pixels become `img_size`: `crop` takes their center, `resize` resizes all of them
    interpolation: Interpolation = "bilinear"  # of that resize, antialiased as in Pillow
    decode_interpolation: Interpolation = "bicubic"  # of a file whose shorter side is resized to stored_size, likewise
    max_value: int = 255  # the pixel value that is 1 on the scale of mean and std
    mean: tuple[float, ...] | None = None  # per channel, 0 to 1; None where a checkpoint does not say it
    std: tuple[float, ...] | None = None  # per channel, 0 to 1, likewise
    classes: tuple[str, ...] = ()  # K names, in the order of the logits

    def __post_init__(self) -> None:
        kinds = {"fit": Fit, "interpolation": Interpolation, "decode_interpolation": Interpolation}
        for name, kind in kinds.items():
            if getattr(self, name) not in get_args(kind):
                raise InputError(f"{name} is one of {', '.join(get_args(kind))}; got {getattr(self, name)!r}.")
        for name, size in (("size", self.img_size), ("stored_size", self.stored_size)):
            if len(size) != 2 or min(size) < 1:
                raise InputError(f"{name} is a height and a width of at least 1 pixel; got {tuple(size)}.")
        for name, values in (("mean", self.mean), ("std", self.std)):
            unit_scale(name, values or ())
        if self.fit == "crop" and (self.stored_size[0] < self.img_size[0] or self.stored_size[1] < self.img_size[1]):
            raise InputError(f"Images stored at {self.stored_size} are too small for a crop of {self.img_size}.")

    @property
    def preprocessing(self) -> dict[str, Any]:
        """Stored size, crop or resize, interpolation, as plain values: what version 0.1 kept in no checkpoint."""
        return self._plain("stored_size", "fit", "interpolation", "decode_interpolation", "max_value")

    def as_dict(self) -> dict[str, Any]:
        """Return the fields as plain values under their names in checkpoints and exports; see `from_hparams`."""
        return {**self._plain("img_size", "in_chans", "classes", "mean", "std"), "preprocessing": self.preprocessing}

    def _plain(self, *names: str) -> dict[str, Any]:
        values = {name: getattr(self, name) for name in names}
        return {name: list(value) if isinstance(value, tuple) else value for name, value in values.items()}

    @classmethod
    def from_hparams(cls, hparams: Mapping[str, Any]) -> "InputSpec":
        """Build the spec from a checkpoint's hyperparameters or an export's metadata.

        Checkpoints of version 0.1 have no `preprocessing`: their image files are decoded at `img_size`, as then.

        Args:
            hparams: `img_size`, `in_chans`; where known `classes` (or `num_classes`), `mean`, `std`, `preprocessing`.

        Raises:
            InputError: A value is out of range, or was written by a later version.
        """
        more = dict(hparams.get("preprocessing") or {})
        unknown = set(more) - {field.name for field in dataclasses.fields(cls)}
        if unknown:
            raise InputError(f"The checkpoint's preprocessing has an unknown {min(unknown)!r}: update cct_lightning.")
        height, width = hparams["img_size"]
        mean, std = hparams.get("mean"), hparams.get("std")
        classes = hparams.get("classes") or [str(k) for k in range(hparams.get("num_classes") or 0)]
        return cls(
            in_chans=hparams["in_chans"],
            img_size=(height, width),
            mean=None if mean is None else tuple(mean),
            std=None if std is None else tuple(std),
            classes=tuple(map(normal_name, classes)),
            **{**more, "stored_size": tuple(more.get("stored_size") or (height, width))},
        )

    def at_size(self, img_size: tuple[int, int]) -> "InputSpec":
        """Return the spec for a model of another (H, W), which is shown the same part of an image."""
        if self.fit == "resize":
            return dataclasses.replace(self, img_size=img_size)
        stored = [round(s * new / old) for s, new, old in zip(self.stored_size, img_size, self.img_size, strict=True)]
        return dataclasses.replace(self, img_size=img_size, stored_size=(stored[0], stored[1]))

    def decode(self, path: Path) -> np.ndarray:
        """Read an image file as stored pixels, (C, *stored_size) uint8; an InputError names one that cannot be read."""
        return decode(path, in_chans=self.in_chans, size=self.stored_size, interpolation=self.decode_interpolation)


def stored_input_spec(path: str | Path) -> InputSpec | None:
    """Return the spec that a checkpoint, or what `cct convert` made of one, keeps; None for weights alone.

    Raises:
        InputError: The file cannot be read safely as a checkpoint.
    """
    from cct_lightning.models.weights.reader import read_weights  # only a fine-tuning run needs it

    hparams = read_weights(Path(path)).hparams
    known = {"img_size", "in_chans", "mean", "std"} <= hparams.keys()
    return InputSpec.from_hparams(hparams) if known else None
