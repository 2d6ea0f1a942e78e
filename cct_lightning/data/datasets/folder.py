"""Trees of image files as in torchvision's ImageFolder: ROOT/train/CLASS/*.png, optionally ROOT/val and ROOT/test.

ImageNet is one, with its published splits under other names. Class folders sorted by name are the classes; files below
them, at any depth, are their images. What is not an image by its extension is counted in a warning.
"""

import os
import warnings
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np

from cct_lightning.data.datasets.sources import Files, Source, register
from cct_lightning.data.storage.cache import SPLITS
from cct_lightning.data.storage.decode import EXTENSIONS
from cct_lightning.errors import InputError

CLUTTER = ("thumbs.db", "desktop.ini")  # what file managers leave behind, like files whose name begins with a dot
LAYOUT = "train/CLASS/*.png, and optionally val/CLASS/*.png and test/CLASS/*.png"


def folder(root: Path, *, splits: dict[str, str] | None = None) -> Files:
    """List the images of a tree, `root`; `splits` names the folder of each split where it is not the split's own name.

    Raises:
        InputError: Anything about the tree that would make the labels doubtful; one sentence.
    """
    names = splits or {name: name for name in SPLITS}
    present = {split: name for split, name in names.items() if (root / name).is_dir()}
    if "train" not in present:
        raise InputError(_no_train(root, names["train"]))
    classes = _classes(root / present["train"])
    number = {name: i for i, name in enumerate(classes)}
    paths, labels, of_split, ignored = [], [], [], []
    for split, name in present.items():
        found = _classes(root / name)
        strange = [c for c in found if c not in number]
        if strange:
            raise InputError(
                f"{root / name} has a class {strange[0]!r} that {root / present['train']} has not. "
                "Every split must use the class folders of the training split."
            )
        for c in found:
            images = []
            for path in sorted(_files(root / name / c, ())):
                base = os.path.basename(path).lower()
                if base.endswith(EXTENSIONS):
                    images.append(os.path.relpath(path, root))
                elif base not in CLUTTER and not base.startswith("."):
                    ignored.append(os.path.relpath(path, root))
            if not images:
                raise InputError(
                    f"The class folder {root / name / c} holds no image ({', '.join(EXTENSIONS)}). "
                    "Add images to it or remove the folder."
                )
            paths += images
            labels += [number[c]] * len(images)
            of_split += [SPLITS.index(split)] * len(images)
    if ignored:
        warnings.warn(
            f"{root}: {len(ignored)} files that are no images are left out: {', '.join(ignored[:3])}"
            + (", ..." if len(ignored) > 3 else ""),
            stacklevel=2,
        )
    label, numbers = np.array(labels, dtype=np.int64), np.array(of_split, dtype=np.uint8)
    return Files(root=root, path=paths, label=label, split=numbers, classes=classes)


def _no_train(root: Path, train: str) -> str:
    if not root.exists():
        return f"The data folder {root} does not exist. Give data.root the folder that holds {LAYOUT}."
    if not root.is_dir():
        return f"The data root {root} is a file. Give data.root the folder that holds {LAYOUT}."
    if not any(root.iterdir()):
        return f"The data folder {root} is empty. Fill it as {LAYOUT}."
    return f"The data folder {root} holds no folder {train!r}. Arrange it as {LAYOUT}."


def _classes(split: Path) -> tuple[str, ...]:
    classes = tuple(sorted(e.name for e in os.scandir(split) if e.is_dir() and not e.name.startswith(".")))
    if not classes:
        raise InputError(f"The folder {split} holds no class folders. Arrange its images as {split.name}/CLASS/*.png.")
    return classes


def _files(here: Path | str, above: tuple[tuple[int, int], ...]) -> Iterator[str]:
    """Walk a class folder, through links too, and refuse one that leads back to a folder above it."""
    status = os.stat(here)
    identity = (status.st_dev, status.st_ino)
    if identity in above:
        raise InputError(f"The link {here} leads back to a folder that contains it. Remove the link.")
    for entry in os.scandir(here):
        if entry.is_dir():
            yield from _files(entry.path, (*above, identity))
        elif entry.is_symlink() and not os.path.exists(entry.path):
            raise InputError(f"The link {entry.path} leads nowhere. Restore its target or remove the link.")
        else:
            yield entry.path


register(
    Source(
        name="folder",
        title="any tree of image files, ROOT/train/CLASS/*.png",
        origin="yours",
        license="yours",
        read=folder,
        made_of_images=True,
    )
)
register(
    Source(
        name="imagenet",
        title="ImageNet (ILSVRC2012), ROOT/train/WNID/*.JPEG and ROOT/val/WNID/*.JPEG",
        origin="https://image-net.org/download, after registration",
        license="for non-commercial research and education only",
        # The published validation split is what results are reported on, so it is our test split.
        read=partial(folder, splits={"train": "train", "test": "val"}),
        made_of_images=True,
        in_chans=3,
        size=(224, 224),
        margin=8 / 7,
        streamed=True,
        mean=(0.485, 0.456, 0.406),
        std=(0.229, 0.224, 0.225),
        splits={"train": 1281167, "test": 50000},
    )
)
