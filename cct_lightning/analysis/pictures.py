"""The pictures that show a model at work, by name: W&B gets all of them, notebooks and your own code any.

A picture is one function of a model and images, registered where it is written:

    @picture("norms")
    def norms(net, images):
        return Maps(token_norms(net, images), unit="norm of the token")

`cct fit --tracking.pictures my_lab.norms` imports it, and W&B shows `val/norms` and `test/norms`.

Letters: B batch, C channels, (H, W) image, (h, w) grid of a map.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from matplotlib.figure import Figure
from torch import Tensor, nn

from cct_lightning.analysis.style import Array
from cct_lightning.errors import InputError
from cct_lightning.system.importing import import_path


@dataclass(frozen=True)
class Maps:
    """A map for each image, to be laid over it.

    Attributes:
        values: (B, h, w), not negative.
        unit: Of the values, such as `x the uniform weight`.
    """

    values: Tensor | Array
    unit: str


# Draws a network and some images (B, C, H, W), normalized as in training. An InputError means that the network has no
# such picture: a baseline has no tokens.
Drawing = Callable[[nn.Module, Tensor], "Figure | Maps"]
PICTURES: dict[str, Drawing] = {}


def picture(name: str) -> Callable[[Drawing], Drawing]:
    """Register the function below as a picture.

    W&B shows it as `val/NAME` and `test/NAME`; a name with a slash stays as it is, for what does not depend on the
    images.
    """

    def register(draw: Drawing) -> Drawing:
        PICTURES[name] = draw
        return draw

    return register


def import_pictures(paths: Iterable[str]) -> None:
    """Import pictures from outside of the package by the import paths of their functions.

    Raises:
        InputError: No such function, or it is not registered by `picture`.
    """
    for path in paths:
        if import_path(path, "picture") not in PICTURES.values():
            raise InputError(f"{path} is not registered: write @picture(NAME) of cct_lightning.analysis above it.")
