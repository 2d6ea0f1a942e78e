"""Stratified, seeded, nested subsets of a labeled set, by one random order whose every prefix holds the classes in
their proportions (±1): a validation split is a prefix, a 10% subset is a prefix of the 20% one. NumPy promises that
RandomState's stream never changes between versions.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from cct_lightning.data.arguments import at_least
from cct_lightning.errors import InputError

# Streams keep the draws of different purposes apart under one seed.
VALIDATION, SUBSET, DIGITS_TEST, EVALUATION = 1, 2, 3, 4


def stratified_order(label: np.ndarray, *, seed: int, stream: int) -> np.ndarray:
    """Return positions 0..N-1 in a random order whose every prefix is stratified.

    `label` is the class of each sample, (N,), not negative; `stream` is VALIDATION, SUBSET, DIGITS_TEST or EVALUATION.
    """
    order, rank, count = _ranked(label, seed, stream)
    # Sample r of a class with n samples comes at (r + 1/2) / n of the way; ties keep their random order.
    return order[np.argsort((rank + 0.5) / count, kind="stable")]


def first_per_class(label: np.ndarray, number: int, *, seed: int, stream: int) -> np.ndarray:
    """Return positions of the first `number` samples of each class, in the same random order as `stratified_order`."""
    order, rank, _ = _ranked(label, seed, stream)
    return order[rank < number]


def _ranked(label: np.ndarray, seed: int, stream: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return a random order, and for each sample in it its rank within its class and the size of its class."""
    rng = np.random.RandomState(np.random.MT19937(np.random.SeedSequence((seed, stream))))
    order = rng.permutation(len(label))
    shuffled = label[order]
    count = np.bincount(label)
    by_class = np.argsort(shuffled, kind="stable")
    rank = np.empty(len(label), dtype=np.int64)
    rank[by_class] = np.arange(len(label)) - np.repeat(np.cumsum(count) - count, count)
    return order, rank, count[shuffled]


@dataclass(frozen=True, kw_only=True)
class Subsets:
    """Which images to train and validate on."""

    val_fraction: float
    train_split: str
    samples_per_class: int | None
    fraction: float | None
    seed: int

    def __post_init__(self) -> None:
        if not 0 <= self.val_fraction < 1:
            part = "val_fraction is a part of the training images, 0 <= val_fraction < 1"
            raise InputError(f"{part}; got {self.val_fraction}.")
        if self.fraction is not None and not 0 < self.fraction <= 1:
            raise InputError(f"fraction is a part of the training images, 0 < fraction <= 1; got {self.fraction}.")
        if self.samples_per_class is not None:
            at_least(1, "samples_per_class", self.samples_per_class)
            if self.fraction is not None:
                raise InputError("Give fraction or samples_per_class, not both.")
        if self.train_split not in ("train", "trainval"):
            raise InputError(f"train_split is 'train' or 'trainval'; got {self.train_split!r}.")


def split_up(label: np.ndarray, split: np.ndarray, subsets: Subsets, classes: Sequence[str]) -> dict[str, Tensor]:
    """Divide a data set into what is trained, validated and tested on.

    The validation images do not depend on the subset, so that runs on more and fewer samples compare.

    Args:
        label: Class of each image, (N,).
        split: Published split of each image, (N,): 0 train, 1 val, 2 test.
        subsets: Which images to train and validate on.
        classes: Their names, for messages.

    Returns:
        Indices of `train`, `val` and `test`, sorted, (M,) int64 each; no two share an image.

    Raises:
        InputError: More samples per class are wanted than there are, or a validation split that does not exist.
    """
    train, val, test = (np.flatnonzero(split == number) for number in range(3))
    if subsets.train_split == "trainval" and not len(val):
        raise InputError("train_split 'trainval' needs a data set that brings a validation split; use 'train'.")
    if subsets.train_split == "trainval" or not len(val):
        train = np.sort(np.concatenate([train, val]))
        order = stratified_order(label[train], seed=subsets.seed, stream=VALIDATION)
        # At least one image when a validation split is wanted at all.
        number = max(round(subsets.val_fraction * len(train)), int(subsets.val_fraction > 0))
        val, train = np.sort(train[order[:number]]), np.sort(train[order[number:]])
    if subsets.fraction is not None:
        order = stratified_order(label[train], seed=subsets.seed, stream=SUBSET)
        train = np.sort(train[order[: max(1, round(subsets.fraction * len(train)))]])
    if subsets.samples_per_class is not None:
        count = np.bincount(label[train], minlength=len(classes))
        if count.min() < subsets.samples_per_class:
            raise InputError(
                f"samples_per_class is {subsets.samples_per_class}, but besides the validation split the class "
                f"{classes[int(count.argmin())]!r} has only {count.min()} training images. Lower it."
            )
        chosen = first_per_class(label[train], subsets.samples_per_class, seed=subsets.seed, stream=SUBSET)
        train = np.sort(train[chosen])
    return {name: torch.from_numpy(part) for name, part in (("train", train), ("val", val), ("test", test))}
