"""The operations of automatic augmentation: each is registered where it is written, with the range of its argument.

    @operation("gamma", randaugment=Range(base=1, span=0.5, signed=True))
    def gamma(images: Tensor, argument: Tensor) -> Tensor: ...

A function of the package is then drawn by the policies whose spaces it names; one of yours by those that name it among
their `extra_ops`.

Letters: B images, C channels, H rows, W columns.
"""

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, Literal, NamedTuple, TypeVar

from torch import Tensor

from cct_lightning.errors import InputError, nearest
from cct_lightning.system.importing import import_path

Function = Callable[..., Tensor]
F = TypeVar("F", bound=Function)


class Range(NamedTuple):
    """An operation's argument at level t from 0 to 1: base + span * t, with these twists."""

    base: float = 0.0  # at level 0
    span: float = 0.0  # from level 0 to level 1
    signed: bool = False  # half the time, base - span * t instead
    side: Literal["width", "height"] | None = None  # the span is a fraction of this side of the image
    whole: float | None = None  # the change is rounded to a whole number: 0.0 truncates, 0.5 takes the nearest


class Sampling(NamedTuple):
    """What an operation that moves pixels gets beside its argument."""

    op: Tensor  # number of the operation, (B,) int64, for a function that serves several
    cubic: Tensor  # whether to sample bicubically where the interpolation is random, (B,) bool
    rotation: Tensor  # `geometric.rotation` by the argument in degrees, which takes float64, (B, 2, 3) int32
    fill: Tensor  # color of what comes in from outside, (C,) uint8
    interpolation: str  # `nearest`, `bilinear`, `bicubic` or `random`


@dataclass(frozen=True)
class Operation:
    """A registered operation; `ranges` holds one range for each space it can be drawn in."""

    number: int
    name: str
    function: Function | None  # None: the image stays
    ranges: dict[str, Range]


# Numbers by upper-case name (`Op.ROTATE`), plain integers, which torch.compile compares; COUNT is how many there are.
Op: Any = SimpleNamespace(COUNT=1, IDENTITY=0)
OPERATIONS = {"identity": Operation(0, "identity", None, {"trivialaugment": Range()})}
# Functions with the numbers that they serve (first, end) and how many of images, argument, Sampling they take.
GROUPS: list[tuple[int, int, Function, int]] = []


def operation(
    name: str,
    *,
    randaugment: Range | None = None,
    randaugment_increasing: Range | None = None,
    autoaugment: Range | None = None,
    trivialaugment: Range | None = None,
) -> Callable[[F], F]:
    """Register a function on batches as an operation; operations that share one are registered in succession.

    The function takes uint8 images (B, C, H, W), which it leaves as they are, and, as far as it has parameters for
    them, the arguments (B,) and a `Sampling`; it returns uint8 images of that shape, each computed from its own alone.
    One of that name defined once more in the same module, as in a notebook's cell, replaces the former.

    Args:
        name: Its name in `extra_ops` and, in upper case, in `Op`.
        randaugment: Range of its argument in RandAugment's space; None: not in it, and so on.
        randaugment_increasing: In RandAugment's with `increasing`; None: as without.
        autoaugment: In the space of AutoAugment's tables.
        trivialaugment: In TrivialAugment's.

    Raises:
        ValueError: A function of another module has that name.
    """
    spaces = {
        "randaugment": randaugment,
        "randaugment_increasing": randaugment_increasing or randaugment,
        "autoaugment": autoaugment,
        "trivialaugment": trivialaugment,
    }

    def register(function: F) -> F:
        before, takes = OPERATIONS.get(name), len(inspect.signature(function).parameters)
        number = Op.COUNT if before is None else before.number
        if before is not None and getattr(before.function, "__module__", None) != function.__module__:
            raise ValueError(f"there is already an augmentation operation {name!r}")
        OPERATIONS[name] = Operation(number, name, function, {s: it for s, it in spaces.items() if it is not None})
        if before is not None:
            GROUPS[:] = [(a, b, function, takes) if a <= number < b else (a, b, f, n) for a, b, f, n in GROUPS]
            return function
        setattr(Op, name.upper(), number)
        Op.COUNT += 1
        first = GROUPS.pop()[0] if GROUPS and GROUPS[-1][2] is function else number
        GROUPS.append((first, number + 1, function, takes))
        return function

    return register


def find_operation(name: str, space: str) -> Operation:
    """Return a registered operation by its name, or the import path of its function, such as `my_lab.gamma`.

    Raises:
        InputError: There is none, or it has no range in the space where it is to be drawn.
    """
    found = OPERATIONS.get(name)
    if found is None and "." in name:
        function = import_path(name, "augmentation operation")
        found = next((one for one in OPERATIONS.values() if one.function is function), None)
        if found is None:
            raise InputError(f"{name} is no operation: decorate it with cct_lightning.data.augment.operation.")
    if found is None:
        hint = nearest(name, OPERATIONS)
        raise InputError(f"There is no augmentation operation {name!r}; there are {', '.join(OPERATIONS)}.{hint}")
    if space not in found.ranges:
        raise InputError(f"The augmentation operation {name!r} has no range for {space}: register it with one.")
    return found
