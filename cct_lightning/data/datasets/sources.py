"""The data sets: one entry each. Where it comes from, its classes, statistics, sizes, license and splits.

Mean and std are over all training pixels, 0..1, per channel. CIFAR's are those of the published CCT recipes.
"""

import hashlib
import sys
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

from cct_lightning.data.datasets import class_names, readers
from cct_lightning.data.datasets.folder import folder
from cct_lightning.data.datasets.readers import Arrays, Files
from cct_lightning.errors import InputError, nearest
from cct_lightning.system.importing import import_path


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
    margin: float = 1.0  # how much larger than the model's images files are held, so that crops have room
    streamed: bool = False  # decoded at every access unless a cache is asked for
    splits: dict[str, int] = field(default_factory=dict)  # number of images, as published
    augment: str = "light"  # the policy when none is asked for
    code: str = ""  # digest of the file that a user's own entry stands in


_MNIST_FILES = tuple(f"{stem}-{kind}-ubyte" for stem in ("train", "t10k") for kind in ("images-idx3", "labels-idx1"))

_ALL = (
    Source(
        name="digits",
        title="scikit-learn digits (UCI optical recognition of handwritten digits)",
        origin="inside the package scikit-learn",
        license="CC BY 4.0",
        read=readers.digits,
        classes=class_names.DIGITS,
        in_chans=1,
        size=(8, 8),
        mean=(0.3046,),
        std=(0.3755,),
        splits={"train": 1438, "test": 359},
        augment="digits",
    ),
    Source(
        name="mnist",
        title="MNIST",
        origin="http://yann.lecun.com/exdb/mnist",
        license="CC BY-SA 3.0",
        read=readers.idx,
        base="MNIST/raw",
        files=_MNIST_FILES,
        torchvision="MNIST",
        classes=class_names.DIGITS,
        in_chans=1,
        size=(28, 28),
        mean=(0.1307,),
        std=(0.3081,),
        splits={"train": 60000, "test": 10000},
        augment="digits",
    ),
    Source(
        name="fashion_mnist",
        title="Fashion-MNIST",
        origin="https://github.com/zalandoresearch/fashion-mnist",
        license="MIT",
        read=readers.idx,
        base="FashionMNIST/raw",
        files=_MNIST_FILES,
        torchvision="FashionMNIST",
        classes=class_names.FASHION,
        in_chans=1,
        size=(28, 28),
        mean=(0.2860,),
        std=(0.3530,),
        splits={"train": 60000, "test": 10000},
    ),
    Source(
        name="cifar10",
        title="CIFAR-10",
        origin="https://www.cs.toronto.edu/~kriz/cifar.html",
        license="no license stated; for research, cite Krizhevsky (2009)",
        read=readers.cifar10,
        base="cifar-10-batches-py",
        files=(*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"),
        torchvision="CIFAR10",
        classes=class_names.CIFAR10,
        in_chans=3,
        size=(32, 32),
        mean=(0.4914, 0.4822, 0.4465),
        std=(0.2470, 0.2435, 0.2616),
        splits={"train": 50000, "test": 10000},
    ),
    Source(
        name="cifar100",
        title="CIFAR-100",
        origin="https://www.cs.toronto.edu/~kriz/cifar.html",
        license="no license stated; for research, cite Krizhevsky (2009)",
        read=readers.cifar100,
        base="cifar-100-python",
        files=("train", "test"),
        torchvision="CIFAR100",
        classes=class_names.CIFAR100,
        in_chans=3,
        size=(32, 32),
        mean=(0.5071, 0.4867, 0.4408),
        std=(0.2675, 0.2565, 0.2761),
        splits={"train": 50000, "test": 10000},
    ),
    Source(
        name="svhn",
        title="SVHN (street view house numbers, cropped)",
        origin="http://ufldl.stanford.edu/housenumbers",
        license="for non-commercial use only",
        read=readers.svhn,
        files=("train_32x32.mat", "test_32x32.mat"),
        torchvision="SVHN",
        by_split=({"split": "train"}, {"split": "test"}),
        classes=class_names.DIGITS,
        in_chans=3,
        size=(32, 32),
        mean=(0.4377, 0.4438, 0.4728),
        std=(0.1980, 0.2010, 0.1970),
        splits={"train": 73257, "test": 26032},
        augment="digits",
    ),
    Source(
        name="flowers102",
        title="Oxford 102 Flowers",
        origin="https://www.robots.ox.ac.uk/~vgg/data/flowers/102",
        license="no license stated; for research, cite Nilsback and Zisserman (2008)",
        read=readers.flowers102,
        base="flowers-102",
        files=("jpg/image_00001.jpg", "imagelabels.mat", "setid.mat"),
        made_of_images=True,
        torchvision="Flowers102",
        classes=class_names.FLOWERS102,
        in_chans=3,
        size=(224, 224),
        margin=8 / 7,
        mean=(0.4353, 0.3773, 0.2872),
        std=(0.2966, 0.2455, 0.2698),
        splits={"train": 1020, "val": 1020, "test": 6149},
    ),
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
    ),
    Source(
        name="folder",
        title="any tree of image files, ROOT/train/CLASS/*.png",
        origin="yours",
        license="yours",
        read=folder,
        made_of_images=True,
    ),
)
SOURCES: dict[str, Source] = {source.name: source for source in _ALL}


def source_named(name: str) -> Source:
    """Return the entry of a data set.

    Args:
        name: A key of `SOURCES`, or the import path of a `Source` of yours, such as `my_lab.data.BIRDS`.

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
