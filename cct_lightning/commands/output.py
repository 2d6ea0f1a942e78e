"""The file that a command writes: all of it or nothing, and over an existing one only where the user says so."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from cct_lightning.errors import InputError
from cct_lightning.system.atomic import replacing
from cct_lightning.system.places import local_path


@dataclass(frozen=True)
class Outcome:
    """What a command wrote about image files.

    Attributes:
        out: The file.
        images: Entries about images that could be read.
        errors: Entries about files that could not.
    """

    out: Path
    images: int
    errors: int

    def __str__(self) -> str:
        unreadable = f", {self.errors} unreadable" if self.errors else ""
        return f"{self.images} images{unreadable}: {self.out}"


@contextmanager
def output_file(path: Path, *, overwrite: bool) -> Iterator[Path]:
    """Give a temporary path that becomes `path` when all went well, and vanishes when not.

    Args:
        path: The file, as the user gave it; its folder is made.
        overwrite: Whether it may exist.

    Raises:
        InputError: It exists, is an address, or its folder cannot be written.
    """
    path = local_path(path)
    if path.exists() and not overwrite:
        raise InputError(f"{path} exists: choose another name, or say --overwrite true.")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as temporary:
            yield temporary
    except OSError as error:
        raise InputError(f"Cannot write {path} ({error.strerror or error}): choose another folder.") from error
