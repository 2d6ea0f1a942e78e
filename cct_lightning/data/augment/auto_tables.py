"""The published numbers of automatic augmentation: how each operation's argument grows, and AutoAugment's policies.

Sources: timm's `LEVEL_TO_ARG` and transform lists; torchvision's `_AUGMENTATION_SPACE` of `AutoAugment` and
`TrivialAugmentWide`, and its tables of AutoAugment's policies (Cubuk et al., arXiv 1805.09501, appendix).
"""

from typing import NamedTuple

from cct_lightning.data.augment.operations import Op


class Range(NamedTuple):
    """An operation's argument at level t from 0 to 1: base + span * t, with these twists.

    Args:
        base: At level 0.
        span: From level 0 to level 1.
        signed: Half the time, base - span * t instead.
        per_side: The span is a fraction of the image's side along the motion.
        whole: The change is rounded to a whole number: 0.0 truncates, 0.5 takes the nearest; null leaves it.
    """

    base: float = 0.0
    span: float = 0.0
    signed: bool = False
    per_side: bool = False
    whole: float | None = None


def _space(
    *, enhance: Range, posterize: Range, solarize: Range, degrees: float, shear: float, translate: Range
) -> dict[int, Range]:
    blends = (Op.BRIGHTNESS, Op.CONTRAST, Op.COLOR, Op.SHARPNESS)
    return {
        Op.AUTOCONTRAST: Range(),
        Op.EQUALIZE: Range(),
        Op.POSTERIZE: posterize,
        Op.SOLARIZE: solarize,
        **dict.fromkeys(blends, enhance),
        Op.ROTATE: Range(span=degrees, signed=True),
        Op.SHEAR_X: Range(span=shear, signed=True),
        Op.SHEAR_Y: Range(span=shear, signed=True),
        Op.TRANSLATE_X: translate,
        Op.TRANSLATE_Y: translate,
    }


_TIMM_MORE = {Op.INVERT: Range(), Op.SOLARIZE_ADD: Range(span=110, whole=0.0)}
_TIMM_TRANSLATE = Range(span=0.45, signed=True, per_side=True)

SPACES: dict[str, dict[int, Range]] = {
    "randaugment_increasing": {
        **_space(
            enhance=Range(base=1, span=0.9, signed=True),
            posterize=Range(base=4, span=-4, whole=0.0),
            solarize=Range(base=256, span=-256, whole=0.0),
            degrees=30,
            shear=0.3,
            translate=_TIMM_TRANSLATE,
        ),
        **_TIMM_MORE,
    },
    "randaugment": {
        **_space(
            enhance=Range(base=0.1, span=1.8),
            posterize=Range(span=4, whole=0.0),
            solarize=Range(span=256, whole=0.0),
            degrees=30,
            shear=0.3,
            translate=_TIMM_TRANSLATE,
        ),
        **_TIMM_MORE,
    },
    "autoaugment": {
        **_space(
            enhance=Range(base=1, span=0.9, signed=True),
            posterize=Range(base=8, span=-4, whole=0.5),
            solarize=Range(base=255, span=-255),
            degrees=30,
            shear=0.3,
            translate=Range(span=150 / 331, signed=True, per_side=True, whole=0.0),
        ),
        Op.INVERT: Range(),
    },
    "trivialaugment": {
        **_space(
            enhance=Range(base=1, span=0.99, signed=True),
            posterize=Range(base=8, span=-6, whole=0.5),
            solarize=Range(base=255, span=-255),
            degrees=135,
            shear=0.99,
            translate=Range(span=32, signed=True, whole=0.0),
        ),
        Op.IDENTITY: Range(),
    },
}

Step = tuple[int, float, int]  # operation, probability, level 0 to 9
SubPolicy = tuple[Step, Step]

# Level 0 where the operation takes no argument.
AUTOAUGMENT: dict[str, tuple[SubPolicy, ...]] = {
    "cifar10": (
        ((Op.INVERT, 0.1, 0), (Op.CONTRAST, 0.2, 6)),
        ((Op.ROTATE, 0.7, 2), (Op.TRANSLATE_X, 0.3, 9)),
        ((Op.SHARPNESS, 0.8, 1), (Op.SHARPNESS, 0.9, 3)),
        ((Op.SHEAR_Y, 0.5, 8), (Op.TRANSLATE_Y, 0.7, 9)),
        ((Op.AUTOCONTRAST, 0.5, 0), (Op.EQUALIZE, 0.9, 0)),
        ((Op.SHEAR_Y, 0.2, 7), (Op.POSTERIZE, 0.3, 7)),
        ((Op.COLOR, 0.4, 3), (Op.BRIGHTNESS, 0.6, 7)),
        ((Op.SHARPNESS, 0.3, 9), (Op.BRIGHTNESS, 0.7, 9)),
        ((Op.EQUALIZE, 0.6, 0), (Op.EQUALIZE, 0.5, 0)),
        ((Op.CONTRAST, 0.6, 7), (Op.SHARPNESS, 0.6, 5)),
        ((Op.COLOR, 0.7, 7), (Op.TRANSLATE_X, 0.5, 8)),
        ((Op.EQUALIZE, 0.3, 0), (Op.AUTOCONTRAST, 0.4, 0)),
        ((Op.TRANSLATE_Y, 0.4, 3), (Op.SHARPNESS, 0.2, 6)),
        ((Op.BRIGHTNESS, 0.9, 6), (Op.COLOR, 0.2, 8)),
        ((Op.SOLARIZE, 0.5, 2), (Op.INVERT, 0.0, 0)),
        ((Op.EQUALIZE, 0.2, 0), (Op.AUTOCONTRAST, 0.6, 0)),
        ((Op.EQUALIZE, 0.2, 0), (Op.EQUALIZE, 0.6, 0)),
        ((Op.COLOR, 0.9, 9), (Op.EQUALIZE, 0.6, 0)),
        ((Op.AUTOCONTRAST, 0.8, 0), (Op.SOLARIZE, 0.2, 8)),
        ((Op.BRIGHTNESS, 0.1, 3), (Op.COLOR, 0.7, 0)),
        ((Op.SOLARIZE, 0.4, 5), (Op.AUTOCONTRAST, 0.9, 0)),
        ((Op.TRANSLATE_Y, 0.9, 9), (Op.TRANSLATE_Y, 0.7, 9)),
        ((Op.AUTOCONTRAST, 0.9, 0), (Op.SOLARIZE, 0.8, 3)),
        ((Op.EQUALIZE, 0.8, 0), (Op.INVERT, 0.1, 0)),
        ((Op.TRANSLATE_Y, 0.7, 9), (Op.AUTOCONTRAST, 0.9, 0)),
    ),
    "svhn": (
        ((Op.SHEAR_X, 0.9, 4), (Op.INVERT, 0.2, 0)),
        ((Op.SHEAR_Y, 0.9, 8), (Op.INVERT, 0.7, 0)),
        ((Op.EQUALIZE, 0.6, 0), (Op.SOLARIZE, 0.6, 6)),
        ((Op.INVERT, 0.9, 0), (Op.EQUALIZE, 0.6, 0)),
        ((Op.EQUALIZE, 0.6, 0), (Op.ROTATE, 0.9, 3)),
        ((Op.SHEAR_X, 0.9, 4), (Op.AUTOCONTRAST, 0.8, 0)),
        ((Op.SHEAR_Y, 0.9, 8), (Op.INVERT, 0.4, 0)),
        ((Op.SHEAR_Y, 0.9, 5), (Op.SOLARIZE, 0.2, 6)),
        ((Op.INVERT, 0.9, 0), (Op.AUTOCONTRAST, 0.8, 0)),
        ((Op.EQUALIZE, 0.6, 0), (Op.ROTATE, 0.9, 3)),
        ((Op.SHEAR_X, 0.9, 4), (Op.SOLARIZE, 0.3, 3)),
        ((Op.SHEAR_Y, 0.8, 8), (Op.INVERT, 0.7, 0)),
        ((Op.EQUALIZE, 0.9, 0), (Op.TRANSLATE_Y, 0.6, 6)),
        ((Op.INVERT, 0.9, 0), (Op.EQUALIZE, 0.6, 0)),
        ((Op.CONTRAST, 0.3, 3), (Op.ROTATE, 0.8, 4)),
        ((Op.INVERT, 0.8, 0), (Op.TRANSLATE_Y, 0.0, 2)),
        ((Op.SHEAR_Y, 0.7, 6), (Op.SOLARIZE, 0.4, 8)),
        ((Op.INVERT, 0.6, 0), (Op.ROTATE, 0.8, 4)),
        ((Op.SHEAR_Y, 0.3, 7), (Op.TRANSLATE_X, 0.9, 3)),
        ((Op.SHEAR_X, 0.1, 6), (Op.INVERT, 0.6, 0)),
        ((Op.SOLARIZE, 0.7, 2), (Op.TRANSLATE_Y, 0.6, 7)),
        ((Op.SHEAR_Y, 0.8, 4), (Op.INVERT, 0.8, 0)),
        ((Op.SHEAR_X, 0.7, 9), (Op.TRANSLATE_Y, 0.8, 3)),
        ((Op.SHEAR_Y, 0.8, 5), (Op.AUTOCONTRAST, 0.7, 0)),
        ((Op.SHEAR_X, 0.7, 2), (Op.INVERT, 0.1, 0)),
    ),
    "imagenet": (
        ((Op.POSTERIZE, 0.4, 8), (Op.ROTATE, 0.6, 9)),
        ((Op.SOLARIZE, 0.6, 5), (Op.AUTOCONTRAST, 0.6, 0)),
        ((Op.EQUALIZE, 0.8, 0), (Op.EQUALIZE, 0.6, 0)),
        ((Op.POSTERIZE, 0.6, 7), (Op.POSTERIZE, 0.6, 6)),
        ((Op.EQUALIZE, 0.4, 0), (Op.SOLARIZE, 0.2, 4)),
        ((Op.EQUALIZE, 0.4, 0), (Op.ROTATE, 0.8, 8)),
        ((Op.SOLARIZE, 0.6, 3), (Op.EQUALIZE, 0.6, 0)),
        ((Op.POSTERIZE, 0.8, 5), (Op.EQUALIZE, 1.0, 0)),
        ((Op.ROTATE, 0.2, 3), (Op.SOLARIZE, 0.6, 8)),
        ((Op.EQUALIZE, 0.6, 0), (Op.POSTERIZE, 0.4, 6)),
        ((Op.ROTATE, 0.8, 8), (Op.COLOR, 0.4, 0)),
        ((Op.ROTATE, 0.4, 9), (Op.EQUALIZE, 0.6, 0)),
        ((Op.EQUALIZE, 0.0, 0), (Op.EQUALIZE, 0.8, 0)),
        ((Op.INVERT, 0.6, 0), (Op.EQUALIZE, 1.0, 0)),
        ((Op.COLOR, 0.6, 4), (Op.CONTRAST, 1.0, 8)),
        ((Op.ROTATE, 0.8, 8), (Op.COLOR, 1.0, 2)),
        ((Op.COLOR, 0.8, 8), (Op.SOLARIZE, 0.8, 7)),
        ((Op.SHARPNESS, 0.4, 7), (Op.INVERT, 0.6, 0)),
        ((Op.SHEAR_X, 0.6, 5), (Op.EQUALIZE, 1.0, 0)),
        ((Op.COLOR, 0.4, 0), (Op.EQUALIZE, 0.6, 0)),
        ((Op.EQUALIZE, 0.4, 0), (Op.SOLARIZE, 0.2, 4)),
        ((Op.SOLARIZE, 0.6, 5), (Op.AUTOCONTRAST, 0.6, 0)),
        ((Op.INVERT, 0.6, 0), (Op.EQUALIZE, 1.0, 0)),
        ((Op.COLOR, 0.6, 4), (Op.CONTRAST, 1.0, 8)),
        ((Op.EQUALIZE, 0.8, 0), (Op.EQUALIZE, 0.6, 0)),
    ),
}
