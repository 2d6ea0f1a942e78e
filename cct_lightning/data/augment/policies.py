"""What a recipe says about augmentation: one dataclass of options, and the named policies built from it.

Sources: the 200-epoch and 300-epoch recipes of Compact Transformers (Hassani et al., arXiv 2104.05704), timm's
RandAugment and resized crop, torchvision's AutoAugment and TrivialAugmentWide, Zhong et al., "Random Erasing Data
Augmentation" (arXiv 1708.04896).
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, Literal, get_args, get_origin, get_type_hints

from cct_lightning.data.augment.registry import find_operation
from cct_lightning.errors import InputError, nearest

Interpolation = Literal["nearest", "bilinear", "bicubic", "random"]


@dataclass(frozen=True, kw_only=True)
class AugmentPolicy:
    """Everything that may happen to a training image, in this order: crop, flip, affine, automatic
    augmentation, normalize, erase.

    Each part is off by default. Every random choice is made per sample, by (seed, epoch, sample index) alone.

    Args:
        crop_padding: Pad by this fraction of the image's side, then crop back at random; 0.125 is 4 pixels at 32.
        padding_mode: What the padding shows: `constant` (the fill) or `reflect` (the image mirrored at its edge).
        fill: What comes in from outside the image, 0 to 255, or `mean` for the data set's mean color.
        resized_crop_scale: Crop this range of the image's area and resize it to the full size; null is off.
        resized_crop_ratio: Range of width over height of the resized crop.
        resized_crop_interpolation: `bilinear`, `bicubic`, or `random`: one of the two for each sample. Both are
            antialiased when they shrink, as in Pillow.
        hflip: Probability of a horizontal flip.
        affine_degrees: Rotate by up to this many degrees either way.
        affine_translate: Shift by up to this fraction of the image's side, along each axis, either way.
        affine_scale: Range of zoom; 1.1 shows the image a tenth larger.
        auto: Automatic augmentation: `none`, `randaugment` (timm's), `autoaugment` or `trivialaugment` (torchvision's).
        interpolation: How its rotations, shears and shifts sample; `random` is timm's bilinear or bicubic.
        auto_first: Run it before crop and flip, so that padding is not recolored, as in the 200-epoch recipe.
        num_ops: RandAugment's operations per image.
        magnitude: RandAugment's strength, 0 to 10.
        magnitude_std: Standard deviation of the normal noise on the magnitude.
        increasing: Let every RandAugment operation grow stronger with the magnitude.
        extra_ops: Operations that RandAugment or TrivialAugment draws from beside the published ones, each as likely:
            names, or import paths of functions of yours that `cct_lightning.data.augment.operation` registers.
        op_prob: Probability that each of RandAugment's chosen operations is applied; timm has 0.5.
        autoaugment_policy: Which of the published tables AutoAugment takes: `cifar10`, `svhn` or `imagenet`.
        erasing: Probability that a rectangle is erased after normalization.
        erasing_scale: Range of the rectangle's area as a fraction of the image's.
        erasing_ratio: Range of the rectangle's height over width.
        erasing_mode: `const` (the mean color), `rand` (one normal color) or `pixel` (normal noise).

    Raises:
        InputError: An option is outside its range.
    """

    crop_padding: float = 0.0
    padding_mode: Literal["constant", "reflect"] = "constant"
    fill: int | Literal["mean"] = 0
    resized_crop_scale: tuple[float, float] | None = None
    resized_crop_ratio: tuple[float, float] = (3 / 4, 4 / 3)
    resized_crop_interpolation: Literal["bilinear", "bicubic", "random"] = "bilinear"
    hflip: float = 0.0
    affine_degrees: float = 0.0
    affine_translate: float = 0.0
    affine_scale: tuple[float, float] = (1.0, 1.0)
    auto: Literal["none", "randaugment", "autoaugment", "trivialaugment"] = "none"
    interpolation: Interpolation = "nearest"
    auto_first: bool = False
    num_ops: int = 2
    magnitude: float = 9.0
    magnitude_std: float = 0.0
    increasing: bool = True
    extra_ops: tuple[str, ...] = ()
    op_prob: float = 0.5
    autoaugment_policy: Literal["cifar10", "svhn", "imagenet"] = "cifar10"
    erasing: float = 0.0
    erasing_scale: tuple[float, float] = (0.02, 1 / 3)
    erasing_ratio: tuple[float, float] = (0.3, 1 / 0.3)
    erasing_mode: Literal["const", "rand", "pixel"] = "const"

    def __post_init__(self) -> None:
        for name, kind in get_type_hints(type(self)).items():
            if get_origin(kind) is Literal and getattr(self, name) not in get_args(kind):
                value, choices = getattr(self, name), get_args(kind)
                hint = nearest(str(value), choices)
                raise InputError(f"{name} is one of {', '.join(choices)}; got {value!r}.{hint}")
        for names, what, right in _RULES:
            for name in names:
                if not right(value := getattr(self, name)):
                    raise InputError(f"{name} is {what}; got {value!r}.")
        if self.crop_padding and self.resized_crop_scale is not None:
            raise InputError("crop_padding and resized_crop_scale both crop; set one of them.")
        if self.extra_ops and self.auto not in ("randaugment", "trivialaugment"):
            raise InputError("extra_ops are drawn by auto: randaugment or trivialaugment; set one of them.")
        for name in self.extra_ops:
            find_operation(name, self.auto_space)

    @property
    def auto_space(self) -> str:
        """Which of an operation's ranges the automatic augmentation draws from."""
        return "randaugment_increasing" if self.auto == "randaugment" and self.increasing else self.auto

    @property
    def affine(self) -> bool:
        """Whether the random rotation, shift and zoom have anything to do."""
        return bool(self.affine_degrees or self.affine_translate or tuple(self.affine_scale) != (1, 1))

    def __str__(self) -> str:
        changed = [f for f in fields(self) if getattr(self, f.name) != f.default]
        return ", ".join(f"{f.name}={getattr(self, f.name)!r}" for f in changed) or "nothing"


def _is_fill(fill: object) -> bool:
    return fill == "mean" or (isinstance(fill, int) and not isinstance(fill, bool) and 0 <= fill <= 255)


def _is_range(pair: tuple[float, ...], most: float = math.inf) -> bool:
    return len(pair) == 2 and 0 < pair[0] <= pair[1] <= most and pair[1] < math.inf


# Options, what each is, and whether a value is that.
_RULES: tuple[tuple[tuple[str, ...], str, Callable[[Any], bool]], ...] = (
    (("hflip", "op_prob", "erasing"), "a probability from 0 to 1", lambda p: 0 <= p <= 1),
    (("crop_padding",), "a fraction of the image's side, at least 0 and below 1 (0.125 is 4 pixels at 32)",
     lambda p: 0 <= p < 1),
    (("fill",), "'mean' or a whole number from 0 to 255", _is_fill),
    (("affine_degrees",), "an angle from 0 to 180", lambda a: 0 <= a <= 180),
    (("affine_translate",), "a fraction of the image's side from 0 to 1", lambda t: 0 <= t <= 1),
    (("magnitude",), "a strength from 0 to 10", lambda m: 0 <= m <= 10),
    (("magnitude_std",), "0 or a finite positive number", lambda s: 0 <= s < math.inf),
    (("num_ops",), "a whole number, at least 1", lambda n: isinstance(n, int) and n >= 1),
    (("resized_crop_ratio", "affine_scale", "erasing_ratio"), "two positive numbers, the smaller first", _is_range),
    (("erasing_scale",), "two fractions in (0, 1], the smaller first", lambda r: _is_range(r, 1)),
    (("resized_crop_scale",), "null or two fractions in (0, 1], the smaller first",
     lambda r: r is None or _is_range(r, 1)),
)  # fmt: skip

_TIMM = AugmentPolicy(
    resized_crop_scale=(0.8, 1.0),
    resized_crop_interpolation="random",
    hflip=0.5,
    auto="randaugment",
    interpolation="random",
    magnitude=9,
    magnitude_std=0.5,
    fill="mean",
)

POLICIES: dict[str, AugmentPolicy] = {
    "none": AugmentPolicy(),
    "light": AugmentPolicy(crop_padding=0.125, hflip=0.5),
    "basic": AugmentPolicy(auto="autoaugment", auto_first=True, crop_padding=0.125, hflip=0.5),
    "timm": _TIMM,
    "timm_erasing": replace(_TIMM, erasing=0.25, erasing_mode="pixel"),
    "timm_imagenet": replace(_TIMM, erasing=0.25, erasing_mode="pixel", resized_crop_scale=(0.08, 1.0)),
    "digits": AugmentPolicy(affine_degrees=10, affine_translate=0.1, affine_scale=(0.9, 1.1), interpolation="bilinear"),
}


def named_or_whole(options: Mapping[str, Any]) -> str | dict[str, Any]:
    """Return the name of the shipped policy that has these options, else the policy with all its options."""
    values: dict[str, Any] = {key: tuple(v) if isinstance(v, list) else v for key, v in options.items()}
    policy = AugmentPolicy(**values)
    return next((name for name, shipped in POLICIES.items() if shipped == policy), asdict(policy))


def find_policy(policy: AugmentPolicy | str) -> AugmentPolicy:
    """Return a policy as it is, or look its name up.

    Raises:
        InputError: No policy has that name.
    """
    if isinstance(policy, AugmentPolicy):
        return policy
    if policy not in POLICIES:
        hint = nearest(str(policy), POLICIES)
        raise InputError(f"No augmentation policy is called {policy!r}; there are {', '.join(POLICIES)}.{hint}")
    return POLICIES[policy]
