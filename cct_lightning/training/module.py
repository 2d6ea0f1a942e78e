"""`Classifier`: the LightningModule that trains any model of the project on batches of images and labels.

Letters: B batch, C channels, (H, W) image, K classes.
"""

import dataclasses
import functools
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.core.saving import CHECKPOINT_PAST_HPARAMS_KEYS
from pytorch_lightning.trainer.states import TrainerFn
from pytorch_lightning.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn
from torch.distributed.fsdp import FullyShardedDataParallel
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR
from torchmetrics.classification import MulticlassAccuracy
from typing_extensions import Unpack

from cct_lightning.compat import is_compiled, trainer_of
from cct_lightning.data.batch import Batch
from cct_lightning.errors import InputError
from cct_lightning.models.compact import CompactTransformer
from cct_lightning.models.factory import create_model
from cct_lightning.models.parts import Parts, PartSpec, import_paths, plain_spec
from cct_lightning.models.weights.hub import is_reference
from cct_lightning.models.weights.pretrained import find_weights
from cct_lightning.models.weights.reader import read_checkpoint
from cct_lightning.system.importing import check_imports
from cct_lightning.training.callbacks.ema import EMA
from cct_lightning.training.callbacks.freeze import FreezeBackbone
from cct_lightning.training.checks import check_described, check_fits
from cct_lightning.training.head import match_head
from cct_lightning.training.loss import MeanLoss, build_loss
from cct_lightning.training.optim import Optim
from cct_lightning.training.optim.finetune import FineTune
from cct_lightning.training.optim.optimizers import build_optimizer
from cct_lightning.training.optim.schedule import apply_options, build_schedule, run_length, time_share
from cct_lightning.training.sharding import is_sharded, remember_shapes

TRAIN_METRICS = ("train_loss", "train_acc")  # means over an epoch of training, logged as train/loss and train/acc


class Classifier(pl.LightningModule):
    """A model, its loss, its metrics and its optimization.

    Example:
        >>> model = Classifier(arch="cct_7_3x1", pool="class_token", num_classes=100)

    Args:
        arch: Name of the model: `cct_LAYERS_KERNELxBLOCKS`, `cvt_LAYERS_PATCH` or `vit_LAYERS_PATCH`; `cct models`
            lists the published ones. Or the import path of a model of yours, with class_path and init_args where it
            takes arguments.
        pretrained: Weights to start from: true for the published ones of that name, the path of a checkpoint of
            `cct fit`, of a published `.pth` or of a `.safetensors` file, or a tag such as `cifar10_300epochs`.
        img_size: (H, W) of the images in pixels. The data decides it on the command line.
        in_chans: Channels of the images. The data decides it on the command line.
        num_classes: Classes K. The data decides it on the command line.
        classes: Names of the classes, kept in checkpoints for predictions. From the data on the command line.
        mean: Mean of each channel (0 to 1) that the images were normalized with; kept in checkpoints.
        std: Standard deviation of each channel; kept in checkpoints.
        preprocessing: How image files become the model's pixels (`InputSpec.preprocessing`: stored size, crop or
            resize, interpolation); kept in checkpoints. From the data on the command line.
        loss: What is trained for: `cross_entropy`, `bce` (K independent decisions), or the import path of a
            `torch.nn.Module` that maps logits (B, K) and labels (B,) or soft targets (B, K) to a scalar; class_path and
            init_args where it takes arguments. Validation and test report the cross-entropy.
        label_smoothing: Share of the target spread over all classes, in training, by `cross_entropy` and `bce`.
        optim: Optimizer and schedule.
        finetune: How the learning rate differs within a model that starts from trained weights.
        ema_decay: Decay of an average of the weights over the steps (0.9998 remembers about 5,000 steps), which is
            validated, kept and tested in place of the weights; null for none.
        compile: Compile the network with torch.compile, on a GPU the augmentation, too: faster there after minutes of
            compilation.
        **parts: Parts that differ from those of the name.

    Raises:
        InputError: An unknown model, parts that do not fit, or an option out of its range.
    """

    def __init__(
        self,
        *,
        arch: PartSpec = "cct_7_3x1",
        pretrained: bool | str | None = None,
        img_size: tuple[int, int] = (32, 32),
        in_chans: int = 3,
        num_classes: int = 10,
        classes: Sequence[str] | None = None,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
        preprocessing: dict[str, Any] | None = None,
        loss: PartSpec = "cross_entropy",
        label_smoothing: float = 0.1,
        optim: Optim = Optim(),  # noqa: B008 - frozen
        finetune: FineTune = FineTune(),  # noqa: B008 - frozen
        ema_decay: float | None = None,
        compile: bool = False,
        **parts: Unpack[Parts],
    ) -> None:
        super().__init__()
        if not 0 <= label_smoothing < 1:
            raise InputError(f"label_smoothing is {label_smoothing}: it must be at least 0 and below 1.")
        if num_classes < 2:
            raise InputError(f"num_classes is {num_classes}: a classifier needs at least 2 classes.")
        # A checkpoint holds these as plain dicts, so that it loads with weights_only=True.
        self.optim = Optim(**optim) if isinstance(optim, dict) else optim
        self.finetune = FineTune(**finetune) if isinstance(finetune, dict) else finetune
        self.loss = build_loss(loss, label_smoothing=label_smoothing)
        self.ema_decay, self.compile_net = ema_decay, compile
        self.parts = {key: value for key, value in parts.items() if value is not None}
        classes = list(classes) if classes is not None else [str(k) for k in range(num_classes)]
        if is_reference(arch):
            raise InputError(f"{arch} is no architecture: give its architecture as arch, and pretrained={arch}.")
        stored = find_weights(arch, pretrained) if pretrained else None
        self.net = create_model(
            arch, pretrained=stored, img_size=img_size, in_chans=in_chans, num_classes=num_classes, **parts
        )
        if stored is not None:
            match_head(self.net, stored, classes)
        if isinstance(self.net, CompactTransformer):
            # Own parts in one form; the position embedding that the weights hold, whatever the name says.
            names = {*self.parts, "position"} if pretrained else {*self.parts}
            self.parts = {key: value for key, value in vars(self.net.arch).items() if key in names}
        model = {"arch": plain_spec("arch", arch), "img_size": list(img_size), "in_chans": in_chans}
        labels = {"num_classes": num_classes, "classes": classes}
        pixels = {"mean": list(mean) if mean is not None else None, "std": list(std) if std is not None else None}
        objective = {"loss": plain_spec("loss", loss), "label_smoothing": label_smoothing}
        rates = {"optim": dataclasses.asdict(self.optim), "finetune": dataclasses.asdict(self.finetune)}
        more = {"preprocessing": preprocessing, "ema_decay": ema_decay, "compile": compile}
        self.save_hyperparameters(
            {**model, **labels, **pixels, **objective, **rates, **more, **self.parts}, logger=False
        )
        self._options: list[dict[str, Any]] = []  # of the optimizer's groups, but for parameters and the rate now
        self.train_loss, self.train_acc = MeanLoss(), MeanLoss()
        # One set of metrics for each stage: Lightning resets and reduces them by itself.
        accuracy = functools.partial(MulticlassAccuracy, num_classes, average="micro")
        for stage in ("val", "test"):
            metrics = {"loss": MeanLoss(), "acc": accuracy(), "acc5": accuracy(top_k=min(5, num_classes))}
            setattr(self, f"{stage}_metrics", nn.ModuleDict(metrics))

    @property
    def classes(self) -> list[str]:
        """Names of the classes, by label."""
        return list(self.hparams["classes"])

    @classmethod
    def load(cls, path: str | Path, *, map_location: str = "cpu", allow_import: Iterable[str] = ()) -> "Classifier":
        """Load `best.ckpt`, `last.ckpt` or any other checkpoint of `cct fit` in evaluation mode, onto a device.

        Args:
            path: The file.
            map_location: The device.
            allow_import: Import paths of your own model, parts, loss or optimizer that the checkpoint may name.

        Raises:
            InputError: No such file; damaged; of something else; NaN; one that would run code, or fill the memory.
        """
        _check_imports(path, {}, allow_import)
        return super().load_from_checkpoint(path, map_location=map_location, weights_only=True).eval()

    @classmethod
    def load_from_checkpoint(
        cls,
        checkpoint_path: Any,
        map_location: Any = None,
        hparams_file: Any = None,
        strict: bool | None = None,
        weights_only: bool | None = True,
        **options: Any,
    ) -> "Classifier":
        """Load a checkpoint as Lightning does, with `options` in place of what it holds; `load` is the usual way.

        Raises:
            InputError: See `load`; it names a class of your own that `options` do not repeat.
        """
        if hparams_file is not None:
            raise InputError(f"Hyperparameters in a file ({hparams_file}) are not read: give them by name.")
        _check_imports(checkpoint_path, options, ())
        model = super().load_from_checkpoint(
            checkpoint_path, map_location, hparams_file, strict, weights_only=True, **options
        )
        # Lightning has put `options` in place of what the checkpoint says, before it was compared with the model.
        check_described(model, read_checkpoint(Path(checkpoint_path)))
        return model

    def forward(self, images: Tensor) -> Tensor:
        """Map normalized images (B, C, H, W) to logits (B, K)."""
        return self.net(images)

    def configure_model(self) -> None:
        """Compile in place, so that checkpoints keep their names; note shapes, before a strategy cuts weights.

        One static graph for training: a last, smaller batch of the sanity check would otherwise make it dynamic.
        """
        remember_shapes(self.net)
        if self.compile_net and not is_compiled(self.net):
            self.net.compile(dynamic=False)

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Return the loss of a batch; labels (B,) or soft targets (B, K)."""
        logits = self(batch.image)
        loss: Tensor = self.loss(logits, batch.label)
        self.train_loss.update(loss.detach(), weight=len(logits))
        # Of the labels before mixing, so that recipes with and without it have comparable curves.
        right = logits.detach().argmax(-1) == (batch.label if batch.unmixed is None else batch.unmixed)
        self.train_acc.update(right.float().mean(), weight=len(logits))
        for name in TRAIN_METRICS:
            self.log(name.replace("_", "/"), getattr(self, name), on_step=False, on_epoch=True)
        self.log("train/loss_step", loss, prog_bar=True)
        return loss

    def on_train_start(self) -> None:
        """Go on with the learning rate, decay and schedule of this run, where a checkpoint brought others."""
        optimizer, schedule = self.optimizers(use_pl_optimizer=False), self.lr_schedulers()
        if not self._options or not isinstance(optimizer, Optimizer) or not isinstance(schedule, LambdaLR):
            return  # a class of the user's own
        changed = apply_options(optimizer, schedule, self._options)
        if changed and self.trainer.is_global_zero:
            print(f"Continuing with {changed}.", flush=True)

    def on_train_epoch_end(self) -> None:
        """Log loss and accuracy of an epoch of which a continued run had only the validation left."""
        for name in TRAIN_METRICS:
            metric, key = getattr(self, name), name.replace("_", "/")
            if key not in self.trainer.callback_metrics and metric.update_called:
                self.log(key, metric)

    def _evaluate(self, stage: str, batch: Batch) -> None:
        logits, metrics = self(batch.image).float(), getattr(self, f"{stage}_metrics")
        # Every image weighs the same, however uneven the batches and ranks are.
        metrics["loss"].update(nn.functional.cross_entropy(logits, batch.label), weight=len(logits))
        metrics["acc"].update(logits, batch.label)
        metrics["acc5"].update(logits, batch.label)
        for name, metric in metrics.items():
            self.log(f"{stage}/{name}", metric, prog_bar=name == "acc")

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Update accuracy and loss of the validation split."""
        self._evaluate("val", batch)

    def test_step(self, batch: Batch, batch_idx: int) -> None:
        """Update accuracy and loss of the test split."""
        self._evaluate("test", batch)

    def predict_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Return the probabilities (B, K) of a batch."""
        return self(batch.image).float().softmax(-1)

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """Build the optimizer and a schedule that advances with every optimizer step."""
        steps, steps_per_epoch = run_length(self.trainer)
        optim = self.optim.for_a_trial() if self.trainer.fast_dev_run else self.optim  # type: ignore[attr-defined]
        optimizer = build_optimizer(self.net, optim, global_batch_size=self.global_batch_size, finetune=self.finetune)
        schedule = build_schedule(
            optimizer, optim, steps=steps, steps_per_epoch=steps_per_epoch, time_share=time_share(self.trainer)
        )
        self._options = [
            {key: group[key] for key in group.keys() - {"params", "lr"}} for group in optimizer.param_groups
        ]
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def configure_callbacks(self) -> list[pl.Callback]:
        """Freeze the backbone where `finetune` says so, average the weights where `ema_decay` does."""
        freeze = [FreezeBackbone()] if self.finetune.freeze_backbone else []
        return [*freeze, *([EMA(decay=self.ema_decay)] if self.ema_decay is not None else [])]

    def configure_gradient_clipping(
        self, optimizer: Optimizer, gradient_clip_val: float | None = None, gradient_clip_algorithm: str | None = None
    ) -> None:
        """Clip as Lightning does, and by the norm of all devices' pieces under FSDP, which Lightning leaves out."""
        root = self.trainer.strategy.model
        if isinstance(root, FullyShardedDataParallel) and gradient_clip_val and gradient_clip_algorithm != "value":
            root.clip_grad_norm_(gradient_clip_val)
        else:
            self.clip_gradients(optimizer, gradient_clip_val, gradient_clip_algorithm)

    @property
    def global_batch_size(self) -> int:
        """Images of one optimizer step, over all devices and accumulated batches."""
        data: Any = getattr(self.trainer, "datamodule", None)
        devices, accumulate = self.trainer.world_size, self.trainer.accumulate_grad_batches
        local = data.local_batch_size(devices, accumulate) if data is not None else 1
        return local * devices * accumulate

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep the epoch's mean loss and accuracy so far, of all devices."""
        for name in TRAIN_METRICS:
            total, weight = self.trainer.strategy.reduce(getattr(self, name).sums(), reduce_op="sum").tolist()
            checkpoint[name] = {"total": total, "weight": weight}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Check that the weights fit, and continue the means of an epoch that was interrupted."""
        trainer = trainer_of(self)
        if trainer is None or not is_sharded(trainer):
            check_fits(self, checkpoint)  # pieces have been loaded already
        for name in TRAIN_METRICS:
            kept = checkpoint.get(name)  # version 0.1 kept no accuracy
            if kept and kept["weight"] and trainer is not None and trainer.state.fn == TrainerFn.FITTING:
                # The first process continues with the sum of all, the others with nothing.
                getattr(self, name).restore(**(kept if trainer.is_global_zero else {"total": 0.0, "weight": 0.0}))


def _check_imports(path: str | Path, options: Mapping[str, Any], allow: Iterable[str]) -> None:
    """Check the code that Lightning's loading would import: named in a checkpoint, and not replaced by `options`."""
    content = read_checkpoint(Path(path))  # Lightning's errors are no sentences
    if content.get("hparams_name") not in (None, "kwargs"):
        # Lightning would give all hyperparameters to that one argument, whatever their names.
        raise InputError(f"{path} is no checkpoint of `cct fit`: its hyperparameters are those of one argument.")
    for key in (*CHECKPOINT_PAST_HPARAMS_KEYS, "hyper_parameters"):  # all of which Lightning takes
        hparams = content.get(key) or {}
        named = import_paths({k: v for k, v in hparams.items() if k not in options})
        # With this one of LightningCLI's, its parser would build the module, and import more.
        named += [str(hparams[k]) for k in ("_instantiator",) if k in hparams]
        check_imports(named, Path(path), allow)
