"""ImageDataModule: a data set by name, its splits, its loaders, and what happens to a batch on the device.

The loaders deliver uint8 images; augmentation, normalization and mixing work on the whole batch on the device. B batch,
C channels, H height, W width, K classes.
"""

import warnings
from collections.abc import Sequence
from functools import cached_property
from typing import Literal

import pytorch_lightning as pl
import torch
from pytorch_lightning.overrides.distributed import UnrepeatedDistributedSampler
from torch import Tensor
from torch.utils.data import DistributedSampler

from cct_lightning.data.augment import Augment
from cct_lightning.data.dataset import Batch, TensorDataset, whole
from cct_lightning.data.loader import EpochSampler, Loader
from cct_lightning.data.mixing import Mixing, MixingPolicy
from cct_lightning.data.policies import AugmentPolicy, find_policy
from cct_lightning.data.resize import cover
from cct_lightning.data.sources import source_named
from cct_lightning.data.split import Subsets, split_up
from cct_lightning.data.store import Stored, open_stored
from cct_lightning.errors import InputError


class ImageDataModule(pl.LightningDataModule):
    """Images of one data set, split into training, validation and test.

    `num_classes`, `in_chans`, `img_size`, `classes`, `mean` and `std` can be read right after construction.

    Args:
        name: Data set: digits, mnist, cifar10, cifar100, or folder (any tree ROOT/train/CLASS/*.png).
        root: Folder of the data set's files. Default: the environment variable CCT_DATA, else ~/.cache/cct_lightning.
        cache_dir: Folder of decoded images. Default: `decoded` below the default root.
        download: Download what is missing in root, where the data set can be downloaded.
        batch_size: Images per device and step.
        global_batch_size: Images per optimizer step over all devices and accumulated batches. Replaces batch_size.
        img_size: Height and width of the images that the model sees. Default: the data set's own.
        val_fraction: Part of the training images held out for validation, stratified by class, drawn by split_seed.
            Not used where the data set brings a validation split; 0 trains on all images and leaves no validation.
        train_split: `train`, or `trainval` to train on a validation split that the data set brings, too.
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
        num_workers: Processes that load batches. A batch is one gather from memory, so 0 is usually fastest.

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
        num_workers: int = 0,
    ) -> None:
        super().__init__()
        self.source = source_named(name)
        self.name = name
        self.root, self.cache_dir, self.download = root, cache_dir, download
        self.batch_size = _at_least(1, "batch_size", batch_size)
        self.global_batch_size = global_batch_size
        if global_batch_size is not None:
            _at_least(1, "global_batch_size", global_batch_size)
        self.size_asked = _size(img_size)
        self.subsets = Subsets(
            val_fraction=val_fraction,
            train_split=train_split,
            samples_per_class=samples_per_class,
            fraction=fraction,
            seed=_seed("split_seed", split_seed),
        )
        self.policy = find_policy(self.source.augment if augment is None else augment)
        self.mixing = mixing
        self.mean_asked, self.std_asked = mean, std
        self.seed = _seed("seed", seed)
        self.num_workers = _at_least(0, "num_workers", num_workers)

    @cached_property
    def stored(self) -> Stored:
        """The whole data set, every split; the first use downloads, decodes and caches it."""
        size = self.size_asked or self.source.size
        return open_stored(self.source, root=self.root, size=size, cache_dir=self.cache_dir, download=self.download)

    @cached_property
    def index(self) -> dict[str, Tensor]:
        """Which images belong to `train`, `val` and `test`, each (M,) int64."""
        pool = self.stored.pool
        return split_up(pool.label.numpy(), pool.split.numpy(), self.subsets, self.classes)

    @property
    def classes(self) -> list[str]:
        """Names of the classes, in the order of their labels."""
        return list(self.source.classes or self.stored.classes)

    @property
    def num_classes(self) -> int:
        """Number of classes K."""
        return len(self.classes)

    @property
    def in_chans(self) -> int:
        """Number of channels C: 1 or 3."""
        return self.source.in_chans or self.stored.pool.image.shape[1]

    @property
    def img_size(self) -> tuple[int, int]:
        """Height and width of the images that the model sees."""
        height, width = self.size_asked or self.source.size or self.stored.pool.image.shape[2:]
        return height, width

    @property
    def mean(self) -> tuple[float, ...]:
        """Mean per channel, 0 to 1."""
        return tuple(self.mean_asked or self.source.mean or self.stored.pool.mean)

    @property
    def std(self) -> tuple[float, ...]:
        """Standard deviation per channel, 0 to 1."""
        return tuple(self.std_asked or self.source.std or self.stored.pool.std)

    @cached_property
    def augmentation(self) -> Augment:
        """The module that augments and normalizes a batch."""
        return Augment(self.policy, size=self.img_size, mean=self.mean, std=self.std, seed=self.seed)

    @cached_property
    def mixer(self) -> Mixing | None:
        """The module that mixes a batch, when mixing is on."""
        return None if self.mixing is None else Mixing(self.mixing, num_classes=self.num_classes, seed=self.seed)

    def prepare(self, trainer: pl.Trainer | None = None) -> None:
        """Download, decode, cache and check everything that can go wrong, once on each node.

        May be called any number of times and by several processes at once: one does the work, the others wait.

        Args:
            trainer: When given, the batch size is checked against its devices and accumulation, too.

        Raises:
            InputError: One sentence that says what is wrong and what to do.
        """
        sizes = {split: len(index) for split, index in self.index.items()}
        if sizes["train"] == 0:
            raise InputError(f"val_fraction leaves no training images of {self.source.title}. Lower it.")
        self._check_statistic("mean", self.mean)
        self._check_statistic("std", self.std)
        devices, accumulate = (1, 1) if trainer is None else (trainer.world_size, trainer.accumulate_grad_batches)
        step = self.local_batch_size(devices, accumulate) * devices
        if step > sizes["train"]:
            raise InputError(
                f"A batch of {step} images is larger than the training set ({sizes['train']} images). "
                f"Lower batch_size to {sizes['train'] // devices} or less."
            )
        for split in ("val", "test"):
            if 0 < sizes[split] < devices:
                raise InputError(f"The {split} split has {sizes[split]} images, fewer than the {devices} devices.")

    def prepare_data(self) -> None:
        """Call `prepare`; Lightning's hook, once on each node."""
        self.prepare(self.trainer)

    def setup(self, stage: str | None = None) -> None:
        """Open the data on every process; Lightning's hook.

        Args:
            stage: `fit`, `validate`, `test`, `predict`, or None for all.
        """
        self.prepare(self.trainer)
        if stage in ("test", "predict"):
            self._require_test()
        # Lightning recommends workers for every loader; here a batch is one gather and they would slow it down.
        warnings.filterwarnings("ignore", message=".*does not have many workers which may be a bottleneck.*")

    @property
    def has_val(self) -> bool:
        """Whether there is a validation split."""
        return len(self.index["val"]) > 0

    @property
    def has_test(self) -> bool:
        """Whether there is a test split."""
        return len(self.index["test"]) > 0

    def local_batch_size(self, devices: int, accumulate: int = 1) -> int:
        """Return the number of images that one device takes in one step.

        Args:
            devices: Number of devices of all nodes.
            accumulate: Batches that are accumulated before an optimizer step.

        Raises:
            InputError: global_batch_size cannot be divided so.
        """
        if self.global_batch_size is None:
            return self.batch_size
        local, rest = divmod(self.global_batch_size, devices * accumulate)
        if rest or local == 0:
            raise InputError(
                f"global_batch_size {self.global_batch_size} cannot be divided by {devices} devices x "
                f"{accumulate} accumulated batches. Choose a multiple of {devices * accumulate}."
            )
        return local

    def train_dataloader(self) -> Loader:
        """Return the loader of training batches, shuffled by (seed, epoch); incomplete batches are dropped."""
        dataset = self._dataset("train")
        sampler = EpochSampler(
            dataset,
            **self._replicas(),
            seed=self.seed,
            batch_size=self._local_batch_size(),
            batches_done=self._batches_done,
        )
        return self._loader(dataset, sampler, drop_last=True)

    def val_dataloader(self) -> Loader | list[Loader]:
        """Return the loader of validation images, each exactly once; an empty list when val_fraction is 0."""
        return self._evaluation("val") if len(self.index["val"]) else []

    def test_dataloader(self) -> Loader:
        """Return the loader of test images, each exactly once."""
        self._require_test()
        return self._evaluation("test")

    def predict_dataloader(self) -> Loader:
        """Return the loader of test images, each exactly once."""
        return self.test_dataloader()

    def on_after_batch_transfer(self, batch: Batch, dataloader_idx: int = 0) -> Batch:
        """Augment, normalize and mix a training batch on its device; normalize any other.

        Args:
            batch: uint8 images (B, C, H, W), labels (B,), indices (B,).
            dataloader_idx: Not used.

        Returns:
            Normalized float images; labels (B,), or (B, K) where they are mixed; indices.
        """
        trainer = self.trainer
        training = trainer is not None and trainer.training
        augmentation = self.augmentation.to(batch.image.device)
        label = batch.label
        with torch.no_grad():
            image = cover(batch.image, self.img_size)
            if training:
                assert trainer is not None
                epoch = trainer.current_epoch
                image = augmentation(image, batch.index, epoch)
                if self.mixer is not None:
                    image, label = self.mixer(
                        image, label, epoch, trainer.fit_loop.epoch_loop.batch_progress.current.ready
                    )
            else:
                image = augmentation.normalize(image)
            if trainer is not None:
                # Lightning converted the batch when it was still uint8; "bf16-true" and "64-true" want it again.
                image = trainer.precision_plugin.convert_input(image)
        return Batch(image, label, batch.index)

    def preview(self, index: int | Sequence[int] | Tensor, epoch: int = 0) -> Tensor:
        """Return training images as the model would see them in an epoch, before normalization.

        Args:
            index: `index` of a batch: which images of the data set.
            epoch: The epoch.

        Returns:
            (B, C, H, W) uint8.
        """
        index = torch.atleast_1d(torch.as_tensor(index, dtype=torch.int64))
        return self.augmentation.cpu().preview(cover(self.stored.pool.image[index], self.img_size), index, epoch)

    def _dataset(self, split: str) -> TensorDataset:
        pool = self.stored.pool
        return TensorDataset(image=pool.image, label=pool.label, index=self.index[split])

    def _evaluation(self, split: str) -> Loader:
        # Lightning's own sampler for evaluation repeats images to even out the devices, which changes the accuracy.
        dataset = self._dataset(split)
        return self._loader(dataset, UnrepeatedDistributedSampler(dataset, shuffle=False, **self._replicas()))

    def _loader(self, dataset: TensorDataset, sampler: DistributedSampler, *, drop_last: bool = False) -> Loader:
        trainer = self.trainer
        return Loader(
            dataset,
            batch_size=self._local_batch_size(),
            sampler=sampler,
            drop_last=drop_last,
            collate_fn=whole,
            num_workers=self.num_workers,
            persistent_workers=self.num_workers > 0,
            pin_memory=trainer is not None and trainer.strategy.root_device.type == "cuda",
            generator=torch.Generator(),  # its own: making an iterator must not draw from the global stream
        )

    def _replicas(self) -> dict[str, int]:
        """Return how many processes share the data and which this is; parallel strategies know best."""
        shared = None if self.trainer is None else self.trainer.distributed_sampler_kwargs
        return {key: (shared or {"num_replicas": 1, "rank": 0})[key] for key in ("num_replicas", "rank")}

    def _local_batch_size(self) -> int:
        accumulate = 1 if self.trainer is None else self.trainer.accumulate_grad_batches
        return self.local_batch_size(self._replicas()["num_replicas"], accumulate)

    def _batches_done(self) -> int:
        trainer = self.trainer
        if trainer is None or not trainer.training:
            return 0
        return trainer.fit_loop.epoch_loop.batch_progress.current.ready

    def _require_test(self) -> None:
        if not self.has_test:
            raise InputError(f"There is no test split in {self.root}. Add test/CLASS/*.png to test on.")

    def _check_statistic(self, name: str, values: Sequence[float]) -> None:
        if len(values) != self.in_chans or (name == "std" and min(values) <= 0):
            raise InputError(f"{name} needs one positive number for each of {self.in_chans} channels; got {values}.")


def _at_least(least: int, name: str, value: int) -> int:
    if value < least:
        raise InputError(f"{name} must be at least {least}; got {value}.")
    return value


def _seed(name: str, value: int) -> int:
    if not 0 <= value < 2**32:
        raise InputError(f"{name} is a whole number from 0 to 4294967295; got {value}.")
    return value


def _size(size: int | tuple[int, int] | None) -> tuple[int, int] | None:
    if size is None:
        return None
    height, width = (size, size) if isinstance(size, int) else size
    if min(height, width) < 1:
        raise InputError(f"img_size must be at least 1 pixel; got {size}.")
    return height, width
