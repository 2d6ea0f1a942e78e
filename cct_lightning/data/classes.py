"""Classes are matched by name wherever data meet a trained model: a label is only a position.

Names are kept in Unicode's form NFC. macOS writes an accented letter as two characters where Linux and Windows write
one, so the same folder copied between them would be two classes that look alike.
"""

import unicodedata
from collections.abc import Iterable, Sequence

from cct_lightning.errors import InputError


def normal_name(name: str) -> str:
    """Return a name in Unicode's form NFC."""
    return unicodedata.normalize("NFC", name)


def are_numbers(names: Sequence[str]) -> bool:
    """Tell whether names only count from 0: those of a model whose classes nobody named."""
    return list(names) == [str(k) for k in range(len(names))]


def are_unnamed(names: Sequence[str], others: Sequence[str]) -> bool:
    """Tell whether a model's names only count from 0, and the others are none of them, so that they may be any."""
    return are_numbers(names) and not set(names) & set(others)


def new_labels(ours: Iterable[str], theirs: Iterable[str], of: str) -> list[int]:
    """Return for each of our classes the label that a model gives to the class of that name.

    Args:
        ours: Names of the classes of the data, by label.
        theirs: Those of the model; where nobody named them (`are_unnamed`), labels are compared by position.
        of: What the model is, for the message: `the checkpoint runs/a/last.ckpt`.

    Raises:
        InputError: The classes are not the same ones.
    """
    ours, theirs = [normal_name(name) for name in ours], [normal_name(name) for name in theirs]
    if sorted(ours) == sorted(theirs):
        return [theirs.index(name) for name in ours]
    if len(ours) == len(theirs) and are_unnamed(theirs, ours):
        return list(range(len(ours)))
    raise InputError(
        f"The data have {_some(ours, theirs)} and {of} has {_some(theirs, ours)}: classes are matched by name, so give "
        "the data the names that the model was trained on, or train a new model on them."
    )


def _some(names: list[str], others: list[str]) -> str:
    only = [repr(name) for name in names if name not in others]
    more = ", ..." if len(only) > 3 else ""
    return f"{len(names)} classes" + (f" (among them {', '.join(only[:3])}{more})" if only else "")
