"""Names and sizes of Compact Transformers, without torch.

The grammar is that of the paper (Hassani et al., arXiv 2104.05704) and its published checkpoints:
`cct_7_3x1` is 7 encoder layers behind one convolution block of kernel 3, `cvt_7_4` and `vit_7_4` are 7 layers over
4x4 patches. This file imports nothing heavy, so that `cct models` and `cct --help` answer at once.

Letters: (H, W) image, (h, w) grid of tokens.
"""

import dataclasses
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import inf
from typing import Any

from typing_extensions import Unpack

from cct_lightning.errors import InputError, nearest
from cct_lightning.models.parts import Parts, PartSpec, plain_spec

# Least number of encoder layers -> heads, MLP ratio, embedding dimension (paper, table of variants: 2, 4, 6, 7, 14).
SIZES: dict[int, tuple[int, int, int]] = {1: (2, 1, 128), 6: (4, 2, 256), 14: (6, 3, 384)}

# Family -> tokenizer, pooling (paper, section 3).
FAMILIES = {"vit": ("patch", "class_token"), "cvt": ("patch", "seqpool"), "cct": ("conv", "seqpool")}

_conv = [f"cct_{size}_32" for size in ("2_3x2", "4_3x2", "6_3x1", "6_3x2", "7_3x1", "7_3x2")]
_patch = [f"{family}_{layers}_4_32" for family in ("cvt", "vit") for layers in (2, 4, 6, 7)]

# The variants that the reference implementation publishes.
PUBLISHED: tuple[str, ...] = (
    *(name + sine for name in _conv for sine in ("", "_sine")), "cct_7_3x1_32_c100", "cct_7_3x1_32_sine_c100",
    "cct_7_7x2_224", "cct_7_7x2_224_sine", "cct_14_7x2_224", "cct_14_7x2_384", "cct_14_7x2_384_fl",
    *(name + sine for name in _patch for sine in ("", "_sine")),
)  # fmt: skip

# Architectures of other families that train under the same recipes, see `baselines.py`.
BASELINES: tuple[str, ...] = ("resnet18", "resnet56", "mobilenet_v2", "vit_b_16", "deit_tiny", "deit_small")

HIDDEN_CHANS = 64  # channels of every convolution block before the last


@dataclass(frozen=True)
class Arch:
    """All that defines a Compact Transformer; a name decides it, keywords override it; see `Parts` for most fields."""

    name: str  # that it came from
    tokenizer: PartSpec
    kernel_size: int
    conv_blocks: int
    position: PartSpec
    pool: PartSpec
    depth: int
    embed_dim: int
    num_heads: int
    mlp_ratio: float
    attn_drop: float = 0.1
    proj_drop: float = 0.0
    drop_path_rate: float = 0.1
    img_size: tuple[int, int] = (32, 32)  # (H, W) in pixels
    in_chans: int = 3
    num_classes: int = 10


_GRAMMAR = re.compile(
    r"(?P<family>cct|cvt|vit)_(?P<depth>[1-9]\d*)_(?P<kernel>[1-9]\d*)(x(?P<blocks>[1-9]\d*))?"
    r"(_(?P<img>[1-9]\d*))?(?P<sine>_sine)?(?P<data>_c100|_fl)?"
)
_CLASSES = {"_c100": 100, "_fl": 102}
# What the published 224 and 384 models were trained on: ImageNet (14 layers) and Flowers-102 (7); their names say no
# data set, and other names of these sizes mean none.
_PUBLISHED_CLASSES = {
    **dict.fromkeys(("cct_7_7x2_224", "cct_7_7x2_224_sine"), 102),
    **dict.fromkeys(("cct_14_7x2_224", "cct_14_7x2_384"), 1000),
}


def is_compact(name: PartSpec) -> bool:
    """Tell whether a name is that of a Compact Transformer, and not of a baseline or a class of the user's."""
    return isinstance(name, str) and _GRAMMAR.fullmatch(name) is not None


def parse_arch(name: str) -> Arch:
    """Return what a model name such as `cct_7_3x1`, `cvt_7_4_32` or `vit_6_4_32_sine` decides.

    Args:
        name: `{cct}_{layers}_{kernel}x{blocks}` or `{cvt,vit}_{layers}_{patch}`, then optionally `_{image size}` (else
            32), `_sine` (sine position embedding) and `_c100` or `_fl` (classes of CIFAR-100 or Flowers-102).

    Raises:
        InputError: The name does not follow the grammar.
    """
    found = _GRAMMAR.fullmatch(name)
    if found is None or (found["family"] == "cct") != (found["blocks"] is not None):
        raise InputError(
            f"Unknown model {name!r}: expected cct_LAYERS_KERNELxBLOCKS, cvt_LAYERS_PATCH or vit_LAYERS_PATCH, such as "
            f"cct_7_3x1, cvt_7_4 or vit_7_4_32_sine, a baseline ({', '.join(BASELINES)}) or the import path of a class "
            f"of yours; `cct models` lists the published ones.{nearest(name, (*PUBLISHED, *BASELINES))}"
        )
    depth, img = int(found["depth"]), int(found["img"] or 32)
    tokenizer, pool = FAMILIES[found["family"]]
    num_heads, mlp_ratio, embed_dim = SIZES[max(layers for layers in SIZES if layers <= depth)]
    return Arch(
        name=name,
        tokenizer=tokenizer,
        kernel_size=int(found["kernel"]),
        conv_blocks=int(found["blocks"] or 1),
        position="sine" if found["sine"] else "learnable",
        pool=pool,
        depth=depth,
        embed_dim=embed_dim,
        num_heads=num_heads,
        mlp_ratio=mlp_ratio,
        img_size=(img, img),
        num_classes=_CLASSES.get(found["data"]) or _PUBLISHED_CLASSES.get(name, 10),
    )


_COUNTS = ("kernel_size", "conv_blocks", "depth", "embed_dim", "num_heads", "in_chans", "num_classes")
# Option -> least, most.
_RANGES: dict[str, tuple[float, float]] = {
    **dict.fromkeys(_COUNTS, (1, inf)),
    **{"mlp_ratio": (1e-6, inf), "attn_drop": (0, 0.999), "proj_drop": (0, 0.999), "drop_path_rate": (0, 0.999)},
}


def check_sizes(values: Mapping[str, float], img_size: tuple[int, int]) -> None:
    """Raise `InputError` where a number of a model, by its option's name, or (H, W) is out of its range."""
    for key, value in values.items():
        low, high = _RANGES[key]
        if not low <= value <= high:
            wanted = f"at least {low:g}" if high == inf else f"between {low:g} and {high:g}"
            raise InputError(f"{key} is {value}: it must be {wanted}.")
    if min(img_size) < 1:
        raise InputError(f"img_size is {img_size}: both sides must be at least 1 pixel.")


def pair(img_size: int | Sequence[int]) -> tuple[int, int]:
    """Return an image size, one side or (H, W), as (H, W)."""
    height, width = (img_size, img_size) if isinstance(img_size, int) else img_size
    return height, width


def resolve_arch(
    name: str,
    *,
    img_size: int | Sequence[int] | None = None,
    in_chans: int | None = None,
    num_classes: int | None = None,
    **parts: Unpack[Parts],
) -> Arch:
    """Return what a name and its overrides define, checked; None stands for what the name says, and 3 channels.

    Args:
        name: See `parse_arch`.
        img_size: Side of the images in pixels, or (H, W).
        in_chans: Channels of the images.
        num_classes: Classes.
        **parts: Parts that differ from the name's.

    Raises:
        InputError: An unknown name or part, or a number out of its range.
    """
    known = [field.name for field in dataclasses.fields(Arch)]
    given: dict[str, Any] = {"in_chans": in_chans, "num_classes": num_classes, **parts}
    for key in given:
        if key not in known:
            raise InputError(f"Unknown part {key!r} of a model: choose {', '.join(known)}.{nearest(key, known)}")
    given = {key: value for key, value in given.items() if value is not None}
    for key in ("tokenizer", "position", "pool"):
        if key in given:
            given[key] = plain_spec(key, given[key])
    if img_size is not None:
        given["img_size"] = pair(img_size)
    arch = dataclasses.replace(parse_arch(name), **given)
    check_sizes({key: getattr(arch, key) for key in _RANGES}, arch.img_size)
    return arch


def conv_geometry(kernel_size: int) -> tuple[int, int]:
    """Return stride and padding of the convolutions of a tokenizer (reference: max(1, K//2 - 1), max(1, K//2))."""
    return max(1, kernel_size // 2 - 1), max(1, kernel_size // 2)


def conv_grids(img_size: tuple[int, int], *, kernel_size: int, conv_blocks: int) -> list[tuple[int, int]]:
    """Return the sizes after each convolution and each max pool (kernel 3, stride 2, padding 1) of a tokenizer.

    Args:
        img_size: (H, W) in pixels.
        kernel_size: Kernel of the convolutions.
        conv_blocks: Blocks of convolution, ReLU and max pool.

    Returns:
        Two sizes a block; the last one is the token grid (h, w).

    Raises:
        InputError: The blocks shrink the image to a single token.
    """
    stride, padding = conv_geometry(kernel_size)
    sizes = [img_size]
    for _ in range(conv_blocks):
        height, width = ((side + 2 * padding - kernel_size) // stride + 1 for side in sizes[-1])
        sizes += [(height, width), ((height + 1) // 2, (width + 1) // 2)]
    if sizes[-1] == (1, 1):
        raise InputError(
            f"{conv_blocks} convolution blocks of kernel {kernel_size} shrink {img_size[0]}x{img_size[1]} pixels to "
            "a single token, which leaves nothing to attend to: use fewer blocks, a smaller kernel or larger images "
            "(--data.img_size)."
        )
    return sizes[1:]


def patch_grid(img_size: tuple[int, int], patch_size: int) -> tuple[int, int]:
    """Return the grid (h, w) of square patches over an image.

    Raises:
        InputError: The patch does not divide the image.
    """
    if img_size[0] % patch_size or img_size[1] % patch_size:
        raise InputError(
            f"A patch of {patch_size} pixels does not divide an image of {img_size[0]}x{img_size[1]}: choose another "
            f"patch size (the number after the layers in vit_7_{patch_size}) or image size (--data.img_size)."
        )
    return img_size[0] // patch_size, img_size[1] // patch_size


def __getattr__(name: str) -> Any:
    if name in ("Budget", "budget"):  # moved; this name goes with version 0.3
        from cct_lightning.models import complexity

        return getattr(complexity, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
