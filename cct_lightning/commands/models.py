"""`cct models`: what models cost, by arithmetic and without torch for the Compact Transformers."""

import argparse
import dataclasses
import json
from collections.abc import Sequence
from dataclasses import dataclass

from rich.console import Console
from rich.table import Table

from cct_lightning.models.arch import PUBLISHED, budget, is_compact, parse_arch

NOTE = (
    "vit: patches and class token. cvt: patches and SeqPool. cct: convolution and SeqPool. Names follow a grammar, so "
    "any layers, kernel and blocks can be given: cct models cct_3_5x2_64_sine. MACs of one image, convolutions and "
    "linear layers, as the published tables count them; attention adds the two products of attention, which they leave "
    "out. Baselines, and parts and models of yours, are built and counted whole."
)
_BUILT_IN = {
    "tokenizer": ("conv", "patch"),
    "pool": ("seqpool", "class_token", "mean", "max"),
    "position": ("learnable", "sine", "none"),
}


@dataclass(frozen=True)
class Row:
    """A model and what it costs.

    Attributes:
        name: Its name.
        img_size: (H, W) in pixels.
        num_classes: Classes.
        tokens: Length of the sequence; None where there is none.
        params: Trainable parameters.
        macs: Multiply-accumulates of one image.
        attention_macs: Those of attention's two products, when `macs` leaves them out; else None.
    """

    name: str
    img_size: tuple[int, int]
    num_classes: int
    tokens: int | None
    params: int
    macs: int
    attention_macs: int | None


def row(name: str, parts: dict[str, str] | None = None) -> Row:
    """Return what a model costs.

    Args:
        name: A name of the grammar, a baseline, or the import path of a model of yours.
        parts: Tokenizer, pool or position that differ from the name's, by name or by import path.

    Raises:
        InputError: No such model or part.
    """
    parts = parts or {}
    if is_compact(name) and all(value in _BUILT_IN[key] for key, value in parts.items()):
        arch = dataclasses.replace(parse_arch(name), **parts)  # type: ignore[arg-type]  # all are strings
        cost = budget(arch)
        return Row(name, arch.img_size, arch.num_classes, cost.tokens, cost.params, cost.macs, cost.attention_macs)
    from cct_lightning.models.complexity import summarize
    from cct_lightning.models.factory import create_model

    img_size, num_classes = (32, 32), 10
    if is_compact(name):
        img_size, num_classes = parse_arch(name).img_size, parse_arch(name).num_classes
    model = create_model(name, img_size=img_size, in_chans=3, num_classes=num_classes, **parts)  # type: ignore[arg-type]
    built = summarize(model, img_size, 3)
    return Row(name, img_size, num_classes, built.tokens, built.params, built.macs, None)


def models_command(args: Sequence[str]) -> None:
    """Run `cct models [NAME ...] [--pool POOL] [--json]`.

    Args:
        args: The words after the command.

    Raises:
        InputError: A name that is no model's.
    """
    parser = argparse.ArgumentParser(
        prog="cct models", description="List models with tokens, parameters and multiply-accumulates.", epilog=NOTE
    )
    parser.add_argument(
        "names",
        nargs="*",
        metavar="NAME",
        help="names of the grammar, baselines such as resnet18, import paths of your models; none: the published ones",
    )
    for part, names in _BUILT_IN.items():
        parser.add_argument(f"--{part}", help=f"{', '.join(names)}, or the import path of a class of yours")
    parser.add_argument("--json", action="store_true", help="print JSON in place of a table")
    options = parser.parse_args(args)
    parts = {part: value for part in _BUILT_IN if (value := getattr(options, part)) is not None}
    rows = [row(name, parts) for name in options.names or PUBLISHED]
    if options.json:
        print(json.dumps([dataclasses.asdict(found) for found in rows], indent=2))
        return
    table = Table(box=None, header_style="bold")
    table.add_column("model", no_wrap=True)
    for title in ("image", "classes", "tokens", "params", "MACs", "attention"):
        table.add_column(title, justify="right", no_wrap=True)
    for found in rows:
        table.add_row(
            found.name,
            "x".join(map(str, found.img_size)),
            str(found.num_classes),
            "" if found.tokens is None else str(found.tokens),
            f"{found.params / 1e6:.3f} M",
            f"{found.macs / 1e9:.3f} G",
            "included" if found.attention_macs is None else f"{found.attention_macs / 1e9:.3f} G",
        )
    console = Console()
    console.print(table)
    console.print(NOTE, style="dim")
