"""Pictures of a run: what was mistaken for what, how sure the model is, and every picture of `analysis`.

A new picture is a registered function, see `cct_lightning.analysis.pictures`. How W&B shows them is in
`wandb_media.py`, how other loggers do in `figure_loggers.py`.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from matplotlib.figure import Figure
from pytorch_lightning.callbacks import Callback
from pytorch_lightning.loggers import WandbLogger
from torch import Tensor

from cct_lightning.analysis.pictures import PICTURES, Maps, import_pictures
from cct_lightning.data.batch import Batch
from cct_lightning.errors import InputError
from cct_lightning.runs.metrics import logged_row
from cct_lightning.runs.predictions import LastLogits, columns, to_pixels
from cct_lightning.tracking.figure_loggers import FigureLogger, figures
from cct_lightning.tracking.seen import Mistakes, Seen
from cct_lightning.tracking.shield import ShieldedWandbLogger
from cct_lightning.training.sharding import is_sharded

_MISTAKES = 32  # rows of the table of misclassified images
_SAMPLES = 12  # images that pictures are drawn of


class Media(Callback):
    """Log tables and pictures to W&B, TensorBoard and MLflow, after some validations and after the test.

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
        predictions = columns(self.parts)  # from all processes: each of them has to call it
        of_wandb = [one for one in trainer.loggers if isinstance(one, WandbLogger) and not getattr(one, "lost", False)]
        others = [one for one in trainer.loggers if isinstance(one, FigureLogger)]
        if trainer.is_global_zero and (of_wandb or others):
            seen = self._seen(pl_module, stage, predictions)
            for name, figure in figures(seen).items() if others else ():
                for other in others:
                    other.log_figure(name, figure, trainer.global_step)
            try:
                logged = _for_wandb(seen) if of_wandb else {}
            except OSError as error:
                # W&B keeps pictures in the system's temporary folder, which may be full.
                for logger in of_wandb:
                    if isinstance(logger, ShieldedWandbLogger):
                        logger.lose(error)
            else:
                logged = logged_row({**logged, "epoch": trainer.current_epoch})
                logged["trainer/global_step"] = trainer.global_step
                for logger in of_wandb:
                    logger.experiment.log(dict(logged))
        self.mistakes, self.images, self.parts = [], None, []

    on_test_end = on_validation_end

    def _seen(self, pl_module: pl.LightningModule, stage: str, predictions: list[np.ndarray]) -> Seen:
        label, predicted, prob = predictions
        mistakes = None
        if self.mistakes:
            sure, index, true, wrong, images = zip(*self.mistakes, strict=True)
            mistakes = Mistakes(to_pixels(torch.stack(images), pl_module), true, wrong, sure, index)
        assert self.images is not None
        return Seen(
            stage=stage,
            classes=pl_module.classes,  # type: ignore[arg-type]
            label=label,
            predicted=predicted,
            prob=prob,
            mistakes=mistakes,
            images=to_pixels(self.images, pl_module),
            drawn=self._pictures(pl_module, stage),
        )

    def _pictures(self, pl_module: pl.LightningModule, stage: str) -> dict[str, Figure | Maps]:
        assert self.images is not None
        found: dict[str, Figure | Maps] = {}
        # Saliency needs gradients of the network that is trained itself, not of a compiled one.
        with torch.inference_mode(False), torch.compiler.set_stance("force_eager"):
            images = self.images.clone()
            for name, draw in PICTURES.items():
                try:
                    found[name if "/" in name else f"{stage}/{name}"] = draw(pl_module, images)
                except InputError:
                    continue  # a baseline has no tokens, some models no position embedding
                except Exception as error:  # no picture is worth a run
                    if name not in self.failed:
                        print(f"The picture {name} is left out ({type(error).__name__}: {error}).", flush=True)
                    self.failed.add(name)
        return found


def _for_wandb(seen: Seen) -> dict[str, Any]:
    from cct_lightning.tracking.wandb_media import wandb_media  # which imports wandb

    return wandb_media(seen)
