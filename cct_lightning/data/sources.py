"""The data sets: one entry each. Where it comes from, its classes, statistics, sizes, license and splits.

Mean and std are over all training pixels, 0..1, per channel. CIFAR's are those of the published CCT recipes.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from cct_lightning.data import readers
from cct_lightning.data.folder import folder
from cct_lightning.data.readers import Arrays, Files
from cct_lightning.errors import InputError, nearest

DIGITS = tuple("0123456789")
CIFAR10 = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
CIFAR100 = tuple(
    """apple aquarium_fish baby bear beaver bed bee beetle bicycle bottle bowl boy bridge bus butterfly camel can
    castle caterpillar cattle chair chimpanzee clock cloud cockroach couch crab crocodile cup dinosaur dolphin
    elephant flatfish forest fox girl hamster house kangaroo keyboard lamp lawn_mower leopard lion lizard lobster man
    maple_tree motorcycle mountain mouse mushroom oak_tree orange orchid otter palm_tree pear pickup_truck pine_tree
    plain plate poppy porcupine possum rabbit raccoon ray road rocket rose sea seal shark shrew skunk skyscraper snail
    snake spider squirrel streetcar sunflower sweet_pepper table tank telephone television tiger tractor train trout
    tulip turtle wardrobe whale willow_tree wolf woman worm""".split()  # noqa: SIM905
)


@dataclass(frozen=True, kw_only=True)
class Source:
    """One data set."""

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
    splits: dict[str, int] = field(default_factory=dict)  # number of images, as published
    augment: str = "light"  # the policy when none is asked for


_MNIST_FILES = tuple(f"{stem}-{kind}-ubyte" for stem in ("train", "t10k") for kind in ("images-idx3", "labels-idx1"))

_ALL = (
    Source(
        name="digits",
        title="scikit-learn digits (UCI optical recognition of handwritten digits)",
        origin="inside the package scikit-learn",
        license="CC BY 4.0",
        read=readers.digits,
        classes=DIGITS,
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
        classes=DIGITS,
        in_chans=1,
        size=(28, 28),
        mean=(0.1307,),
        std=(0.3081,),
        splits={"train": 60000, "test": 10000},
        augment="digits",
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
        classes=CIFAR10,
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
        classes=CIFAR100,
        in_chans=3,
        size=(32, 32),
        mean=(0.5071, 0.4867, 0.4408),
        std=(0.2675, 0.2565, 0.2761),
        splits={"train": 50000, "test": 10000},
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

    Raises:
        InputError: There is none of that name.
    """
    if name not in SOURCES:
        raise InputError(f"There is no data set {name!r}.{nearest(name, SOURCES)} Choose one of {', '.join(SOURCES)}.")
    return SOURCES[name]
