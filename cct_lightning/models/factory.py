"""`create_model`: every model of the project by its name."""

import dataclasses
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TypedDict, cast

from torch import nn
from typing_extensions import Unpack

from cct_lightning.errors import InputError, nearest
from cct_lightning.models.arch import BASELINES, Arch, parse_arch
from cct_lightning.models.baselines import create_baseline, import_backbone
from cct_lightning.models.compact import CompactTransformer
from cct_lightning.models.weights.pretrained import (
    find_weights,
    infer_arch,
    is_sine,
    load_weights,
    stored_channels,
    stored_classes,
)
from cct_lightning.models.weights.reader import StoredWeights, read_checkpoint

log = logging.getLogger(__name__)


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
        given["img_size"] = _pair(img_size)
    arch = dataclasses.replace(parse_arch(name), **given)  # type: ignore[arg-type]  # checked above
    _check({key: getattr(arch, key) for key in _LIMITS}, arch.img_size)
    return arch


def _pair(img_size: int | Sequence[int]) -> tuple[int, int]:
    height, width = (img_size, img_size) if isinstance(img_size, int) else img_size
    return height, width


def _check(values: dict[str, float], img_size: tuple[int, int]) -> None:
    for key, value in values.items():
        low, high = _LIMITS[key]
        if not low <= value <= high:
            wanted = f"at least {low:g}" if high == float("inf") else f"between {low:g} and {high:g}"
            raise InputError(f"{key} is {value}: it must be {wanted}.")
    if min(img_size) < 1:
        raise InputError(f"img_size is {img_size}: both sides must be at least 1 pixel.")


def create_model(
    name: str,
    *,
    pretrained: bool | str | Path | None = None,
    img_size: int | tuple[int, int] | None = None,
    in_chans: int | None = None,
    num_classes: int | None = None,
    **parts: Unpack[Parts],
) -> nn.Module:
    """Build a model by name.

    Example:
        >>> model = create_model("cct_7_3x1", num_classes=100, pool="class_token")
        >>> model(torch.randn(2, 3, 32, 32)).shape
        torch.Size([2, 100])

    Args:
        name: `cct_LAYERS_KERNELxBLOCKS`, `cvt_LAYERS_PATCH` or `vit_LAYERS_PATCH`, optionally with image size, `_sine`,
            `_c100` or `_fl`; a baseline such as `resnet18`; or the import path of a `torch.nn.Module` of yours whose
            constructor takes the keywords `img_size`, `in_chans` and `num_classes`. `cct models` lists them.
        pretrained: Weights to start from: True for the published ones of that name, the path of a checkpoint of
            `cct fit`, a published `.pth` or a `.safetensors` file, or what published weights were trained on, such as
            `cifar10_300epochs`. Another number of classes re-initializes the head, another image size resizes the
            position embedding, other channels fold or repeat the first convolution.
        img_size: Side of the images in pixels, or (H, W); None: the checkpoint's if it says, else the name's, else 32.
        in_chans: Channels of the images; None: the checkpoint's, else 3.
        num_classes: Classes; None: the checkpoint's, else the published variant's, else 10.
        **parts: Parts that differ from the name's, see `Parts`; Compact Transformers alone have them.

    Returns:
        The model: a `CompactTransformer`, or the baseline's or user's module.

    Raises:
        InputError: An unknown name or part, parts that do not fit each other or the image, or weights that do not fit.
    """
    stored = None if pretrained is None or pretrained is False else find_weights(name, pretrained)
    return _create(name, stored, img_size, in_chans, num_classes, parts)


def _create(
    name: str,
    stored: StoredWeights | None,
    img_size: int | tuple[int, int] | None,
    in_chans: int | None,
    num_classes: int | None,
    parts: Parts,
) -> nn.Module:
    if stored is not None:
        img_size = stored.hparams.get("img_size") if img_size is None else img_size
        in_chans = stored_channels(stored) if in_chans is None else in_chans
        num_classes = stored_classes(stored) if num_classes is None else num_classes
    if name not in BASELINES and "." not in name:
        arch = resolve_arch(name, img_size=img_size, in_chans=in_chans, num_classes=num_classes, **parts)
        model: nn.Module = CompactTransformer(_with_stored_position(arch, stored))
    else:
        _refuse_parts(name, parts)
        build = create_baseline if name in BASELINES else import_backbone
        sizes = (in_chans if in_chans is not None else 3, num_classes if num_classes is not None else 10)
        img_size = (32, 32) if img_size is None else _pair(img_size)
        _check({"in_chans": sizes[0], "num_classes": sizes[1]}, img_size)
        model = build(name, img_size=img_size, in_chans=sizes[0], num_classes=sizes[1])
    if stored is not None:
        load_weights(model, stored)
    return model


def _refuse_parts(name: str, parts: Parts) -> None:
    given = [key for key, value in parts.items() if value is not None]
    if given:
        raise InputError(
            f"{name} has no {given[0]}: {', '.join(given)} can be set for Compact Transformers (cct, cvt, vit) alone."
        )


def _with_stored_position(arch: Arch, stored: StoredWeights | None) -> Arch:
    """Let the embedding that stands in a checkpoint decide: many published `_sine` models were trained learnable."""
    embedding = stored.state.get("position.embedding") if stored else None
    if embedding is None or arch.position != "sine" or embedding.ndim != 3 or is_sine(embedding):
        return arch
    log.warning(
        "the checkpoint of %s holds a learned position embedding, not the sine table: used as learnable", arch.name
    )
    return dataclasses.replace(arch, position="learnable")


def load_model(
    path: Path, *, arch: str | None = None, img_size: tuple[int, int] | None = None
) -> tuple[nn.Module, StoredWeights]:
    """Build the model that a checkpoint holds, with its weights, in evaluation mode.

    Args:
        path: A checkpoint of `cct fit`, a published `.pth`, or `.safetensors`.
        arch: The model's name, where the checkpoint does not tell (weights alone, of a model that is not published).
        img_size: (H, W) in pixels; None: the checkpoint's.

    Returns:
        The model, and what stood in the file: classes, mean and std are in its `hparams`.

    Raises:
        InputError: The file is no such checkpoint, or nothing tells which model it holds.
    """
    stored = read_checkpoint(path)
    return model_of(stored, arch, img_size)[1].eval(), stored


def model_of(
    stored: StoredWeights, arch: str | None = None, img_size: tuple[int, int] | None = None
) -> tuple[str, nn.Module]:
    """Build the model that weights belong to; see `load_model`.

    Args:
        stored: What `read_checkpoint` gave.
        arch: The model's name, where the checkpoint does not tell.
        img_size: (H, W) in pixels; None: the checkpoint's.

    Returns:
        The model's name and the model, with its weights.
    """
    name = arch or stored.hparams.get("arch") or infer_arch(stored)
    told = stored.hparams if stored.hparams.get("arch") == name else {}
    parts = {key: value for key, value in {**told, **told.get("parts", {})}.items() if key in Parts.__annotations__}
    return name, _create(name, stored, img_size, None, None, cast(Parts, parts))
