"""`Source`: what a data set is. The known ones register themselves, each in the file that reads it.

Mean and std are over all training pixels, 0..1, per channel. CIFAR's are those of the published CCT recipes.
"""

import hashlib
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from cct_lightning.errors import InputError, nearest
from cct_lightning.system.importing import import_path

TRAIN, VAL, TEST = 0, 1, 2


@dataclass(frozen=True, kw_only=True)
class Arrays:
    """Images that are already decoded."""

    image: np.ndarray  # (N, C, H, W) uint8
    label: np.ndarray  # (N,) int64
    split: np.ndarray  # (N,) uint8: 0 train, 1 val, 2 test

    @classmethod
    def joined(cls, parts: Sequence[tuple[np.ndarray, np.ndarray, int]]) -> "Arrays":
        """Join parts of a set, each its images, its labels and its split."""
        images, labels, numbers = zip(*parts, strict=True)
        split = np.repeat(np.array(numbers, dtype=np.uint8), [len(label) for label in labels])
        return cls(image=np.concatenate(images), label=np.concatenate(labels), split=split)


@dataclass(frozen=True, kw_only=True)
class Files:
    """Images that are files."""

    root: Path
    path: list[str]  # relative to root
    label: np.ndarray  # (N,) int64
    split: np.ndarray  # (N,) uint8
    classes: tuple[str, ...]
    folders: tuple[str, ...] = ()  # all that were listed, relative to root; then a streamed set is listed once a node
    left_out: str = ""  # a line for the user about files that are not taken


@dataclass(frozen=True, kw_only=True)
class Source:
    """One data set: `read` gives its images as `Arrays`, or lists its `Files`; the rest says what they are."""

    name: str
    title: str
    origin: str  # where it is published
    license: str
    read: Callable[[Path], Arrays | Files]
    base: str = ""  # folder of its files, below the root
    files: tuple[str, ...] = ()  # what `read` needs, below the base
    made_of_images: bool = False  # its images are files, listed by `read`, and not arrays
    torchvision: str | None = None  # the class that downloads it
    by_split: tuple[dict[str, object], ...] = ({},)  # arguments of that class, one download each
    classes: tuple[str, ...] = ()  # empty: read from the folder
    in_chans: int | None = None  # None: read from the folder
    size: tuple[int, int] | None = None  # height and width; None: the files decide
    mean: tuple[float, ...] = ()  # empty: measured over the training images
    std: tuple[float, ...] = ()
    margin: float = 1.0  # how much larger than the model's images files are stored, so that crops have room
    streamed: bool = False  # decoded at every access unless a cache is asked for
    splits: dict[str, int] = field(default_factory=dict)  # number of images, as published
    augment: str = "light"  # the policy when none is asked for
    code: str = ""  # digest of the file that defines a user's own entry


SOURCES: dict[str, Source] = {}


def register(source: Source) -> Source:
    """Make a data set known by its name, `data.name`."""
    SOURCES[source.name] = source
    return source


def class_names(data_set: str) -> tuple[str, ...]:
    """Return the names of a data set's classes from its text file beside this module, one a line."""
    return tuple(Path(__file__).with_name(f"{data_set}.txt").read_text(encoding="utf-8").splitlines())


def source_named(name: str) -> Source:
    """Return the entry of a data set: `name` is a key of `SOURCES`, or the import path of a `Source` of yours.

    Raises:
        InputError: There is none of that name.
    """
    if name in SOURCES:
        return SOURCES[name]
    if "." not in name:
        raise InputError(f"There is no data set {name!r}.{nearest(name, SOURCES)} Choose one of {', '.join(SOURCES)}.")
    found = import_path(name, "data set")
    if not isinstance(found, Source):
        raise InputError(f"{name!r} is not a cct_lightning.data.Source.")
    # What the reader does is part of what is cached: a changed file makes a new cache.
    module = sys.modules[name.rpartition(".")[0]]
    code = hashlib.sha256(Path(str(module.__file__)).read_bytes()).hexdigest()
    return replace(found, code=code)
