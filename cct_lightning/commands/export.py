"""`cct export`: a checkpoint as one file that runs without this package, as ONNX or as a torch.export program.

Both take normalized images (B, C, H, W) float32 of any batch size and give logits (B, K). What a user of the file needs
beyond that is in it as JSON, in ONNX in the model's metadata, in `.pt2` as the extra file `metadata.json`: the model's
name (`arch`), and `img_size`, `in_chans`, `classes`, `mean`, `std` and `preprocessing` as `InputSpec` describes them.

Letters: B batch, C channels, (H, W) image, K classes.
"""

import json
import logging
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from cct_lightning.commands.output import output_file
from cct_lightning.data.input_spec import InputSpec
from cct_lightning.errors import InputError
from cct_lightning.models.compact import CompactTransformer
from cct_lightning.models.factory import load_model
from cct_lightning.models.weights.hub import HUB
from cct_lightning.models.weights.pretrained import stored_channels, stored_classes
from cct_lightning.models.weights.reader import StoredWeights
from cct_lightning.system.importing import require_extra
from cct_lightning.system.places import local_path

_FREE_BATCH = ({0: torch.export.Dim("batch", min=1)},)
_ENDINGS = {"onnx": ".onnx", "torch": ".pt2"}


def export(
    ckpt: Path,
    out: Path | None = None,
    *,
    format: Literal["onnx", "torch"] = "onnx",
    arch: str | None = None,
    img_size: tuple[int, int] | None = None,
    allow_import: Sequence[str] = (),
    overwrite: bool = False,
) -> Path:
    """Export a checkpoint; the batch size stays free, the image size is fixed.

    Args:
        ckpt: A checkpoint of `cct fit`, a published `.pth`, `.safetensors`, a published folder or `hf-hub:USER/NAME`.
        out: The file to write; None: beside the checkpoint, ending in `.onnx` or `.pt2`.
        format: `onnx`, or `torch` for a `torch.export` program.
        arch: The model's name, where the checkpoint does not say.
        img_size: (H, W) in pixels; None: what the model was trained on.
        allow_import: Import paths of your own model and parts that the checkpoint may name, such as my_lab.GemPool.
        overwrite: Replace `out` where it exists.

    Returns:
        The file written.

    Raises:
        InputError: A checkpoint that cannot be read, an ending or image size that does not suit, or onnx is missing.
    """
    if format not in _ENDINGS:
        raise InputError(f"format is {format!r}: choose {' or '.join(_ENDINGS)}.")
    if out is None and str(ckpt).startswith(HUB):
        raise InputError(f"Name the file to write for {ckpt}: there is no place beside it.")
    out = Path(ckpt).with_suffix(_ENDINGS[format]) if out is None else local_path(out)
    if out.suffix != _ENDINGS[format]:
        raise InputError(f"{out} must end in {_ENDINGS[format]} for the format {format}.")
    if format == "onnx":
        require_extra("onnx", "onnx", "onnxscript", purpose="Export to ONNX")
    with output_file(out, overwrite=overwrite) as part:
        model, stored = load_model(ckpt, arch=arch, img_size=img_size, allow_import=allow_import)
        about = metadata(model, stored, img_size)
        # Of two images: a batch of one would be taken for a constant.
        images = torch.zeros(2, about["in_chans"], *about["img_size"])
        if format == "torch":
            with torch.no_grad():
                program = torch.export.export(model, (images,), dynamic_shapes=_FREE_BATCH)
            torch.export.save(program, part, extra_files={"metadata.json": json.dumps(about)})
        else:
            _save_onnx(model, images, part, about)
    return out


def metadata(model: nn.Module, stored: StoredWeights, img_size: tuple[int, int] | None = None) -> dict[str, Any]:
    """Return what a user of a model must know, as plain values: its name and the fields of its `InputSpec`."""
    name = model.arch.name if isinstance(model, CompactTransformer) else stored.hparams.get("arch")
    return {"arch": name, **input_spec(model, stored, img_size).as_dict()}


def input_spec(model: nn.Module, stored: StoredWeights, img_size: tuple[int, int] | None = None) -> InputSpec:
    """Return what the images of a model are; mean and std are None where its checkpoint does not say them.

    `img_size` is (H, W) in pixels where it is not that of the checkpoint.
    """
    built = model.arch.img_size if isinstance(model, CompactTransformer) else (32, 32)
    trained = stored.hparams.get("img_size") or img_size or built
    classes = stored.hparams.get("classes") or [str(k) for k in range(stored_classes(stored) or 0)]
    known = {"in_chans": stored_channels(stored) or 3, "img_size": trained, "classes": classes}
    spec = InputSpec.from_hparams({**stored.hparams, **known})
    return spec if img_size is None else spec.at_size(img_size)


def _save_onnx(model: nn.Module, images: Tensor, path: Path, about: dict[str, Any]) -> None:
    exporter = logging.getLogger("torch.onnx")
    level = exporter.level
    exporter.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of the exporter, about its own internals
            onnx = torch.onnx.export(
                model,
                (images,),
                dynamo=True,
                input_names=["images"],
                output_names=["logits"],
                dynamic_shapes=_FREE_BATCH,
                verbose=False,
            )
    finally:
        exporter.setLevel(level)
    if onnx is None:
        raise RuntimeError("torch.onnx.export gave no program")
    onnx.model.metadata_props.update({key: json.dumps(value) for key, value in about.items()})
    onnx.save(path)
