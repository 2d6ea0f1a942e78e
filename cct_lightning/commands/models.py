"""`cct models`: what models cost, by arithmetic and without torch for the Compact Transformers."""

import argparse
import json
from collections.abc import Iterable, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

from cct_lightning.errors import InputError
from cct_lightning.models.arch import BASELINES, PUBLISHED, resolve_arch
from cct_lightning.models.complexity import POOL_COSTS, POSITION_COSTS, TOKENIZER_COSTS, budget, summarize
from cct_lightning.models.parts import PartSpec, split_spec

NOTE = (
    "vit: patches and class token. cvt: patches and SeqPool. cct: convolution and SeqPool. Names follow a grammar, so "
    "any layers, kernel and blocks can be given: cct models cct_3_5x2_64_sine. MACs of one image, convolutions and "
    "linear layers, as the published tables count them; attention adds the two products of attention, which they leave "
    "out. Baselines and models of yours are built, and their MACs include attention."
)
_PARTS: dict[str, Iterable[str]] = {"tokenizer": TOKENIZER_COSTS, "pool": POOL_COSTS, "position": POSITION_COSTS}


def _row(name: PartSpec, parts: dict[str, Any]) -> dict[str, Any]:
    """Return what a model costs: `name`, `img_size`, `num_classes` and the attributes of `Costs`."""
    path, _ = split_spec("model", name)
    if path in BASELINES or "." in path:
        from cct_lightning.models.factory import create_model

        img_size, num_classes = (32, 32), 10
        model = create_model(name, img_size=img_size, in_chans=3, num_classes=num_classes, **parts)
        costs = summarize(model, img_size, 3)
    else:
        arch = resolve_arch(path, **parts)
        img_size, num_classes, costs = arch.img_size, arch.num_classes, budget(arch)
    return {"name": path, "img_size": img_size, "num_classes": num_classes, **vars(costs)}


def _spec(text: str) -> PartSpec:
    """Return a name, or the dict that `{"class_path": ..., "init_args": {...}}` is."""
    if not text.startswith("{"):
        return text
    try:
        return json.loads(text)
    except ValueError as error:
        raise InputError(f"{text} is not JSON ({error}): give a name, or class_path and init_args.") from error


def models_parser() -> argparse.ArgumentParser:
    """Return the parser of `cct models`."""
    description = "List models with tokens, parameters and multiply-accumulates."
    parser = argparse.ArgumentParser(prog="cct models", description=description, epilog=NOTE, allow_abbrev=False)
    given = "names of the grammar, baselines such as resnet18, import paths of your models; none: the published ones"
    parser.add_argument("names", nargs="*", metavar="NAME", help=given)
    own = 'the import path of a class of yours, or {"class_path": PATH, "init_args": {...}}'
    for part, names in _PARTS.items():
        parser.add_argument(f"--{part}", help=f"{', '.join(names)}, {own}")
    parser.add_argument("--json", action="store_true", help="print JSON in place of a table")
    return parser


def models_command(args: Sequence[str]) -> None:
    """Run `cct models [NAME ...] [--pool POOL] [--json]`; `args` are the words after the command.

    Raises:
        InputError: A name that is no model's, or no such part.
    """
    options = models_parser().parse_args(args)
    parts = {part: _spec(value) for part in _PARTS if (value := getattr(options, part)) is not None}
    rows = [_row(_spec(name), parts) for name in options.names or PUBLISHED]
    if options.json:
        print(json.dumps(rows, indent=2))
        return
    table = Table(box=None, header_style="bold")
    table.add_column("model", no_wrap=True)
    for title in ("image", "classes", "tokens", "params", "MACs", "attention"):
        table.add_column(title, justify="right", no_wrap=True)
    for found in rows:
        attention = found["attention_macs"]
        table.add_row(
            found["name"],
            "x".join(map(str, found["img_size"])),
            str(found["num_classes"]),
            "" if found["tokens"] is None else str(found["tokens"]),
            f"{found['params'] / 1e6:.3f} M",
            f"{found['macs'] / 1e9:.3f} G",
            "included" if attention is None else f"{attention / 1e9:.3f} G",
        )
    console = Console()
    console.print(table)
    console.print(NOTE, style="dim")
