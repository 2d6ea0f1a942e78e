"""`cct explain`: what a model says about images and where it looks, on one HTML page that needs nothing else.

The maps are those of `cct_lightning.analysis`: the weights of the pooling (SeqPool, or the class token's attention) and
attention rollout; for a network without tokens, SmoothGrad. Images are read as `cct predict` reads them.

Letters: B batch, C channels, (H, W) image, (h, w) grid of tokens, K classes.
"""

import html
from collections.abc import Iterator, Sequence
from pathlib import Path

from torch import Tensor

from cct_lightning.analysis.attention import rollout_map
from cct_lightning.analysis.overlay import UNIFORM, over_uniform, overlays, pixels, png_address
from cct_lightning.analysis.pictures import Maps
from cct_lightning.analysis.saliency import GRADIENT, smooth_grad
from cct_lightning.analysis.seqpool import pool_weights
from cct_lightning.analysis.style import Array
from cct_lightning.commands.output import Outcome, output_file
from cct_lightning.commands.predict import Predictor
from cct_lightning.data.storage.image_files import find_images
from cct_lightning.errors import InputError
from cct_lightning.models.compact import CompactTransformer

_SIDE = 224  # pixels that the longer side of a map has at least
_POOLS = {
    "seqpool": "SeqPool weights",
    "class_token": "Class token's attention",
    "mean": "Mean pooling (uniform)",
    "max": "Max pooling (share)",
}
_HEAD = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<title>{title}</title>
<style>
:root {{ color-scheme: light dark; font: 16px/1.45 system-ui, sans-serif; }}
body {{ margin: 0 auto; padding: 1rem; max-width: 90rem; }}
h1 {{ font-size: 1.5rem; margin: 0 0 .3rem; overflow-wrap: anywhere; }}
h2 {{ font-size: 1rem; margin: 0 0 .5rem; overflow-wrap: anywhere; }}
main {{ display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 34rem), 1fr)); gap: 1rem; }}
article {{ border: 1px solid color-mix(in srgb, CanvasText 25%, Canvas); border-radius: .5rem; padding: .8rem; }}
.maps {{ display: grid; grid-template-columns: repeat(auto-fit, minmax(6rem, 1fr)); gap: .6rem; }}
figure {{ margin: 0; }}
img {{ width: 100%; display: block; image-rendering: pixelated; border-radius: .25rem; }}
figcaption {{ font-size: .9rem; }}
ol {{ list-style: none; margin: .7rem 0 0; padding: 0; }}
li {{ display: flex; justify-content: space-between; gap: 1rem; padding: .15rem .4rem; margin-bottom: .15rem;
  overflow-wrap: anywhere;
  background: linear-gradient(90deg, #56B4E966 var(--p), transparent var(--p)); border-radius: .2rem; }}
li:first-child {{ font-weight: 600; }}
.error {{ align-self: start; border-color: #D55E00; border-width: 2px; }}
</style>
<h1>{title}</h1>
<p>{about}</p>
<main>
"""


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
    overwrite: bool = False,
) -> Outcome:
    """Show on one page what a model predicts for images and which places it used.

    Each image gets its prediction with the five most probable classes, and maps laid over it: the weights of the
    pooling and attention rollout (SmoothGrad for a network without tokens). A file that cannot be read gets an entry
    that says why. The page holds its pictures itself and loads nothing.

    Args:
        ckpt: A checkpoint of `cct fit`, a published `.pth`, or `.safetensors`.
        images: Image files, and folders that are searched through all their subfolders.
        out: The page to write.
        batch_size: Images per pass of the model. Attention maps take memory: layers, heads and tokens squared of each.
        device: `auto` (a GPU if there is one), `cpu`, `cuda`, `cuda:1`, `mps`.
        arch: The model's name, where the checkpoint does not say.
        classes: Names of the classes, where the checkpoint has none; their numbers otherwise.
        mean: Mean of each channel (0 to 1) that the model's images were normalized with, where the checkpoint does not
            say.
        std: Standard deviation of each channel, likewise.
        overwrite: Replace `out` where it exists.

    Returns:
        The page, and how many images are on it.

    Raises:
        InputError: No images, a checkpoint that cannot be used, or options that do not fit; nothing is written then.
    """
    if batch_size < 1:
        raise InputError(f"batch_size is {batch_size}: it must be at least 1.")
    files = find_images(images)
    with output_file(Path(out).expanduser(), overwrite=overwrite) as part:
        predictor = Predictor(ckpt, device=device, arch=arch, classes=classes, mean=mean, std=std)
        errors = 0
        with part.open("w", encoding="utf-8") as page:
            page.write(_HEAD.format(title=_text(f"{Path(ckpt).name} explained"), about=_about(predictor, len(files))))
            for batch in predictor.read(files, batch_size=batch_size):
                entries = _entries(predictor, batch.images)
                for path in batch.files:
                    problem = batch.problems.get(path)
                    page.write(_broken(path, problem) if problem else _article(path, next(entries)))
                errors += len(batch.problems)
            page.write("</main>\n</html>\n")
    return Outcome(Path(out), len(files) - errors, errors)


def _about(predictor: Predictor, count: int) -> str:
    model = predictor.model
    what = f"{model.arch.name}, " if isinstance(model, CompactTransformer) else f"{type(model).__name__}, "
    height, width = predictor.spec.img_size
    return _text(
        f"{what}{len(predictor.spec.classes)} classes, {count} files, shown as the model reads them: {height} by "
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


def _entries(predictor: Predictor, images: Tensor) -> Iterator[str]:
    """Yield the inside of the entry of each image, stored (B, C, H, W) uint8."""
    if not len(images):
        return
    shown = predictor.input.shown(images)
    maps, plain = _maps(predictor, images), pixels(shown)
    laid = {name: overlays(shown, found.values, side=_SIDE) for name, found in maps.items()}
    for i, best in enumerate(predictor.best(images)):
        figures = [_figure(plain[i], "Image", "what the model reads")]
        for name, pairs in laid.items():
            figures.append(_figure(pairs[i].mapped, name, f"largest: {pairs[i].top:.3g} {maps[name].unit}"))
        rows = "".join(
            f'<li style="--p:{100 * p:.2f}%"><span><bdi>{_text(name)}</bdi></span><span>{100 * p:.1f} %</span></li>'
            for name, p in best
        )
        yield f'<div class="maps">{"".join(figures)}</div><ol>{rows}</ol>'


def _figure(picture: Array, name: str, note: str) -> str:
    return (
        f'<figure><img src="{png_address(picture)}" alt="{_text(name)}">'
        f"<figcaption><strong>{_text(name)}</strong><br>{_text(note)}</figcaption></figure>"
    )


def _article(path: Path, inside: str) -> str:
    return f"<article><h2><bdi>{_text(path)}</bdi></h2>{inside}</article>\n"


def _broken(path: Path, problem: str) -> str:
    return f'<article class="error"><h2><bdi>{_text(path)}</bdi></h2><p>{_text(problem)}</p></article>\n'


def _text(value: object) -> str:
    """Return text for a page: markup is escaped, bytes of a file name that are no text become replacement marks."""
    return html.escape(str(value).encode("utf-8", "surrogateescape").decode("utf-8", "replace"))
