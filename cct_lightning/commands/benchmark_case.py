"""What `cct benchmark` measures: one of our models, or the nearest that another library has."""

from dataclasses import dataclass

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from cct_lightning.errors import InputError
from cct_lightning.models.arch import conv_geometry
from cct_lightning.models.compact import CompactTransformer
from cct_lightning.models.factory import create_model


@dataclass(frozen=True, kw_only=True)
class Case:
    """What to measure.

    Attributes:
        maker: `ours`, `vit-pytorch` or `timm`.
        arch: Name of our model, whose numbers the others get.
        img_size: Height and width in pixels.
        batch_size: Images B a step.
        precision: `32-true`, `bf16-mixed` or `16-mixed`.
        compile: Whether torch.compile is used.
        device: `cpu` or `cuda`.
    """

    maker: str
    arch: str
    img_size: int
    batch_size: int
    precision: str
    compile: bool
    device: str


def build(case: Case) -> nn.Module:
    """Build the model of a case.

    Raises:
        InputError: The peer has no such model, or is not installed.
    """
    ours = create_model(case.arch, img_size=(case.img_size, case.img_size))
    if case.maker == "ours":
        return ours
    if not isinstance(ours, CompactTransformer):
        raise InputError(f"--peer compares Compact Transformers; {case.arch} is none: leave --peer out.")
    arch = ours.arch
    if case.maker == "timm":
        try:
            from timm.models.vision_transformer import VisionTransformer
        except ImportError as error:
            raise InputError("--peer timm needs the package timm: pip install timm.") from error
        return VisionTransformer(
            img_size=case.img_size,
            patch_size=case.img_size // ours.tokenizer.grid(arch.img_size)[0],
            num_classes=arch.num_classes,
            embed_dim=arch.embed_dim,
            depth=arch.depth,
            num_heads=arch.num_heads,
            mlp_ratio=arch.mlp_ratio,
            attn_drop_rate=arch.attn_drop,
            drop_path_rate=arch.drop_path_rate,
        )
    try:
        from vit_pytorch.cct import CCT
    except ImportError as error:
        raise InputError("--peer vit-pytorch needs the package vit-pytorch: pip install vit-pytorch.") from error
    if (arch.tokenizer, arch.pool) != ("conv", "seqpool"):
        raise InputError(f"vit-pytorch has CCT alone, {case.arch} is another family: use --peer timm.")
    stride, padding = conv_geometry(arch.kernel_size)
    return CCT(
        img_size=case.img_size,
        embedding_dim=arch.embed_dim,
        n_conv_layers=arch.conv_blocks,
        kernel_size=arch.kernel_size,
        stride=stride,
        padding=padding,
        num_layers=arch.depth,
        num_heads=arch.num_heads,
        mlp_ratio=arch.mlp_ratio,
        num_classes=arch.num_classes,
        positional_embedding=arch.position,
        dropout_rate=arch.proj_drop,
        attention_dropout=arch.attn_drop,
        stochastic_depth_rate=arch.drop_path_rate,
    )


def count_flops(case: Case) -> dict[str, int]:
    """Count the floating-point operations of one batch: two for each multiply-accumulate, elementwise ones not counted.

    Returns:
        Those of `forward`, and of `train`: forward and backward.
    """
    # On the meta device nothing is computed, and attention is counted on every machine alike.
    net = build(case).to("meta")
    with FlopCounterMode(display=False) as forward:
        logits = net(torch.empty(case.batch_size, 3, case.img_size, case.img_size, device="meta"))
    with FlopCounterMode(display=False) as backward:
        logits.sum().backward()
    return {"forward": forward.get_total_flops(), "train": forward.get_total_flops() + backward.get_total_flops()}
