"""Pictures and tables in W&B: what was mistaken for what, where the model looks, which filters it has.

Letters: N images, K classes.
"""

import contextlib
import io
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
import wandb
from matplotlib.figure import Figure
from PIL import Image
from pytorch_lightning.callbacks import Callback
from pytorch_lightning.loggers import WandbLogger
from torch import Tensor

from cct_lightning.analysis.attention import rollout_map
from cct_lightning.analysis.calibration import plot_reliability, reliability_of
from cct_lightning.analysis.confusion import confusion_matrix, plot_confusion
from cct_lightning.analysis.filters import plot_filters, tokenizer_filters
from cct_lightning.analysis.overlay import blend, over_uniform, pixels
from cct_lightning.analysis.position import plot_position_similarity, position_similarity
from cct_lightning.analysis.saliency import smooth_grad
from cct_lightning.analysis.seqpool import pool_weights
from cct_lightning.data.batch import Batch
from cct_lightning.errors import InputError
from cct_lightning.runs.predictions import Listener, columns, to_pixels
from cct_lightning.tracking.shield import ShieldedWandbLogger
from cct_lightning.training.sharding import is_sharded

_MISTAKES = 32  # rows of the table of misclassified images
_CHART = 100  # classes up to which W&B draws the confusion matrix itself
_SAMPLES = 12  # images with maps over them
_NOISY = 8  # copies of an image for SmoothGrad
_UNIFORM = "x the uniform weight"


class WandbMedia(Callback):
    """Log tables and pictures to W&B, after some validations and after the test.

    `val/misclassified` and `test/misclassified` (a table of images), `.../confusion`, `.../reliability` (calibration),
    `.../pool_weights`, `.../rollout` and `.../saliency` (SeqPool's weights, attention rollout and SmoothGrad over the
    images), `tokenizer/filters` and `position/similarity`. What a network has not (a baseline has no tokens) is left
    out, and so is everything under FSDP, where no device could run the model alone.

    Args:
        every_n_epochs: Epochs between two of them; also after the last one.
    """

    def __init__(self, *, every_n_epochs: int) -> None:
        self.every_n_epochs = every_n_epochs
        self.listener: Listener | None = None

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Begin to listen in the epochs that are logged."""
        epoch = trainer.current_epoch + 1
        wanted = not (trainer.sanity_checking or is_sharded(trainer))
        if wanted and (epoch % self.every_n_epochs == 0 or epoch == trainer.max_epochs):
            self._begin(pl_module)

    def on_test_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Begin to listen."""
        if not is_sharded(trainer):
            self._begin(pl_module)

    def _begin(self, pl_module: pl.LightningModule) -> None:
        self.listener = Listener(pl_module)
        self.parts: list[tuple[Tensor, Tensor, Tensor]] = []  # label, predicted, probability
        self.mistakes: list[tuple[float, int, int, int, Tensor]] = []  # probability, index, label, predicted, image
        self.images: Tensor | None = None

    def on_validation_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Batch,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Keep a batch's predictions."""
        if self.listener is None:
            return
        prob, predicted = (part.cpu() for part in self.listener.take().max(-1))
        label = batch.label.cpu()
        self.parts.append((label, predicted, prob))
        if self.images is None:
            self.images = batch.image[:_SAMPLES].clone()
        for place in (predicted != label).nonzero()[:, 0].tolist():
            if len(self.mistakes) < _MISTAKES:
                row = (float(prob[place]), int(batch.index[place]), int(label[place]), int(predicted[place]))
                self.mistakes.append((*row, batch.image[place].clone()))

    def on_test_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Batch,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Keep a batch's predictions."""
        self.on_validation_batch_end(trainer, pl_module, outputs, batch, batch_idx, dataloader_idx)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Log the pictures of the validation split."""
        self._log(trainer, pl_module, "val")

    def on_test_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Log the pictures of the test split."""
        self._log(trainer, pl_module, "test")

    def _log(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        if self.listener is None:
            return
        self.listener.close()
        self.listener = None
        label, predicted, prob = columns(self.parts)
        loggers = [one for one in trainer.loggers if isinstance(one, WandbLogger) and not getattr(one, "lost", False)]
        if trainer.is_global_zero and loggers:
            try:
                logged = self._drawn(pl_module, stage, label, predicted, prob)
            except OSError as error:
                # W&B keeps pictures in the system's temporary folder, which may be full.
                for logger in loggers:
                    if isinstance(logger, ShieldedWandbLogger):
                        logger.lose(error)
            else:
                logged |= {"epoch": trainer.current_epoch, "trainer/global_step": trainer.global_step}
                for logger in loggers:
                    logger.experiment.log(dict(logged))
        self.mistakes, self.images, self.parts = [], None, []

    def _drawn(
        self, pl_module: pl.LightningModule, stage: str, label: np.ndarray, predicted: np.ndarray, prob: np.ndarray
    ) -> dict[str, Any]:
        classes: Sequence[str] = pl_module.classes  # type: ignore[assignment]
        calibration = reliability_of(torch.from_numpy(prob), torch.from_numpy(predicted == label))
        logged: dict[str, Any] = {
            f"{stage}/misclassified": self._table(pl_module, classes),
            f"{stage}/confusion": confusion(label, predicted, classes),
            f"{stage}/reliability": picture(plot_reliability(calibration)),
        }
        assert self.images is not None
        # Saliency needs gradients of the very network that is trained, not of a compiled one.
        with torch.inference_mode(False), torch.compiler.set_stance("force_eager"):
            return logged | pictures_of(pl_module, self.images.clone(), stage)

    def _table(self, pl_module: pl.LightningModule, classes: Sequence[str]) -> wandb.Table:
        table = wandb.Table(columns=["image", "label", "predicted", "probability", "index"])
        if self.mistakes:
            shown = pixels(to_pixels(torch.stack([image for *_, image in self.mistakes]), pl_module))
            for image, (prob, index, label, predicted, _) in zip(shown, self.mistakes, strict=True):
                table.add_data(wandb.Image(enlarged(image)), classes[label], classes[predicted], prob, index)
        return table


def confusion(label: np.ndarray, predicted: np.ndarray, classes: Sequence[str]) -> Any:
    """Return W&B's chart of the confusion matrix; a picture where the classes are too many for it.

    Args:
        label: (N,) true classes.
        predicted: (N,) predicted classes.
        classes: K names.
    """
    if len(classes) <= _CHART:
        return wandb.plot.confusion_matrix(
            y_true=label.tolist(), preds=predicted.tolist(), class_names=list(classes), title=""
        )
    counts = confusion_matrix(torch.from_numpy(predicted), torch.from_numpy(label), num_classes=len(classes))
    return picture(plot_confusion(counts, classes=classes))


def pictures_of(pl_module: pl.LightningModule, images: Tensor, stage: str) -> dict[str, Any]:
    """Return the pictures that a network has, by their names in W&B.

    Args:
        pl_module: The network with its normalization.
        images: (N, C, H, W), as the model sees them.
        stage: `val` or `test`.
    """

    def over_images(maps: Callable[[Tensor], Tensor], unit: str) -> list[wandb.Image]:
        # One image after another: attention of all layers, heads and tokens takes memory.
        heat = torch.cat([maps(image) for image in images.split(1)]).float().cpu().numpy()
        if unit == _UNIFORM:
            heat = over_uniform(heat)
        return overlays(to_pixels(images, pl_module), heat, unit)

    ways: dict[str, Callable[[], Any]] = {
        f"{stage}/pool_weights": lambda: over_images(partial(pool_weights, pl_module), _UNIFORM),
        f"{stage}/rollout": lambda: over_images(partial(rollout_map, pl_module), _UNIFORM),
        f"{stage}/saliency": lambda: over_images(
            partial(smooth_grad, pl_module, samples=_NOISY), "logits per unit of the normalized pixel"
        ),
        "tokenizer/filters": lambda: picture(plot_filters(tokenizer_filters(pl_module), count=16)),
        "position/similarity": lambda: picture(plot_position_similarity(position_similarity(pl_module), most=4)),
    }
    found: dict[str, Any] = {}
    for name, draw in ways.items():
        with contextlib.suppress(InputError):  # a baseline has no tokens, some models no position embedding
            found[name] = draw()
    return found


def overlays(images: np.ndarray, heat: np.ndarray, unit: str) -> list[wandb.Image]:
    """Return each image beside the same image under its map, from dark (nothing) to yellow (its largest value).

    Args:
        images: (N, C, H, W) uint8.
        heat: (N, h, w), not negative.
        unit: Of the map's values, for the captions.
    """
    pairs = []
    for image, places in zip(pixels(images), heat, strict=True):
        plain = enlarged(image)
        mapped = blend(image, places, top=float(places.max()), size=(plain.height, plain.width))
        caption = f"at most {places.max():.3g} {unit}"
        pairs.append(wandb.Image(np.concatenate([np.asarray(plain), mapped], axis=1), caption=caption))
    return pairs


def enlarged(image: np.ndarray, side: int = 96) -> Image.Image:
    """Return an image (H, W, 3) of at least `side` pixels, so that a browser does not blur it."""
    scale = max(1, -(-side // max(image.shape[:2])))
    return Image.fromarray(np.ascontiguousarray(image)).resize(
        (image.shape[1] * scale, image.shape[0] * scale), Image.Resampling.NEAREST
    )


def picture(figure: Figure) -> wandb.Image:
    """Return a figure as an image for W&B."""
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=80)
    return wandb.Image(Image.open(file))
