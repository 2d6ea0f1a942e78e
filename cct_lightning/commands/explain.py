"""`cct explain`: what a model says about images and where it looks, on one HTML page that needs nothing else.

The maps are those of `cct_lightning.analysis`: the weights of the pooling (SeqPool, or the class token's attention) and
attention rollout; for a network without tokens, SmoothGrad. Images are read as `cct predict` reads them.

Letters: B batch, C channels, (H, W) image, (h, w) grid of tokens, K classes.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import jinja2
from torch import Tensor

from cct_lightning.analysis.attention import rollout_map
from cct_lightning.analysis.overlay import UNIFORM, over_uniform, overlays, pixels, png_address
from cct_lightning.analysis.pictures import Maps
from cct_lightning.analysis.saliency import GRADIENT, smooth_grad
from cct_lightning.analysis.seqpool import pool_weights
from cct_lightning.commands.output import Outcome, output_file
from cct_lightning.commands.predict import Predictor
from cct_lightning.data.storage.image_files import find_images, read_batches
from cct_lightning.errors import InputError
from cct_lightning.models.compact import CompactTransformer

_SIDE = 224  # pixels that the longer side of a map has at least
_POOLS = {
    "seqpool": "SeqPool weights",
    "class_token": "Class token's attention",
    "mean": "Mean pooling (uniform)",
    "max": "Max pooling (share)",
}


def explain(
    ckpt: Path,
    images: Sequence[Path],
    out: Path = Path("explained.html"),
    *,
    batch_size: int = 16,
    device: str = "auto",
    arch: str | None = None,
    classes: Sequence[str] | None = None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    allow_import: Sequence[str] = (),
    overwrite: bool = False,
) -> Outcome:
    """Show on one page what a model predicts for images and which places it used.

    Each image gets its prediction with the five most probable classes, and maps laid over it: the weights of the
    pooling and attention rollout (SmoothGrad for a network without tokens). A file that cannot be read gets an entry
    that says why. The page holds its pictures itself and loads nothing.

    Args:
        ckpt: A checkpoint of `cct fit`, a published `.pth`, `.safetensors`, a published folder or `hf-hub:USER/NAME`.
        images: Image files, and folders that are searched through all their subfolders.
        out: The page to write.
        batch_size: Images per pass of the model. Attention maps take memory: layers, heads and tokens squared of each.
        device: `auto` (a GPU if there is one), `cpu`, `cuda`, `cuda:1`, `mps`.
        arch: The model's name, where the checkpoint does not say.
        classes: Names of the classes, where the checkpoint has none; their numbers otherwise.
        mean: Mean per channel (0 to 1) that the images were normalized with, where the checkpoint does not say.
        std: Standard deviation per channel, likewise.
        allow_import: Import paths of your own model and parts that the checkpoint may name, such as my_lab.GemPool.
        overwrite: Replace `out` where it exists.

    Returns:
        The page, and how many images are on it.

    Raises:
        InputError: No images, a checkpoint that cannot be used, or options that do not fit; nothing is written then.
    """
    if batch_size < 1:
        raise InputError(f"batch_size is {batch_size}: it must be at least 1.")
    files = find_images(images)
    problems: dict[Path, str] = {}
    with output_file(out, overwrite=overwrite) as part:
        predictor = Predictor(
            ckpt, device=device, arch=arch, classes=classes, mean=mean, std=std, allow_import=allow_import
        )

        def entries() -> Iterator[dict[str, Any]]:
            for batch in read_batches(files, predictor.spec, batch_size=batch_size):
                problems.update(batch.problems)
                explained = _explained(predictor, batch.images)
                for path in batch.files:
                    problem = problems.get(path)
                    yield {"path": path, "problem": problem, **({} if problem else next(explained))}

        environment = jinja2.Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True, finalize=_readable)
        template = environment.from_string(Path(__file__).with_suffix(".html").read_text(encoding="utf-8"))
        title, about = f"{Path(ckpt).name} explained", _about(predictor, len(files))
        template.stream(title=title, about=about, entries=entries()).dump(str(part), encoding="utf-8")
    return Outcome(Path(out), len(files) - len(problems), len(problems))


def _readable(value: object) -> str:
    """Return text whose bytes of a file name that are no text are replacement marks; the template escapes markup."""
    return str(value).encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def _about(predictor: Predictor, count: int) -> str:
    model = predictor.model
    what = model.arch.name if isinstance(model, CompactTransformer) else type(model).__name__
    height, width = predictor.spec.img_size
    return (
        f"{what}, {len(predictor.spec.classes)} classes, {count} files, shown as the model reads them: {height} by "
        f"{width} pixels. Maps run from dark (nothing) to yellow (their largest value, written below). They show what "
        "the model weighs, which is not the same as why it decides."
    )


def _maps(predictor: Predictor, images: Tensor) -> dict[str, Maps]:
    model, batch = predictor.model, predictor.normalized(images)
    if not isinstance(model, CompactTransformer):
        return {"SmoothGrad": Maps(smooth_grad(model, batch), GRADIENT)}
    pool = _POOLS.get(str(model.arch.pool), "Pooling weights")
    return {
        pool: Maps(over_uniform(pool_weights(model, batch)), UNIFORM),
        "Attention rollout": Maps(over_uniform(rollout_map(model, batch)), UNIFORM),
    }


def _explained(predictor: Predictor, images: Tensor) -> Iterator[dict[str, Any]]:
    """Yield the figures and the best classes of each image, stored (B, C, H, W) uint8."""
    if not len(images):
        return
    shown = predictor.input.shown(images)
    maps, plain = _maps(predictor, images), pixels(shown)
    laid = {name: overlays(shown, found.values, side=_SIDE) for name, found in maps.items()}
    for i, best in enumerate(predictor.best(images)):
        figures = [("Image", png_address(plain[i]), "what the model reads")]
        for name, pairs in laid.items():
            figures.append((name, png_address(pairs[i].mapped), f"largest: {pairs[i].top:.3g} {maps[name].unit}"))
        yield {"figures": figures, "best": best}
