"""`cct models`: the published variants as a table, by arithmetic and without torch."""

import argparse
import json
from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from cct_lightning.models.arch import PUBLISHED, Budget, budget, parse_arch

NOTE = (
    "vit: patches and class token. cvt: patches and SeqPool. cct: convolution and SeqPool. Names follow a grammar, so "
    "any layers, kernel and blocks can be given: cct models cct_3_5x2_64_sine. "
    "MACs of one image, convolutions and linear layers, as the published tables count them; "
    "attention adds the two products of attention, which they leave out."
)


def rows(names: Sequence[str]) -> list[tuple[str, Budget]]:
    """Return each name with its budget."""
    return [(name, budget(parse_arch(name))) for name in names]


def models_command(args: Sequence[str]) -> None:
    """Run `cct models [NAME ...] [--json]`.

    Args:
        args: The command and its words.

    Raises:
        InputError: A name that the grammar does not know.
    """
    parser = argparse.ArgumentParser(
        prog="cct models", description="List variants with tokens, parameters and multiply-accumulates.", epilog=NOTE
    )
    parser.add_argument(
        "names", nargs="*", metavar="NAME", help="any name of the grammar; the published ones when none"
    )
    parser.add_argument("--json", action="store_true", help="print JSON in place of a table")
    options = parser.parse_args(args[1:])
    found = rows(options.names or PUBLISHED)
    if options.json:
        print(json.dumps([{"name": name, **vars(cost)} for name, cost in found], indent=2))
        return
    table = Table(box=None, header_style="bold")
    table.add_column("model", no_wrap=True)
    for title in ("image", "classes", "tokens", "params", "MACs", "attention"):
        table.add_column(title, justify="right", no_wrap=True)
    for name, cost in found:
        arch = parse_arch(name)
        table.add_row(
            name,
            "x".join(map(str, arch.img_size)),
            str(arch.num_classes),
            str(cost.tokens),
            f"{cost.params / 1e6:.3f} M",
            f"{cost.macs / 1e9:.3f} G",
            f"{cost.attention_macs / 1e9:.3f} G",
        )
    console = Console()
    console.print(table)
    console.print(NOTE, style="dim")
