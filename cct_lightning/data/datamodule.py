"""ImageDataModule: a data set by name, its splits, its loaders, and what happens to a batch on the device.

The loaders deliver uint8 images; augmentation, normalization and mixing work on the whole batch on the device. B batch,
C channels, H height, W width, K classes.
"""

import warnings
from collections.abc import Sequence
from functools import cached_property
from typing import Any, Literal

import pytorch_lightning as pl
import torch
from torch import Tensor

from cct_lightning.data.arguments import at_least, height_width, per_device_batch_size, seed32, unit_scale
from cct_lightning.data.augment.file_crop import FileCrop, split_policy
from cct_lightning.data.augment.mixup import MixingPolicy
from cct_lightning.data.augment.policies import AugmentPolicy, find_policy
from cct_lightning.data.augment.transform import BatchTransform
from cct_lightning.data.batch import Batch
from cct_lightning.data.classes import are_numbers, new_labels, normal_name
from cct_lightning.data.datasets.sources import source_named
from cct_lightning.data.input_spec import InputSpec
from cct_lightning.data.on_device import ImagesOnDevice
from cct_lightning.data.sampler import (
    Loader,
    accumulation,
    batches_done,
    check_splits,
    is_limited,
    make_loader,
    sampler_kwargs,
)
from cct_lightning.data.split import EVALUATION, Subsets, split_up, stratified_order
from cct_lightning.data.storage.store import Request, StoredImages, open_stored, stored_size_of
from cct_lightning.errors import InputError
from cct_lightning.system.machine import cores


class ImageDataModule(pl.LightningDataModule):
    """Images of one data set, split into training, validation and test.

    `num_classes`, `in_chans`, `img_size`, `classes`, `mean` and `std` can be read right after construction.

    Args:
        name: Data set by name, or by import path. Names: digits, mnist, fashion_mnist, cifar10, cifar100, svhn,
            flowers102, imagenet, folder (any tree ROOT/train/CLASS/*.png, optionally with val and test). An import
            path is that of a `Source` of yours.
        root: Folder of the data set's files. Default: the environment variable CCT_DATA, else ~/.cache/cct_lightning.
        cache_dir: Folder of decoded images. Default: `decoded` below the default root.
        download: Download what is missing in root, where the data set can be downloaded.
        batch_size: Images per device and step.
        global_batch_size: Images per optimizer step, over all devices and accumulated batches. Replaces batch_size.
        img_size: Height and width of the images that the model sees. Default: the data set's own.
        stored_size: Height and width that images of files are cached at. Larger than img_size it leaves room to random
            crops, and evaluation takes the center. Default: img_size; for flowers102 and imagenet 8/7 of it.
        stream: Decode files at every access instead of caching them; random resized crops are then cut from the whole
            image, not from what stored_size keeps of it. Default: true for imagenet.
        val_fraction: Part of the training images held out for validation, stratified by class, drawn by split_seed.
            Not used where the data set brings a validation split; 0 trains on all images and leaves no validation.
        train_split: Images to train on: `train` or `trainval`. `trainval` adds the validation split that flowers102
            or a folder brings; then val_fraction is held out of both together.
        samples_per_class: Train on so many images of each class only, drawn by split_seed; fewer lie within more.
        fraction: Train on this part of the training images only, stratified, drawn by split_seed; 0.1 lies within 0.2.
        augment: Augmentation of training images: the name of a policy, or one built from parts. Default: that of the
            data set.
        mixing: Mixup and cutmix of training batches. Default: none.
        mean: Mean per channel for normalization, 0 to 1. Default: the data set's.
        std: Standard deviation per channel for normalization, 0 to 1. Default: the data set's.
        split_seed: Decides the validation split and the subset; apart from `seed`, so that runs of several seeds share
            them.
        seed: Decides the order of training and every random choice of augmentation and mixing.
        eval_batch_size: Images per device and step in validation, test and prediction. Default: that of training.
        on_device: Keep all images on the device and take batches there; no image and no order changes. Default: on a
            GPU that they take at most a quarter of the free memory of. Not where files are streamed.
        num_workers: Processes that load batches. Default: 0, since a batch is one gather from memory; one per core, at
            most 8, when the set is streamed.

    Raises:
        InputError: An argument is out of range or contradicts another.
    """

    def __init__(
        self,
        *,
        name: str = "digits",
        root: str | None = None,
        cache_dir: str | None = None,
        download: bool = True,
        batch_size: int = 128,
        global_batch_size: int | None = None,
        img_size: int | tuple[int, int] | None = None,
        stored_size: int | tuple[int, int] | None = None,
        stream: bool | None = None,
        val_fraction: float = 0.1,
        train_split: Literal["train", "trainval"] = "train",
        samples_per_class: int | None = None,
        fraction: float | None = None,
        augment: str | AugmentPolicy | None = None,
        mixing: MixingPolicy | None = None,
        mean: list[float] | None = None,
        std: list[float] | None = None,
        split_seed: int = 0,
        seed: int = 0,
        eval_batch_size: int | None = None,
        on_device: bool | None = None,
        num_workers: int | None = None,
    ) -> None:
        super().__init__()
        self.source = source_named(name)
        self.name = name
        self.batch_size = at_least(1, "batch_size", batch_size)
        self.global_batch_size = global_batch_size
        if global_batch_size is not None:
            at_least(1, "global_batch_size", global_batch_size)
        self.eval_batch_size = None if eval_batch_size is None else at_least(1, "eval_batch_size", eval_batch_size)
        self.size_asked = height_width("img_size", img_size) or self.source.size
        self.subsets = Subsets(
            val_fraction=val_fraction,
            train_split=train_split,
            samples_per_class=samples_per_class,
            fraction=fraction,
            seed=seed32("split_seed", split_seed),
        )
        self.policy = find_policy(self.source.augment if augment is None else augment)
        self.mixing = mixing
        for key, values in (("mean", mean), ("std", std)):
            unit_scale(key, values or ())
        self.mean_asked, self.std_asked = mean, std
        self.model_classes: list[str] | None = None  # in a trained model's order, where that is not the data set's
        self.seed = seed32("seed", seed)
        stream = self.source.streamed if stream is None else stream
        self.request = Request(
            source=self.source,
            root=root,
            cache_dir=cache_dir,
            download=download,
            size=stored_size_of(self.source, self.size_asked, height_width("stored_size", stored_size)),
            stream=stream,
        )
        if stream and on_device:
            raise InputError("Streamed files do not lie on a device: leave on_device out, or give stream false.")
        self.on_device = ImagesOnDevice(on_device)
        # A cached batch is one gather from memory, which no other process can do faster; decoding files is work.
        self.num_workers = (min(8, cores()) if stream else 0) if num_workers is None else num_workers
        at_least(0, "num_workers", self.num_workers)

    def __repr__(self) -> str:
        size = "x".join(map(str, self.size_asked)) if self.size_asked else "their own size"  # without reading files
        return f"ImageDataModule({self.name}, {size}, batch_size={self.batch_size}, augment: {self.policy})"

    @cached_property
    def stored(self) -> StoredImages:
        """The whole data set, every split; the first use downloads, decodes and caches it."""
        stored = open_stored(self.request)
        return stored if self.model_classes is None else stored.relabeled(self.model_classes)

    @cached_property
    def index(self) -> dict[str, Tensor]:
        """Which images belong to `train`, `val` and `test`, each (M,) int64."""
        return split_up(self.stored.label.numpy(), self.stored.split.numpy(), self.subsets, self.classes)

    @cached_property
    def transform(self) -> BatchTransform:
        """Augmentation, normalization and mixing of a batch on its device."""
        return BatchTransform(self.input_spec, policy=self._policies[1], mixing=self.mixing, seed=self.seed)

    @property
    def _policies(self) -> tuple[FileCrop | None, AugmentPolicy]:
        """What augmentation does to files that are streamed, and what it does to batches."""
        if not self.request.stream:
            return None, self.policy
        return split_policy(self.policy, size=self.img_size, seed=self.seed)

    @property
    def classes(self) -> list[str]:
        """Names of the classes, in the order of their labels."""
        return list(self.model_classes or map(normal_name, self.source.classes or self.stored.classes))

    @property
    def num_classes(self) -> int:
        """Number of classes K."""
        return len(self.classes)

    @property
    def in_chans(self) -> int:
        """Number of channels C: 1 or 3."""
        return self.source.in_chans or self.stored.in_chans

    @property
    def img_size(self) -> tuple[int, int]:
        """Height and width of the images that the model sees."""
        return self.size_asked or self.stored.size

    @property
    def mean(self) -> tuple[float, ...]:
        """Mean per channel, 0 to 1."""
        return tuple(self.mean_asked or self.source.mean or self.stored.mean)

    @property
    def std(self) -> tuple[float, ...]:
        """Standard deviation per channel, 0 to 1."""
        return tuple(self.std_asked or self.source.std or self.stored.std)

    @property
    def input_spec(self) -> InputSpec:
        """Everything that happens to pixels before the model, training's augmentation apart."""
        of_files = self.source.made_of_images
        return InputSpec(
            in_chans=self.in_chans,
            img_size=self.img_size,
            stored_size=(self.request.size if of_files else self.source.size) or self.stored.size,
            fit="crop" if of_files else "resize",
            mean=self.mean,
            std=self.std,
            classes=tuple(self.classes),
        )

    @property
    def preprocessing(self) -> dict[str, Any]:
        """How image files become the model's pixels, as plain values for `model.preprocessing`."""
        return self.input_spec.preprocessing

    @property
    def has_val(self) -> bool:
        """Whether there is a validation split."""
        return len(self.index["val"]) > 0

    @property
    def has_test(self) -> bool:
        """Whether there is a test split."""
        return len(self.index["test"]) > 0

    def match_classes(self, names: Sequence[str], of: str = "the model") -> None:
        """Label the images as a trained model does, whose classes these are by label; `of` names it in messages.

        Raises:
            InputError: It was trained on other classes.
        """
        labels = new_labels(self.classes, names, of)
        if labels != list(range(len(labels))):
            self.model_classes = list(map(normal_name, names))
            vars(self).pop("stored", None)

    def prepare(self, trainer: pl.Trainer | None = None) -> None:
        """Download, decode, cache and check everything that can go wrong, once on each node.

        May be called any number of times and by several processes at once: one does the work, the others wait. With a
        trainer, the batch size is checked against its devices and accumulation, too.

        Raises:
            InputError: One sentence that says what is wrong and what to do.
        """
        sizes = {split: len(index) for split, index in self.index.items()}
        if not sizes["train"]:
            raise InputError(f"val_fraction leaves no training images of {self.source.title}. Lower it.")
        for name, values in (("mean", self.mean), ("std", self.std)):
            if len(values) != self.in_chans:
                raise InputError(
                    f"data.{name} needs one number for each of {self.in_chans} channels; got {list(values)}."
                )
        devices = sampler_kwargs(trainer)["num_replicas"]
        check_splits(sizes, devices=devices, batch_size=self.local_batch_size(devices, accumulation(trainer)))

    def prepare_data(self) -> None:
        """Call `prepare`; Lightning's hook, once on each node."""
        self.prepare(self.trainer)

    def setup(self, stage: str | None = None) -> None:
        """Open the data on every process; Lightning's hook before each stage (`fit`, `validate`, `test`, `predict`)."""
        names = None if self.trainer is None else self.trainer.lightning_module.hparams.get("classes")
        # Whoever builds a model in Python may name the classes of a data set that only numbers them.
        if isinstance(names, list | tuple) and not are_numbers(self.classes):
            self.match_classes(names)
        self.prepare(self.trainer)
        on_gpu = self.trainer is not None and self.trainer.strategy.root_device.type == "cuda"
        if on_gpu and stage == "fit" and self.trainer.lightning_module.hparams.get("compile"):  # type: ignore[union-attr]
            self.transform.augment.compile_transform()
        if stage in ("test", "predict"):
            self._require_test()
        # Lightning recommends workers for every loader; here a batch is one gather and they would slow it down.
        warnings.filterwarnings("ignore", message=".*does not have many workers which may be a bottleneck.*")

    def local_batch_size(self, devices: int, accumulate: int = 1) -> int:
        """Return the number of images that one of the devices (of all nodes) takes in one step.

        Raises:
            InputError: global_batch_size cannot be divided among the devices and accumulated batches.
        """
        given = self.global_batch_size
        return self.batch_size if given is None else per_device_batch_size(given, devices, accumulate)

    def train_dataloader(self) -> Loader:
        """Return the loader of training batches, shuffled by (seed, epoch); incomplete batches are dropped."""
        return self._loader("train", seed=self.seed)

    def val_dataloader(self) -> Loader | list[Loader]:
        """Return the loader of validation images, each exactly once; an empty list when there are none.

        Under the Trainer's `limit_val_batches` they come in a fixed order whose first batches hold all classes in their
        proportions; test images likewise under `limit_test_batches`.
        """
        return self._loader("val") if self.has_val else []

    def test_dataloader(self) -> Loader:
        """Return the loader of test images, each exactly once."""
        self._require_test()
        return self._loader("test")

    def predict_dataloader(self) -> Loader:
        """Return the loader of test images in the order of the data set."""
        self._require_test()
        return self._loader("predict")

    def transfer_batch_to_device(self, batch: Batch, device: torch.device, dataloader_idx: int) -> Batch:
        """Move images and labels; indices stay on the CPU, where augmentation is drawn: no GPU is waited for."""
        waiting = batch.image.ndim == 2  # for the images that are on the device
        moved = (batch.index if waiting else batch.image, batch.label)
        image, label = super().transfer_batch_to_device(moved, device, dataloader_idx)
        if waiting:
            assert self.stored.image is not None
            image = self.on_device.take(self.stored.image, image)
        return Batch(image, label, batch.index)

    def teardown(self, stage: str) -> None:
        """Free the memory of the images on the device; Lightning's hook after each stage."""
        self.on_device.free()

    def on_exception(self, exception: BaseException) -> None:
        """Free it where a stage fails, too."""
        self.on_device.free()

    def on_after_batch_transfer(self, batch: Batch, dataloader_idx: int = 0) -> Batch:
        """Augment, normalize and mix a training batch on its device; normalize any other. Shapes: `BatchTransform`."""
        trainer, transform = self.trainer, self.transform.on(batch.image.device)
        if trainer is None:
            return transform.eval_batch(batch)
        if trainer.training:
            batch = transform.train_batch(batch, epoch=trainer.current_epoch, step=batches_done(trainer))
        else:
            batch = transform.eval_batch(batch)
        # Lightning converted the batch when it was still uint8; "bf16-true" and "64-true" want it again.
        return batch._replace(image=trainer.precision_plugin.convert_input(batch.image))

    def preview(self, index: int | Sequence[int] | Tensor, epoch: int = 0) -> Tensor:
        """Return images as the model sees them in an epoch of training (from 0), before normalization and mixing.

        `index` is that of a batch, which images of the data set; the result is (B, C, *img_size) uint8.
        """
        chosen = torch.atleast_1d(torch.as_tensor(index, dtype=torch.int64)).cpu()
        n = len(chosen)
        batch = self.stored.dataset(chosen, self._policies[0]).__getitems__(range(epoch * n, epoch * n + n))
        return self.transform.cpu().preview(batch.image, chosen, epoch)

    def _loader(self, stage: str, seed: int | None = None) -> Loader:
        index = self.index["test" if stage == "predict" else stage]
        if stage in ("val", "test") and is_limited(self.trainer, stage):
            # The first batches of a set that is sorted by class would be of the first classes alone.
            label = self.stored.label[index].numpy()
            index = index[torch.from_numpy(stratified_order(label, seed=self.subsets.seed, stream=EVALUATION))]
        size = self.local_batch_size(sampler_kwargs(self.trainer)["num_replicas"], accumulation(self.trainer))
        crop = self._policies[0] if stage == "train" else None
        return make_loader(
            self.stored.dataset(
                index, crop, images_wait=self.on_device.for_loader(stage, self.stored.image, self.trainer)
            ),
            trainer=self.trainer,
            batch_size=size if stage == "train" else self.eval_batch_size or size,
            num_workers=self.num_workers,
            seed=seed,
        )

    def _require_test(self) -> None:
        if not self.has_test:
            raise InputError(f"There is no test split in {self.request.root}. Add test/CLASS/*.png to test on.")

    def __getstate__(self) -> dict[str, Any]:
        # Spawned processes map the cache themselves; they must not be sent a copy of every image.
        return {key: value for key, value in vars(self).items() if key not in ("stored", "index", "transform")}
