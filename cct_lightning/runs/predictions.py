"""What a run predicted for its test images, kept in the run folder for pages and notebooks.

    test_predictions.npz  label (N,), index (N,), top (N, k) classes, prob (N, k) float16, classes (K,) names;
                          image (S, C, H, W) uint8 of some images with row (S,), its place among the N, and
                          weight (S, h, w), how much each place counts in the pooled vector (Compact Transformers only)

Letters: N test images, K classes, k the five likeliest at most, S samples, C channels, (H, W) image, (h, w) tokens.
"""  # fmt: skip

import contextlib
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback
from torch import Tensor, distributed

from cct_lightning.analysis.seqpool import pool_weights
from cct_lightning.data.augment.input_transform import InputTransform
from cct_lightning.data.batch import Batch
from cct_lightning.data.input_spec import InputSpec
from cct_lightning.errors import InputError
from cct_lightning.runs.folder import RunFolder
from cct_lightning.system.atomic import replacing
from cct_lightning.training.sharding import is_sharded

T = TypeVar("T")

_FIRST = 12  # images from the start of the test split, the same ones for all runs of a data set
_WORST = 12  # mistakes that the model is surest of
_TOP = 5


class LastLogits:
    """Keeps the last logits of a module, whatever its steps return."""

    def __init__(self, module: torch.nn.Module) -> None:
        self.logits: Tensor | None = None
        self._handle = module.register_forward_hook(self._keep)

    def _keep(self, module: torch.nn.Module, inputs: Any, output: Tensor | None) -> None:
        # On several devices a whole step goes through the module's forward, and returns nothing.
        if output is not None:
            self.logits = output.detach()

    def probabilities(self) -> Tensor:
        """Return the probabilities (B, K) of the batch just seen, float32."""
        assert self.logits is not None
        return self.logits.float().softmax(-1)

    def close(self) -> None:
        """Stop keeping them."""
        self._handle.remove()


def gathered(items: list[T]) -> list[T]:
    """Return the items of all processes, those of the first one first; tensors among them must be on the CPU."""
    if not (distributed.is_available() and distributed.is_initialized()):
        return items
    parts: list[Any] = [None] * distributed.get_world_size()
    distributed.all_gather_object(parts, items)
    return [item for part in parts for item in part]


def columns(parts: list[tuple[Tensor, ...]]) -> list[np.ndarray]:
    """Return the columns of batches of all processes, joined: for (label, index) of each batch, all labels first."""
    return [torch.cat(column).numpy() for column in zip(*gathered(parts), strict=True)]


def to_pixels(images: Tensor, pl_module: pl.LightningModule) -> np.ndarray:
    """Undo the normalization.

    Args:
        images: (B, C, H, W), as the model sees them.
        pl_module: Its hyperparameters hold mean and std of each channel, or None where nothing was normalized.

    Returns:
        (B, C, H, W) uint8.
    """
    spec = InputSpec.from_hparams(pl_module.hparams)
    spec = replace(spec, mean=spec.mean or (0.0,) * spec.in_chans, std=spec.std or (1.0,) * spec.in_chans)
    return InputTransform(spec).to(images.device).to_pixels(images).cpu().numpy()


def _chosen_rows(label: np.ndarray, top: np.ndarray, prob: np.ndarray) -> np.ndarray:
    """Return which images to keep, (S,): the first ones, which all runs of a data set share, and the surest mistakes.

    `label` (N,) has the true classes, `top` (N, k) the likeliest first, `prob` (N, k) their probabilities.
    """
    rows = np.arange(len(label))
    wrong = rows[_FIRST:][(top[:, 0] != label)[_FIRST:]]
    surest = wrong[np.argsort(-prob[wrong, 0], kind="stable")][:_WORST]
    return np.concatenate([rows[:_FIRST], surest])


class Kept(NamedTuple):
    """An image that may be shown: its index, how sure the model is if it is wrong, else -1, and (C, H, W) pixels."""

    index: int  # type: ignore[assignment]  # hides tuple.index
    sure: float
    image: Tensor | None


def _candidates(kept: list[Kept]) -> list[Kept]:
    """Return those of one device that may be among the chosen of all, whatever the order they were seen in."""
    first = sorted(kept, key=lambda k: k.index)[:_FIRST]
    wrong = sorted((k for k in kept if k.sure >= 0), key=lambda k: (-k.sure, k.index))
    # As many mistakes again: some may be among the first images.
    return list({k.index: k for k in (*first, *wrong[: _FIRST + _WORST])}.values())


class PredictionsFile(Callback):
    """Write `test_predictions.npz` into `run_dir` at the end of a test: the same for any number of devices."""

    def __init__(self, *, run_dir: Path) -> None:
        self.run_dir = run_dir

    def on_test_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Begin to keep logits."""
        self.logits = LastLogits(pl_module)
        self.parts: list[tuple[Tensor, ...]] = []
        self.kept: list[Kept] = []  # of this device

    def on_test_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Batch, *_: int
    ) -> None:
        """Keep a batch's predictions, and the images that may be among the samples of all devices."""
        count = min(_TOP, pl_module.hparams["num_classes"])
        prob, top = (part.cpu() for part in self.logits.probabilities().topk(count))
        label, index = batch.label.cpu(), batch.index.cpu()
        self.parts.append((label, index, top, prob))
        sure = torch.where(top[:, 0] != label, prob[:, 0], -1.0).tolist()
        kept = _candidates([*self.kept, *(Kept(*pair, None) for pair in zip(index.tolist(), sure, strict=True))])
        place = {number: i for i, number in enumerate(index.tolist())}
        self.kept = [k if k.image is not None else k._replace(image=batch.image[place[k.index]].clone()) for k in kept]

    def on_test_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Write the file."""
        self.logits.close()
        label, index, top, prob = columns(self.parts)
        # In the order of the data set, whichever device has seen an image; each once.
        index, order = np.unique(index, return_index=True)
        label, top, prob = label[order], top[order], prob[order]
        rows = _chosen_rows(label, top, prob)
        wanted = set(index[rows].tolist())
        images = dict(
            gathered([(k.index, k.image.float().cpu()) for k in self.kept if k.image is not None and k.index in wanted])
        )
        if not trainer.is_global_zero:
            return
        shown = torch.stack([images[number] for number in index[rows].tolist()]).to(pl_module.device)
        arrays: dict[str, Any] = {
            "label": label.astype(np.int32),
            "index": index.astype(np.int32),
            "top": top.astype(np.int32),
            "prob": prob.astype(np.float16),
            "classes": np.array(getattr(pl_module, "classes", []), dtype=np.str_),
            "image": to_pixels(shown, pl_module),
            "row": rows.astype(np.int32),
        }
        if not is_sharded(trainer):
            with contextlib.suppress(InputError):  # of a model without tokens or weights
                arrays["weight"] = pool_weights(pl_module, shown).float().cpu().numpy().astype(np.float16)
        with replacing(self.run_dir / RunFolder.PREDICTIONS) as temporary:
            np.savez_compressed(temporary, **arrays)
