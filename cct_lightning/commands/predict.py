"""`cct predict`: the classes of images in files or folders, as a CSV file.

Images become the pixels that `cct test` shows the model (`cct_lightning.data.input_spec`); threads read them ahead
while the model computes. A broken image becomes a row with an error, not the end of the run.

Letters: B batch, C channels, (H, W) image, K classes.
"""

import csv
import dataclasses
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from cct_lightning.commands.export import input_spec
from cct_lightning.commands.output import Outcome, output_file
from cct_lightning.data.augment.input_transform import InputTransform
from cct_lightning.data.classes import are_unnamed, normal_name
from cct_lightning.data.storage.image_files import find_images, progress, read_batches
from cct_lightning.errors import InputError
from cct_lightning.models.factory import load_model

COLUMNS = ("file", "class", "probability", "top5", "error")


def predict(
    ckpt: Path,
    paths: Sequence[Path],
    out: Path = Path("predictions.csv"),
    *,
    batch_size: int = 256,
    device: str = "auto",
    threads: int | None = None,
    arch: str | None = None,
    classes: Sequence[str] | None = None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    allow_import: Sequence[str] = (),
    overwrite: bool = False,
) -> Outcome:
    """Predict the classes of images and write them to a CSV file.

    The columns are `file`, `class`, `probability`, `top5` (the five most probable classes as `class:probability`,
    separated by `;`) and `error`, which is empty for an image that could be read.

    Args:
        ckpt: A checkpoint of `cct fit`, a published `.pth`, `.safetensors`, a published folder or `hf-hub:USER/NAME`.
        paths: Image files, and folders that are searched through all their subfolders.
        out: The CSV file to write.
        batch_size: Images per pass of the model.
        device: `auto` (a GPU if there is one), `cpu`, `cuda`, `cuda:1`, `mps`.
        threads: Threads that read images; None: one for each core.
        arch: The model's name, where the checkpoint does not say.
        classes: Names of the classes, where the checkpoint has none; their numbers otherwise.
        mean: Mean per channel (0 to 1) that the images were normalized with, where the checkpoint does not say.
        std: Standard deviation per channel, likewise.
        allow_import: Import paths of your own model and parts that the checkpoint may name, such as my_lab.GemPool.
        overwrite: Replace `out` where it exists.

    Returns:
        How many images were classified and how many could not be read.

    Raises:
        InputError: No images, a checkpoint that cannot be used, or options that do not fit; nothing is written then.
    """
    for option, value in (("batch_size", batch_size), ("threads", 1 if threads is None else threads)):
        if value < 1:
            raise InputError(f"{option} is {value}: it must be at least 1.")
    files = find_images(paths)
    with output_file(out, overwrite=overwrite) as part:
        predictor = Predictor(
            ckpt, device=device, arch=arch, classes=classes, mean=mean, std=std, allow_import=allow_import
        )
        errors = 0
        with part.open("w", newline="", encoding="utf-8") as file, progress() as bar:
            task = bar.add_task("predict", total=len(files))
            rows = csv.writer(file)
            rows.writerow(COLUMNS)
            for batch in read_batches(files, predictor.spec, batch_size=batch_size, threads=threads):
                found = iter(predictor.best(batch.images))
                for path in batch.files:
                    if path in batch.problems:
                        rows.writerow([path, "", "", "", batch.problems[path]])
                        continue
                    best = next(found)
                    top5 = ";".join(f"{name}:{p:.6f}" for name, p in best)
                    rows.writerow([path, best[0][0], f"{best[0][1]:.6f}", top5, ""])
                errors += len(batch.problems)
                bar.advance(task, len(batch.files))
    return Outcome(Path(out), len(files) - errors, errors)


class Predictor:
    """A model from a checkpoint with all that turns pixels into named classes; arguments as for `predict`.

    Raises:
        InputError: The checkpoint cannot be used, or the arguments do not fit it.
    """

    def __init__(
        self,
        ckpt: Path,
        *,
        device: str | torch.device = "auto",
        arch: str | None = None,
        classes: Sequence[str] | None = None,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
        allow_import: Sequence[str] = (),
    ) -> None:
        self.device = _device(device)
        model, stored = load_model(ckpt, arch=arch, allow_import=allow_import)
        spec = input_spec(model, stored)
        classes = list(map(normal_name, classes or spec.classes))
        if len(classes) != len(spec.classes):
            raise InputError(f"{len(classes)} class names were given, the model of {ckpt} has {len(spec.classes)}.")
        if not are_unnamed(spec.classes, classes):
            if sorted(classes) != sorted(spec.classes):
                names = ", ".join(spec.classes[:5])
                raise InputError(f"The checkpoint {ckpt} names its classes itself ({names}, ...): leave --classes out.")
            classes = list(spec.classes)
        if spec.in_chans not in (1, 3):
            raise InputError(f"The model of {ckpt} takes {spec.in_chans} channels: only grey and RGB files are read.")
        self.spec = dataclasses.replace(
            spec,
            classes=tuple(classes),
            mean=_per_channel("mean", mean or spec.mean, spec.in_chans, ckpt),
            std=_per_channel("std", std or spec.std, spec.in_chans, ckpt),
        )
        self.model: nn.Module = model.to(self.device)
        self.input = InputTransform(self.spec).to(self.device)

    def normalized(self, stored: Tensor) -> Tensor:
        """Return stored pixels (B, C, H, W) uint8 as the model takes them, (B, C, *img_size) on its device."""
        return self.input(stored.to(self.device, non_blocking=True))

    @torch.inference_mode()
    def best(self, images: Tensor) -> list[list[tuple[str, float]]]:
        """Return the five most probable classes, with their probabilities, of each image, stored (B, C, H, W) uint8."""
        if not len(images):
            return []
        logits, names = self.model(self.normalized(images)).float(), self.spec.classes
        values, indices = logits.softmax(-1).topk(min(5, len(names)))
        return [
            [(names[k], p) for k, p in zip(classes, probabilities, strict=True)]
            for classes, probabilities in zip(indices.tolist(), values.tolist(), strict=True)
        ]


def _per_channel(name: str, values: Sequence[float] | None, in_chans: int, ckpt: Path) -> tuple[float, ...]:
    if values is None:
        raise InputError(
            f"The checkpoint {ckpt} does not hold the {name} that its images were normalized with: give --mean and "
            "--std, one number (0 to 1) for each channel, such as --mean '[0.4914,0.4822,0.4465]'."
        )
    if len(values) != in_chans:
        raise InputError(f"{name} has {len(values)} numbers, the model of {ckpt} takes {in_chans} channels.")
    return tuple(values)


def _device(name: str | torch.device) -> torch.device:
    try:
        device = torch.accelerator.current_accelerator(check_available=True) if name == "auto" else torch.device(name)
        device = device or torch.device("cpu")
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise InputError(f"The device {name!r} cannot be used here: choose auto, cpu, cuda, cuda:1 or mps.") from error
    return device
