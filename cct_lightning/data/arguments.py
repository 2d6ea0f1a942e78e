"""Checks of single arguments; each returns the value it was given, or raises one sentence."""

from collections.abc import Sequence

from cct_lightning.errors import InputError


def at_least(least: int, name: str, value: int) -> int:
    """Return a whole number that is at least `least`."""
    if value < least:
        raise InputError(f"{name} must be at least {least}; got {value}.")
    return value


def per_device_batch_size(global_batch_size: int, devices: int, accumulate: int) -> int:
    """Return how many images of a global batch one device takes in one step; a part of one is an InputError."""
    local, rest = divmod(at_least(1, "global_batch_size", global_batch_size), devices * accumulate)
    if rest:
        raise InputError(
            f"global_batch_size {global_batch_size} cannot be divided by {devices} devices x {accumulate} accumulated "
            f"batches. Choose a multiple of {devices * accumulate}."
        )
    return local


def unit_scale(name: str, values: Sequence[float]) -> None:
    """Refuse a `mean` or `std` per channel that is not on the scale of 0 to 1."""
    if not all((value > 0 if name == "std" else value >= 0) and value <= 1 for value in values):
        least = "positive and at most 1" if name == "std" else "from 0 to 1"
        hint = " Divide numbers of the scale of 0 to 255 by 255." if max(values) > 1 else ""
        raise InputError(f"{name} is {least} in every channel; got {list(values)}.{hint}")


def seed32(name: str, value: int) -> int:
    """Return a seed of 32 bits, which is what NumPy takes."""
    if not 0 <= value < 2**32:
        raise InputError(f"{name} is a whole number from 0 to 4294967295; got {value}.")
    return value


def height_width(name: str, value: int | tuple[int, int] | None) -> tuple[int, int] | None:
    """Return height and width; one number is both."""
    if value is None:
        return None
    height, width = (value, value) if isinstance(value, int) else value
    if min(height, width) < 1:
        raise InputError(f"{name} must be at least 1 pixel; got {value}.")
    return height, width
