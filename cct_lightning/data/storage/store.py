"""From a data set's name to its images: download, list, decode, cache. Everything that can go wrong goes wrong here."""

import hashlib
import json
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pytorch_lightning.utilities.rank_zero import rank_zero_warn
from torch import Tensor

from cct_lightning.data.augment.file_crop import FileCrop
from cct_lightning.data.batch import FileDataset, ImageDataset, TensorDataset
from cct_lightning.data.classes import new_labels
from cct_lightning.data.datasets.sources import Arrays, Files, Source
from cct_lightning.data.storage import cache
from cct_lightning.data.storage.cache import Content, Pool
from cct_lightning.data.storage.decode import WideRange, decode
from cct_lightning.data.storage.download import download_again, fetch, missing
from cct_lightning.data.storage.image_files import decode_all, look
from cct_lightning.data.storage.listing import listed
from cct_lightning.data.storage.paths import cache_folders, default_root, writable
from cct_lightning.errors import InputError
from cct_lightning.system.places import local_path


@dataclass(frozen=True, kw_only=True)
class Request:
    """Which data set, from where, and how its images are to be stored."""

    source: Source
    root: str | None  # None: `default_root()`
    cache_dir: str | None  # None: below the default root
    download: bool
    size: tuple[int, int] | None  # height and width that files are stored at; arrays stay at their native size
    stream: bool


@dataclass(frozen=True, kw_only=True)
class StoredImages(Pool):
    """A data set that is ready: its images in a pool, or the list of its files when it is streamed."""

    classes: tuple[str, ...]
    in_chans: int
    size: tuple[int, int]  # as the images are stored
    files: Files | None  # None: not made of files

    def relabeled(self, classes: Sequence[str]) -> "StoredImages":
        """Return the same images labeled by another order of the same classes."""
        label = torch.tensor(new_labels(self.classes, classes, "the model"))[self.label]
        return replace(self, label=label, classes=tuple(classes))

    def dataset(self, index: Tensor, crop: FileCrop | None = None, images_wait: bool = False) -> ImageDataset:
        """Return the images that `index` names, (M,) int64.

        Args:
            index: Which, in their order.
            crop: Cuts them out of their files where streamed.
            images_wait: Batches have no images: the device takes them from all, which it has.
        """
        if self.image is not None:
            return TensorDataset(image=self.image, label=self.label, index=index, images_wait=images_wait)
        assert self.files is not None
        path = np.array([os.fsencode(path) for path in self.files.path])
        return FileDataset(
            root=self.files.root,
            path=path,
            label=self.label,
            index=index,
            size=self.size,
            in_chans=self.in_chans,
            crop=crop,
        )


def stored_size_of(
    source: Source, size: tuple[int, int] | None, asked: tuple[int, int] | None
) -> tuple[int, int] | None:
    """Return height and width that image files are to be stored at, None where the files decide.

    `size` is what the model sees, None where the files decide; `asked` is what the user asked for.

    Raises:
        InputError: It is smaller than what the model sees, or the images are not files.
    """
    if asked is None:
        return None if size is None else (round(size[0] * source.margin), round(size[1] * source.margin))
    if not source.made_of_images:
        raise InputError(f"{source.title} is stored at its own size; leave stored_size out.")
    if size is None or asked[0] < size[0] or asked[1] < size[1]:
        raise InputError(f"stored_size {asked} needs an img_size that fits into it; img_size is {size or 'not given'}.")
    return asked


def open_stored(request: Request) -> StoredImages:
    """Open a data set, downloading it and building its cache first when need be.

    Raises:
        InputError: Files are missing, broken, or contradict each other; one sentence.
    """
    source, place = request.source, _root(request)
    if missing(source, place):
        # Several processes may start at once, and torchvision does not expect another one to download with it.
        with cache.locked(_cache_folder(request) / f"{source.name}-{_digest(place.resolve())}.download"):
            fetch(source, place, allowed=request.download)
    if not source.made_of_images:
        if request.stream:
            raise InputError(f"{source.title} comes as whole arrays, so it cannot be streamed. Leave stream out.")
        return _open(request, place, None, lambda: _arrays(source, _read(request, place)))
    files = _listed(request, place)
    if files.left_out:
        rank_zero_warn(files.left_out)
    _check_labels(files.label, len(files.classes), str(files.root))
    if request.stream:
        return _streamed(request, files)
    return _open(request, place, files, lambda: _decoded(request, files))


def _listed(request: Request, place: Path) -> Files:
    def read() -> Files:
        files = _read(request, place)
        assert isinstance(files, Files)
        return files

    if not request.stream:  # the cache is compared with the time of every file anyway
        return read()
    name = f"{request.source.name}-{_digest(place.resolve())}.files.json"
    return listed(_cache_folder(request) / name, request.source.name + request.source.code, read)


def _read(request: Request, place: Path) -> Arrays | Files:
    """Read the files; where one is broken, let torchvision, which knows their md5 sums, download it again."""
    source = request.source
    try:
        return source.read(place / source.base)
    except InputError:
        if not request.download or source.torchvision is None or not download_again(source, place):
            raise
        return source.read(place / source.base)


def _root(request: Request) -> Path:
    if request.root is not None:
        return local_path(request.root)
    if request.source.made_of_images and request.source.torchvision is None:
        raise InputError(f"The data set {request.source.name!r} needs data.root: the folder that holds its images.")
    return default_root()


def _cache_folder(request: Request) -> Path:
    folders = cache_folders(request.cache_dir)
    return next((folder for folder in folders if writable(folder)), folders[0])


def _open(request: Request, place: Path, files: Files | None, build: Callable[[], Content]) -> StoredImages:
    """Open the cache, or build it, of image files, or of arrays where there are none."""
    source = request.source
    size = None if files is None else request.size
    stamp = _stamp(place / source.base, source.files) if files is None else _stamp(files.root, files.path)
    key = {"version": cache.VERSION, "source": source.name + source.code, "size": size, "content": stamp}
    # One slot for each source, place and size: a change of content replaces the cache instead of adding another.
    name = f"{source.name}-{_digest(place.resolve(), size)}.safetensors"
    there = (cache.load(folder / name, key) for folder in cache_folders(request.cache_dir))
    pool = next(filter(None, there), None) or cache.load_or_build(_cache_folder(request) / name, key, build)
    assert pool.image is not None
    _, channels, height, width = pool.image.shape
    classes = source.classes if files is None else files.classes
    return StoredImages(**vars(pool), classes=classes, in_chans=channels, size=(height, width), files=files)


def _digest(*parts: object) -> str:
    return hashlib.sha256(json.dumps([str(part) for part in parts]).encode()).hexdigest()[:12]


def _stamp(root: Path, names: Iterable[str]) -> str:
    """Return a digest of names, sizes and times of change: a sign, without reading them, that files are the same."""
    digest = hashlib.sha256()
    for name in names:
        try:
            status = os.stat(root / name)
        except OSError as error:
            raise InputError(f"Cannot read {root / name} ({error.strerror}). Restore the file.") from error
        digest.update(os.fsencode(name) + f"\0{status.st_size}\0{status.st_mtime_ns}\n".encode())
    return digest.hexdigest()


def _streamed(request: Request, files: Files) -> StoredImages:
    source = request.source
    if request.size is None:
        raise InputError("A streamed folder needs data.img_size: the height and width to bring its images to.")
    channels = source.in_chans or 3
    wide = WideRange()
    for path in files.path[:: -(-len(files.path) // 16)]:  # a wrong tree shows at once
        decode(files.root / path, in_chans=channels, size=request.size, wide=wide)
    wide.tell(files.root)
    label, split = torch.from_numpy(files.label), torch.from_numpy(files.split)
    pool = Pool(image=None, label=label, split=split, mean=source.mean, std=source.std)
    return StoredImages(**vars(pool), classes=files.classes, in_chans=channels, size=request.size, files=files)


def _arrays(source: Source, arrays: Any) -> Content:
    assert isinstance(arrays, Arrays)
    _check_labels(arrays.label, len(source.classes), source.title)
    expected = (source.in_chans, *(source.size or ()))
    if arrays.image.shape[1:] != expected:
        raise InputError(
            f"{source.title}: the images are {arrays.image.shape[1:]} where {expected} was expected "
            "(channels, height, width). Check that data.root holds the right data set."
        )
    return Content(chunks=[arrays.image], shape=arrays.image.shape, label=arrays.label, split=arrays.split)


def _decoded(request: Request, files: Files) -> Content:
    size, channels = request.size, request.source.in_chans
    if size is None or channels is None:
        sizes, grey = look(files.root, files.path)
        channels = channels or (1 if grey else 3)
        if size is None and len(sizes) > 1:
            (h, w), (h2, w2) = min(sizes), max(sizes)
            raise InputError(
                f"The images in {files.root} differ in size (from {h}x{w} to {h2}x{w2}). "
                "Give data.img_size the size to bring them to."
            )
        height, width = size or sizes.pop()
    else:
        height, width = size
    given, title = size is not None, request.source.name
    chunks = decode_all(files.root, files.path, in_chans=channels, size=(height, width), resize=given, title=title)
    shape = (len(files.path), channels, height, width)
    return Content(chunks=chunks, shape=shape, label=files.label, split=files.split)


def _check_labels(label: np.ndarray, num_classes: int, where: str) -> None:
    if len(label) == 0:
        raise InputError(f"{where} holds no images.")
    if label.min() < 0 or label.max() >= num_classes:
        wrong = label.min() if label.min() < 0 else label.max()
        raise InputError(f"{where}: label {wrong} is out of range for {num_classes} classes (0..{num_classes - 1}).")
