"""`create_model`: every model of the project by its name."""

import dataclasses
from typing import TypedDict

from typing_extensions import Unpack

from cct_lightning.errors import InputError, nearest
from cct_lightning.models.arch import Arch, parse_arch
from cct_lightning.models.compact import CompactTransformer


class Parts(TypedDict, total=False):
    """What can be swapped in a named model; what is left out comes from the name.

    Args:
        tokenizer: `conv`, `patch`, or the import path of a subclass of `cct_lightning.models.tokenizer.Tokenizer`.
        kernel_size: Kernel of the convolutions, or side of a patch, in pixels.
        conv_blocks: Convolution blocks of the tokenizer.
        position: `learnable`, `sine`, `none`, or the import path of a subclass of
            `cct_lightning.models.position.PositionEmbedding`.
        pool: `seqpool`, `class_token`, `mean`, `max`, or the import path of a subclass of
            `cct_lightning.models.pooling.Pooling`.
        depth: Encoder layers.
        embed_dim: Dimension of a token.
        num_heads: Attention heads, which must divide `embed_dim`.
        mlp_ratio: Hidden dimension of the MLP over `embed_dim`.
        attn_drop: Dropout probability of the attention weights (0.1).
        proj_drop: Dropout probability after positions, projections and MLP layers (0).
        drop_path_rate: Stochastic depth of the last layer, rising linearly from 0 at the first (0.1).
    """

    tokenizer: str
    kernel_size: int
    conv_blocks: int
    position: str
    pool: str
    depth: int
    embed_dim: int
    num_heads: int
    mlp_ratio: float
    attn_drop: float
    proj_drop: float
    drop_path_rate: float


_LIMITS: dict[str, tuple[float, float]] = {
    "kernel_size": (1, float("inf")),
    "conv_blocks": (1, float("inf")),
    "depth": (1, float("inf")),
    "embed_dim": (1, float("inf")),
    "num_heads": (1, float("inf")),
    "in_chans": (1, float("inf")),
    "num_classes": (1, float("inf")),
    "mlp_ratio": (1e-6, float("inf")),
    "attn_drop": (0, 1),
    "proj_drop": (0, 1),
    "drop_path_rate": (0, 0.999),
}


def resolve_arch(
    name: str,
    *,
    img_size: int | tuple[int, int] | None = None,
    in_chans: int | None = None,
    num_classes: int | None = None,
    **parts: Unpack[Parts],
) -> Arch:
    """Return what a name and its overrides define, checked; see `create_model` for the arguments."""
    given = {key: value for key, value in parts.items() if value is not None}
    known = [field.name for field in dataclasses.fields(Arch)]
    for key in given:
        if key not in known:
            raise InputError(f"Unknown part {key!r} of a model: choose {', '.join(known)}.{nearest(key, known)}")
    sizes = {"in_chans": in_chans, "num_classes": num_classes}
    given |= {key: value for key, value in sizes.items() if value is not None}
    if img_size is not None:
        given["img_size"] = (img_size, img_size) if isinstance(img_size, int) else tuple(img_size)
    arch = dataclasses.replace(parse_arch(name), **given)  # type: ignore[arg-type]  # checked above
    for key, (low, high) in _LIMITS.items():
        if not low <= getattr(arch, key) <= high:
            wanted = f"at least {low:g}" if high == float("inf") else f"between {low:g} and {high:g}"
            raise InputError(f"{key} is {getattr(arch, key)}: it must be {wanted}.")
    if min(arch.img_size) < 1:
        raise InputError(f"img_size is {arch.img_size}: both sides must be at least 1 pixel.")
    return arch


def create_model(
    name: str,
    *,
    img_size: int | tuple[int, int] | None = None,
    in_chans: int | None = None,
    num_classes: int | None = None,
    **parts: Unpack[Parts],
) -> CompactTransformer:
    """Build a model by name.

    Example:
        >>> model = create_model("cct_7_3x1", num_classes=100, pool="class_token")
        >>> model(torch.randn(2, 3, 32, 32)).shape
        torch.Size([2, 100])

    Args:
        name: `cct_LAYERS_KERNELxBLOCKS`, `cvt_LAYERS_PATCH` or `vit_LAYERS_PATCH`, optionally with image size, `_sine`,
            `_c100` or `_fl`; `cct models` lists the published ones.
        img_size: Side of the images in pixels, or (H, W); the name's (32 unless it says more) when None.
        in_chans: Channels of the images; 3 when None.
        num_classes: Classes; the published variant's when None.
        **parts: Parts that differ from the name's, see `Parts`.

    Returns:
        The model with fresh weights.

    Raises:
        InputError: An unknown name or part, or parts that do not fit each other or the image.
    """
    arch = resolve_arch(name, img_size=img_size, in_chans=in_chans, num_classes=num_classes, **parts)
    return CompactTransformer(arch)
