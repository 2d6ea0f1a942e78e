"""Trees of image files as in torchvision's ImageFolder: ROOT/train/CLASS/*.png, optionally ROOT/val and ROOT/test.

ImageNet is one, with its published splits under other names. Class folders sorted by name are the classes; files below
them, at any depth, are their images. What is left out is told with its number (`storage/tree.py` has the rule).
"""

import os
from collections.abc import Mapping
from functools import partial
from pathlib import Path

import numpy as np

from cct_lightning.data.classes import normal_name
from cct_lightning.data.datasets.sources import Files, Source, register
from cct_lightning.data.storage.cache import SPLITS
from cct_lightning.data.storage.decode import EXTENSIONS
from cct_lightning.data.storage.tree import LeftOut, images_below, is_clutter, is_image
from cct_lightning.errors import InputError

LAYOUT = "train/CLASS/*.png, and optionally val/CLASS/*.png and test/CLASS/*.png"
USUAL = {
    "train": ("train", "training"),
    "val": ("val", "valid", "validation", "dev"),
    "test": ("test", "testing"),
}  # whatever their case
OUTSIDE = "not in a class folder"


def folder(root: Path, *, splits: Mapping[str, tuple[str, ...]] = USUAL) -> Files:
    """List the images of a tree, `root`; `splits` has the usual names of the folder of each split.

    Raises:
        InputError: Anything about the tree that would make the labels doubtful; one sentence.
    """
    left_out = LeftOut(root)
    present = _split_folders(root, splits, left_out)
    folders = [str(root), *map(str, present.values())]
    classes = {split: _class_folders(where, left_out) for split, where in present.items()}
    names = tuple(sorted(classes["train"]))
    paths: list[str] = []
    labels: list[int] = []
    of_split: list[int] = []
    for split, where in present.items():
        if strange := sorted(set(classes[split]) - set(names)):
            raise InputError(
                f"{where} has a class {strange[0]!r} that {present['train']} has not. "
                "Every split must use the class folders of the training split."
            )
        for name, place in sorted(classes[split].items()):
            found = sorted(images_below(place, left_out, strict=True, folders=folders))
            if not found:
                raise InputError(
                    f"The class folder {place} holds no image ({', '.join(EXTENSIONS)}). "
                    "Add images to it or remove the folder."
                )
            paths += [os.path.relpath(path, root) for path in found]
            labels += [names.index(name)] * len(found)
            of_split += [SPLITS.index(split)] * len(found)
    return Files(
        root=root,
        path=paths,
        label=np.array(labels, dtype=np.int64),
        split=np.array(of_split, dtype=np.uint8),
        classes=names,
        folders=tuple(os.path.relpath(path, root) for path in folders),
        left_out=str(left_out),
    )


def _split_folders(root: Path, splits: Mapping[str, tuple[str, ...]], left_out: LeftOut) -> dict[str, Path]:
    """Return the folder of each split that there is, in the order of `splits`."""
    found: dict[str, Path] = {}
    for entry in sorted(os.scandir(root), key=lambda entry: entry.name) if root.is_dir() else ():
        if not entry.is_dir():
            if is_image(entry.name) and not is_clutter(entry.name):
                left_out.note(OUTSIDE, entry.path)
            continue
        split = next((split for split, usual in splits.items() if entry.name.lower() in usual), None)
        if split in found:
            raise InputError(
                f"{root} holds both {found[split].name!r} and {entry.name!r}, which are names of the {split} split. "
                "Keep one of them, or join them."
            )
        if split is not None:
            found[split] = root / entry.name
        elif not is_clutter(entry.name):
            left_out.note("not in a split", entry.path)
    if "train" not in found:
        raise InputError(_no_train(root))
    return {split: found[split] for split in splits if split in found}


def _no_train(root: Path) -> str:
    if not root.exists():
        return f"The data folder {root} does not exist. Give data.root the folder that holds {LAYOUT}."
    if not root.is_dir():
        return f"The data root {root} is a file. Give data.root the folder that holds {LAYOUT}."
    if not any(root.iterdir()):
        return f"The data folder {root} is empty. Fill it as {LAYOUT}."
    return f"The data folder {root} holds no folder 'train'. Arrange it as {LAYOUT}."


def _class_folders(split: Path, left_out: LeftOut) -> dict[str, Path]:
    """Return the folder of each class of a split, by the class's name."""
    found: dict[str, Path] = {}
    for entry in os.scandir(split):
        if is_clutter(entry.name):
            if entry.is_dir() or is_image(entry.name):
                left_out.note("clutter", entry.path)
        elif not entry.is_dir():
            left_out.note(OUTSIDE, entry.path)
        elif (name := normal_name(entry.name)) in found:
            raise InputError(
                f"{split} has two class folders of one name, {name!r}, written with different characters "
                "(Unicode's NFC and NFD). Join them."
            )
        else:
            found[name] = split / entry.name
    if not found:
        raise InputError(f"The folder {split} holds no class folders. Arrange its images as {split.name}/CLASS/*.png.")
    return found


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
        read=partial(folder, splits={"train": ("train",), "test": ("val",)}),
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
