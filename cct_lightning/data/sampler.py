"""Loaders and their order: training's is a pure function of (seed, epoch), also after a resume in mid-epoch.

Lightning leaves a DistributedSampler alone and sets its epoch. Rank r of R takes positions r, r + R, ... of one order,
so the R local batches of a step are together the batch that one process would have taken.
"""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from pytorch_lightning.overrides.distributed import UnrepeatedDistributedSampler
from torch.utils.data import DataLoader, Dataset, DistributedSampler, default_convert

from cct_lightning.data.batch import Batch, ImageDataset
from cct_lightning.errors import InputError


class EpochSampler(DistributedSampler):
    """A DistributedSampler, here of `num_replicas` processes of which this is `rank`, that can begin in mid-epoch.

    Args:
        dataset: Only its length counts.
        seed: Seed of the order, mixed with the epoch.
        batch_size: Samples that one process takes in a step.
        batches_done: Returns, when the first batch of an epoch is asked for, how many of its batches a resumed run
            has already seen. Called that late because Lightning builds the loader before it restores its progress.
    """

    def __init__(
        self,
        dataset: Dataset[Batch],
        *,
        num_replicas: int,
        rank: int,
        seed: int,
        batch_size: int,
        batches_done: Callable[[], int],
    ) -> None:
        super().__init__(dataset, num_replicas=num_replicas, rank=rank, seed=seed, drop_last=True)
        self.batch_size, self.batches_done = batch_size, batches_done

    def __iter__(self) -> Iterator[int]:
        # Mixed, not added: seed + epoch would give epoch 1 of seed 0 the order of epoch 0 of seed 1.
        mixed = int(np.random.SeedSequence((self.seed, self.epoch)).generate_state(1, np.uint64)[0] >> np.uint64(1))
        generator = torch.Generator().manual_seed(mixed)
        order = torch.randperm(len(self.dataset), generator=generator)  # type: ignore[arg-type]
        mine = order[: self.total_size][self.rank :: self.num_replicas]
        # The epoch goes with each position, since what is cut out of a file depends on it and workers do not know it.
        left = mine[self.batches_done() * self.batch_size :] + self.epoch * len(self.dataset)  # type: ignore[arg-type]
        return iter(left.tolist())


class Loader(DataLoader[Batch]):
    """A DataLoader whose workers begin when the first batch is asked for, not when the iterator is made.

    Lightning makes the iterator before it sets the epoch and restores its progress; workers that prefetch would take
    the order of another epoch. The state is empty: the position follows from the trainer's progress, which a
    checkpoint holds.
    """

    def __iter__(self) -> Iterator[Batch]:  # type: ignore[override]
        try:
            yield from super().__iter__()
        except InputError as error:
            # From a worker it comes wrapped in that worker's traceback, with its own sentence at the end.
            raise InputError(str(error).rsplit("InputError: ", 1)[-1].strip()) from error

    def state_dict(self) -> dict[str, Any]:
        """Return nothing; by having this method a loader says to Lightning that a resume in mid-epoch is exact."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take nothing."""


def make_loader(
    dataset: ImageDataset, *, trainer: pl.Trainer | None, batch_size: int, num_workers: int, seed: int | None
) -> Loader:
    """Return a loader of this process's share of a dataset.

    Args:
        dataset: Its images.
        trainer: Tells which process this is, and where a resumed epoch continues; None: one process, from the start.
        batch_size: Images that this process takes in a step.
        num_workers: Processes that load batches.
        seed: Of the order of training, which drops an incomplete batch; None: evaluation, each image exactly once.
    """
    share = sampler_kwargs(trainer)
    if seed is None:
        # Lightning's own sampler for evaluation repeats images to even out the devices, which changes the accuracy.
        sampler: DistributedSampler = UnrepeatedDistributedSampler(dataset, shuffle=False, **share)
    else:
        done = partial(batches_done, trainer)
        sampler = EpochSampler(dataset, **share, seed=seed, batch_size=batch_size, batches_done=done)
    return Loader(
        dataset,
        batch_size=batch_size,
        sampler=sampler,
        drop_last=seed is not None,
        collate_fn=default_convert,  # leaves a batch as it is: `__getitems__` has already collated it
        num_workers=num_workers,
        persistent_workers=num_workers > 0,
        pin_memory=trainer is not None and trainer.strategy.root_device.type == "cuda",
        generator=torch.Generator(),  # its own: making an iterator must not draw from the global stream
    )


def check_splits(sizes: dict[str, int], *, devices: int, batch_size: int) -> None:
    """Raise an InputError where a device would get no images; `sizes` of the splits, `batch_size` of one device."""
    if batch_size * devices > sizes["train"]:
        raise InputError(
            f"A batch of {batch_size * devices} images is larger than the training set ({sizes['train']} images). "
            f"Lower batch_size to {sizes['train'] // devices} or less."
        )
    for split in ("val", "test"):
        if 0 < sizes[split] < devices:
            raise InputError(f"The {split} split has {sizes[split]} images, fewer than the {devices} devices.")


def sampler_kwargs(trainer: pl.Trainer | None) -> dict[str, int]:
    """Return how many processes share the data and which this is, as a sampler's arguments; the strategy decides."""
    given = None if trainer is None else trainer.distributed_sampler_kwargs
    return {"num_replicas": 1, "rank": 0} if given is None else {key: given[key] for key in ("num_replicas", "rank")}


def is_limited(trainer: pl.Trainer | None, stage: str) -> bool:
    """Return whether the Trainer evaluates some of the batches of `val` or `test` alone."""
    limit = 1.0 if trainer is None else getattr(trainer, f"limit_{stage}_batches")
    return isinstance(limit, int) or limit < 1  # 1 is one batch, 1.0 are all


def accumulation(trainer: pl.Trainer | None) -> int:
    """Return the number of batches accumulated before an optimizer step."""
    return 1 if trainer is None else trainer.accumulate_grad_batches


def batches_done(trainer: pl.Trainer | None) -> int:
    """Return how many batches of the present epoch were trained on; a resumed trainer counts those before, too."""
    if trainer is None or not trainer.training:
        return 0
    return trainer.fit_loop.epoch_loop.batch_progress.current.ready
