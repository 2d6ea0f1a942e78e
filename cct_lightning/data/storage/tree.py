"""Which files below a folder are images: one rule for training and predictions, which also says what is left out.

Notebooks, file managers, archives and file servers keep copies and thumbnails of images beside the images.
"""

import os
from collections.abc import Iterator
from pathlib import Path

from cct_lightning.data.storage.decode import EXTENSIONS
from cct_lightning.errors import InputError

# Hidden files and folders are clutter, too: .DS_Store, .ipynb_checkpoints, .Trash-1000, and the ._*.jpg of macOS.
_CLUTTER = {
    "thumbs.db", "ehthumbs.db", "desktop.ini", "__macosx", "__pycache__", "@eadir", "@__thumb", "@recycle",
    "@recently-snapshot", "#recycle", "#snapshot", "$recycle.bin", "system volume information", "lost+found",
    "network trash folder", "temporary items",
}  # fmt: skip

Chain = tuple[tuple[int, int], ...]  # device and inode of the folders above


def is_clutter(name: str) -> bool:
    """Tell by its name whether a file or folder is no part of a data set."""
    return name.startswith(".") or name.lower() in _CLUTTER


def is_image(name: str) -> bool:
    """Tell by its name whether a file is an image."""
    return name.lower().endswith(EXTENSIONS)


class LeftOut:
    """What lies below a folder and is not taken, by reason."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.found: dict[str, list[str]] = {}

    def note(self, reason: str, path: str) -> None:
        """Note a file or folder; `reason` says what its kind is."""
        self.found.setdefault(reason, []).append(os.path.relpath(path, self.root))

    def __str__(self) -> str:
        """One line with the number of each kind, or nothing."""
        if not self.found:
            return ""
        kinds = [
            f"{len(paths)} {reason} ({', '.join(sorted(paths)[:3])}{', ...' if len(paths) > 3 else ''})"
            for reason, paths in self.found.items()
        ]
        return f"{self.root}: {sum(map(len, self.found.values()))} left out: {'; '.join(kinds)}."


def images_below(
    folder: Path | str, left_out: LeftOut, *, strict: bool = False, folders: list[str] | None = None, above: Chain = ()
) -> Iterator[str]:
    """Yield the image files of a folder, at any depth and through links, in no order.

    Args:
        folder: Where to look.
        left_out: Takes what is no image.
        strict: Refuse links that lead nowhere or in a loop; else the former are yielded and the latter left out.
        folders: Takes every folder that was looked into.
        above: Of the folders that lead here.

    Raises:
        InputError: Such a link, where `strict`.
    """
    status = os.stat(folder)
    chain = (*above, (status.st_dev, status.st_ino))
    if chain[-1] in above:
        if strict:
            raise InputError(f"The link {folder} leads back to a folder that contains it. Remove the link.")
        left_out.note("in a loop of links", str(folder))
        return
    if folders is not None:
        folders.append(str(folder))
    for entry in os.scandir(folder):
        if is_clutter(entry.name):
            if entry.is_dir() or is_image(entry.name):
                left_out.note("clutter", entry.path)
        elif entry.is_dir():
            yield from images_below(entry.path, left_out, strict=strict, folders=folders, above=chain)
        elif strict and entry.is_symlink() and not os.path.exists(entry.path):
            raise InputError(f"The link {entry.path} leads nowhere. Restore its target or remove the link.")
        elif is_image(entry.name):
            yield entry.path
        else:
            left_out.note("not images", entry.path)
