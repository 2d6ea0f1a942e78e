"""`create_model`: every model of the project by its name."""

import dataclasses
import logging
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import cast

from torch import nn
from typing_extensions import Unpack

from cct_lightning.errors import InputError
from cct_lightning.models.arch import BASELINES, Arch, check_sizes, is_compact, pair, resolve_arch
from cct_lightning.models.baselines import BUILDERS
from cct_lightning.models.compact import CompactTransformer
from cct_lightning.models.parts import Parts, PartSpec, build_part, import_paths, split_spec
from cct_lightning.models.weights import pretrained as weights
from cct_lightning.models.weights.architecture import check_architecture, stored_parts
from cct_lightning.models.weights.hub import is_reference
from cct_lightning.models.weights.reader import StoredWeights, read_weights
from cct_lightning.system.importing import check_imports

log = logging.getLogger(__name__)


def create_model(
    name: PartSpec | Path,
    *,
    pretrained: bool | str | Path | StoredWeights | None = None,
    img_size: int | Sequence[int] | None = None,
    in_chans: int | None = None,
    num_classes: int | None = None,
    allow_import: Iterable[str] = (),
    **parts: Unpack[Parts],
) -> nn.Module:
    """Build a model by name.

    Example:
        >>> model = create_model("cct_7_3x1", num_classes=100, pool="class_token")
        >>> model(torch.randn(2, 3, 32, 32)).shape
        torch.Size([2, 100])
        >>> model = create_model("cct_7_3x1", pool={"class_path": "my_lab.GemPool", "init_args": {"p": 3}})

    Args:
        name: `cct_LAYERS_KERNELxBLOCKS`, `cvt_LAYERS_PATCH` or `vit_LAYERS_PATCH`, optionally with image size, `_sine`,
            `_c100` or `_fl`; a baseline such as `resnet18`; or the import path of a `torch.nn.Module` of yours whose
            constructor takes the keywords `img_size`, `in_chans` and `num_classes`, and where it takes more a dict of
            `class_path` and `init_args`. `cct models` lists the published names. Or what `cct publish` wrote, with its
            weights: `hf-hub:USER/NAME`, also with `@REVISION`, or a folder.
        pretrained: Weights to start from: True for the published ones of that name, the path of a checkpoint of
            `cct fit`, a published `.pth` or a `.safetensors` file, what `read_weights` returned, or what published
            weights were trained on, such as `cifar10_300epochs`. Another number of classes re-initializes the head,
            another image size resizes the position embedding, other channels fold or repeat the first convolution.
        img_size: Side of the images in pixels, or (H, W); None: the checkpoint's if it says, else the name's, else 32.
        in_chans: Channels of the images; None: the checkpoint's, else 3.
        num_classes: Classes; None: the checkpoint's, else those of the published model of that name (1000 for
            `cct_14_7x2_224`), else 10.
        allow_import: Import paths of your own model and parts that a published model may name; others are refused.
        **parts: Parts that differ from the name's, see `Parts`; Compact Transformers alone have them. A checkpoint that
            was trained with others is refused where they are left out, and a warning tells of it where they are given.

    Returns:
        A `CompactTransformer`, or the baseline's or user's module.

    Raises:
        InputError: An unknown name or part, parts that do not fit each other or the image, or weights that do not fit
            or are NaN.
    """
    name = str(name) if isinstance(name, Path) else name
    if isinstance(name, str) and is_reference(name):
        if pretrained is not None and pretrained is not True:
            raise InputError(f"{name} has weights of its own: leave pretrained out, or name an architecture.")
        pretrained = read_weights(name)
        name, described = _described(pretrained, allow_import=allow_import)
        parts = cast(Parts, {**described, **{key: value for key, value in parts.items() if value is not None}})
    stored = None if pretrained is None or pretrained is False else weights.find_weights(name, pretrained)
    if stored is not None:
        img_size = stored.hparams.get("img_size") if img_size is None else img_size
        in_chans = weights.stored_channels(stored) if in_chans is None else in_chans
        num_classes = weights.stored_classes(stored) if num_classes is None else num_classes
    path, arguments = split_spec("arch", name)
    own = "." in path
    if arguments and not own:
        raise InputError(f"{path} takes no init_args: they are for models of yours; give parts such as pool instead.")
    if own or path in BASELINES:
        if given := [key for key, value in parts.items() if value is not None]:
            options = ", ".join(given)
            raise InputError(
                f"{path} has no {given[0]}: {options} can be set for Compact Transformers (cct, cvt, vit) alone."
            )
        size = pair((32, 32) if img_size is None else img_size)
        chans, classes = 3 if in_chans is None else in_chans, 10 if num_classes is None else num_classes
        check_sizes({"in_chans": chans, "num_classes": classes}, size)
        model = (
            build_part("model", name, {}, nn.Module, img_size=size, in_chans=chans, num_classes=classes)
            if own
            else BUILDERS[path](size, chans, classes)
        )
    else:
        arch = resolve_arch(path, img_size=img_size, in_chans=in_chans, num_classes=num_classes, **parts)
        model = CompactTransformer(_with_stored_position(arch, stored))
        if stored is not None:
            given = [key for key, value in parts.items() if value is not None]
            check_architecture(stored.hparams, arch, given=given, source=f"The checkpoint {stored.path}")
    if stored is not None:
        weights.load_weights(model, stored)
    return model


def _with_stored_position(arch: Arch, stored: StoredWeights | None) -> Arch:
    """Let the embedding in a checkpoint decide: many published `_sine` models were trained with a learnable one."""
    embedding = stored.state.get("position.embedding") if stored else None
    if embedding is None or arch.position != "sine" or embedding.ndim != 3 or weights.is_sine(embedding):
        return arch
    log.warning(
        "the checkpoint of %s holds a learned position embedding, not the sine table: used as learnable", arch.name
    )
    return dataclasses.replace(arch, position="learnable")


def load_model(
    path: Path,
    *,
    arch: PartSpec | None = None,
    img_size: tuple[int, int] | None = None,
    allow_import: Iterable[str] = (),
) -> tuple[nn.Module, StoredWeights]:
    """Build the model that a checkpoint holds, with its weights, in evaluation mode.

    Args:
        path: A checkpoint of `cct fit`, a published `.pth`, `.safetensors`, a published folder or `hf-hub:USER/NAME`.
        arch: The model's name, where the checkpoint does not say (weights alone, of a model that is not published).
        img_size: (H, W) in pixels; None: the checkpoint's.
        allow_import: Import paths of your own model or parts that the checkpoint may name; others are refused.

    Returns:
        The model, and the content of the file, with classes, mean and std in its `hparams`.

    Raises:
        InputError: The file is no such checkpoint, nothing says which model it holds, its weights are NaN, or it names
            code that is not allowed.
    """
    stored = read_weights(path)
    return model_of(stored, arch, img_size, allow_import)[1].eval(), stored


def model_of(
    stored: StoredWeights,
    arch: PartSpec | None = None,
    img_size: tuple[int, int] | None = None,
    allow_import: Iterable[str] = (),
) -> tuple[PartSpec, nn.Module]:
    """Return the name and the model, with its weights, that `read_weights` found; see `load_model`."""
    name, parts = _described(stored, arch, allow_import)
    return name, create_model(name, pretrained=stored, img_size=img_size, **parts)


def _described(
    stored: StoredWeights, arch: PartSpec | None = None, allow_import: Iterable[str] = ()
) -> tuple[PartSpec, Parts]:
    """Return the name and the parts of the model that weights were stored of, after a check of the code they name."""
    described = stored.hparams.get("arch")
    asked = None if arch is None else split_spec("arch", arch)[0]
    if described is not None and asked in (None, split_spec("arch", described)[0]):
        name = described if arch is None or isinstance(arch, str) else arch  # with the arguments that it was built with
    else:
        name = arch or weights.infer_arch(stored)
    parts = stored_parts(stored.hparams) if is_compact(name) else {}
    allowed = [*allow_import, *([asked] if asked else [])]
    check_imports(import_paths({"arch": name, **parts}), stored.path, allowed)
    return name, cast(Parts, parts)
