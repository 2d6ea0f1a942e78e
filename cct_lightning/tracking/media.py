"""Pictures and tables in W&B: what was mistaken for what, how sure the model is, and every picture of `analysis`.

A new picture is a registered function, see `cct_lightning.analysis.pictures`.

Letters: N images, K classes.
"""

import io
from collections.abc import Sequence
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

from cct_lightning.analysis.calibration import plot_reliability, reliability_of
from cct_lightning.analysis.confusion import confusion_matrix, plot_confusion
from cct_lightning.analysis.overlay import enlarged, overlays, pixels
from cct_lightning.analysis.pictures import PICTURES, Maps, import_pictures
from cct_lightning.data.batch import Batch
from cct_lightning.errors import InputError
from cct_lightning.runs.predictions import LastLogits, columns, to_pixels
from cct_lightning.tracking.shield import ShieldedWandbLogger
from cct_lightning.training.sharding import is_sharded

_MISTAKES = 32  # rows of the table of misclassified images
_CHART = 100  # classes up to which W&B draws the confusion matrix itself
_SAMPLES = 12  # images that pictures are drawn of


class WandbMedia(Callback):
    """Log tables and pictures to W&B, after some validations and after the test.

    `val/misclassified` and `test/misclassified` (a table of images), `.../confusion`, `.../reliability` (calibration),
    and the pictures of `analysis.PICTURES`: `.../pool_weights`, `.../rollout` and `.../saliency` over the images,
    `tokenizer/filters`, `position/similarity`, and your own. What a network lacks (a baseline has no tokens) is left
    out, and so is everything under FSDP, where no device could run the model alone.

    It draws before EMA puts the trained weights back (`on_validation_end`, where a module's own callbacks come last),
    so pictures and accuracy are of the same weights.

    Args:
        every_n_epochs: Epochs between two of them; also after the last one.
        pictures: Import paths of your own pictures.

    Raises:
        InputError: A picture cannot be imported.
    """

    def __init__(self, *, every_n_epochs: int, pictures: Sequence[str] = ()) -> None:
        import_pictures(pictures)
        self.every_n_epochs = every_n_epochs
        self.logits: LastLogits | None = None
        self.failed: set[str] = set()

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Keep logits in the epochs that are logged."""
        epoch = trainer.current_epoch + 1
        if not trainer.sanity_checking and (epoch % self.every_n_epochs == 0 or epoch == trainer.max_epochs):
            self.on_test_start(trainer, pl_module)

    def on_test_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Begin to keep logits."""
        if is_sharded(trainer):
            return
        self.logits = LastLogits(pl_module)
        self.parts: list[tuple[Tensor, ...]] = []  # label, predicted, probability
        self.mistakes: list[tuple[float, int, int, int, Tensor]] = []  # probability, index, label, predicted, image
        self.images: Tensor | None = None

    def on_validation_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Batch, *_: int
    ) -> None:
        """Keep a batch's predictions."""
        if self.logits is None:
            return
        prob, predicted = (part.cpu() for part in self.logits.probabilities().max(-1))
        label = batch.label.cpu()
        self.parts.append((label, predicted, prob))
        if self.images is None:
            self.images = batch.image[:_SAMPLES].clone()
        for place in (predicted != label).nonzero()[: _MISTAKES - len(self.mistakes), 0].tolist():
            row = (float(prob[place]), int(batch.index[place]), int(label[place]), int(predicted[place]))
            self.mistakes.append((*row, batch.image[place].clone()))

    on_test_batch_end = on_validation_batch_end  # type: ignore[assignment]

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Log the pictures of the split that was seen."""
        if self.logits is None:
            return
        stage = "test" if trainer.testing else "val"
        self.logits.close()
        self.logits = None
        seen = columns(self.parts)
        loggers = [one for one in trainer.loggers if isinstance(one, WandbLogger) and not getattr(one, "lost", False)]
        if trainer.is_global_zero and loggers:
            try:
                logged = self._predictions(pl_module, stage, *seen) | self._pictures(pl_module, stage)
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

    on_test_end = on_validation_end

    def _predictions(
        self, pl_module: pl.LightningModule, stage: str, label: np.ndarray, predicted: np.ndarray, prob: np.ndarray
    ) -> dict[str, Any]:
        classes: Sequence[str] = pl_module.classes  # type: ignore[assignment]
        table = wandb.Table(columns=["image", "label", "predicted", "probability", "index"])
        if self.mistakes:
            shown = pixels(to_pixels(torch.stack([image for *_, image in self.mistakes]), pl_module))
            for image, (sure, index, true, wrong, _) in zip(shown, self.mistakes, strict=True):
                table.add_data(wandb.Image(enlarged(image)), classes[true], classes[wrong], sure, index)
        calibration = reliability_of(torch.from_numpy(prob), torch.from_numpy(predicted == label))
        return {
            f"{stage}/misclassified": table,
            f"{stage}/confusion": confusion(label, predicted, classes),
            f"{stage}/reliability": as_image(plot_reliability(calibration)),
        }

    def _pictures(self, pl_module: pl.LightningModule, stage: str) -> dict[str, Any]:
        assert self.images is not None
        found: dict[str, Any] = {}
        # Saliency needs gradients of the network that is trained itself, not of a compiled one.
        with torch.inference_mode(False), torch.compiler.set_stance("force_eager"):
            images = self.images.clone()
            for name, draw in PICTURES.items():
                try:
                    drawn = draw(pl_module, images)
                except InputError:
                    continue  # a baseline has no tokens, some models no position embedding
                except Exception as error:  # no picture is worth a run
                    if name not in self.failed:
                        print(f"The picture {name} is left out ({type(error).__name__}: {error}).", flush=True)
                    self.failed.add(name)
                    continue
                shown = over_images(to_pixels(images, pl_module), drawn) if isinstance(drawn, Maps) else as_image(drawn)
                found[name if "/" in name else f"{stage}/{name}"] = shown
        return found


def confusion(label: np.ndarray, predicted: np.ndarray, classes: Sequence[str]) -> Any:
    """Return W&B's chart of the confusion of true and predicted classes (N,); a picture where K is too many for it."""
    if len(classes) <= _CHART:
        return wandb.plot.confusion_matrix(
            y_true=label.tolist(), preds=predicted.tolist(), class_names=list(classes), title=""
        )
    counts = confusion_matrix(torch.from_numpy(predicted), torch.from_numpy(label), num_classes=len(classes))
    return as_image(plot_confusion(counts, classes=classes))


def over_images(images: np.ndarray, maps: Maps) -> list[wandb.Image]:
    """Return each image (N, C, H, W) uint8 beside the same image under its map, whose largest value is the caption."""
    return [
        wandb.Image(np.concatenate([pair.image, pair.mapped], 1), caption=f"at most {pair.top:.3g} {maps.unit}")
        for pair in overlays(images, maps.values)
    ]


def as_image(figure: Figure) -> wandb.Image:
    """Return a figure as an image for W&B."""
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=80)
    return wandb.Image(Image.open(file))
