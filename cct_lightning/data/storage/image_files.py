"""Many image files: found in folders, and read in parallel by threads, for a cache or for predictions.

Letters: B batch, C channels, (H, W) image.
"""

import os
import sys
import warnings
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from rich.console import Console
from rich.progress import MofNCompleteColumn, Progress
from torch import Tensor

from cct_lightning.data.input_spec import InputSpec
from cct_lightning.data.storage.decode import EXTENSIONS, Unreadable, WideRange, read_header, read_pixels, unreadable
from cct_lightning.data.storage.tree import LeftOut, images_below
from cct_lightning.errors import InputError
from cct_lightning.system.machine import cores
from cct_lightning.system.places import local_path

T = TypeVar("T")
_CHUNK = 32  # files per task of a thread: a small PNG takes 0.1 ms, about what handing out a task costs
Problems = dict[Path, str]  # what is wrong with a file


def find_images(paths: Iterable[Path]) -> list[Path]:
    """Return the image files among paths and in folders, each once; those of a folder in the order of their names.

    Files are taken whatever their names; of folders what `tree.py` takes for images, and a line says what is left out.

    Raises:
        InputError: A path does not exist, or there is no image at all.
    """
    found: dict[Path, None] = {}
    paths = [local_path(path) for path in paths]
    for path in paths:
        if path.is_dir():
            left_out = LeftOut(path)
            found.update(dict.fromkeys(map(Path, sorted(images_below(path, left_out)))))
            if line := str(left_out):
                warnings.warn(line, stacklevel=2)
        elif path.exists():
            found[path] = None
        else:
            raise InputError(f"{path} does not exist: give image files or folders of images.")
    if not found:
        where = ", ".join(map(str, paths)) or "no path"
        raise InputError(f"No images found ({where}): give files or folders that hold {', '.join(EXTENSIONS)} files.")
    return list(found)


def progress() -> Progress:
    """Return a progress bar on stderr that shows nothing where nobody is looking."""
    # A notebook would be asked for ipywidgets, or shown the control characters.
    console, terminal = Console(stderr=True, force_jupyter=False), sys.stderr.isatty()
    return Progress(*Progress.get_default_columns(), MofNCompleteColumn(), console=console, disable=not terminal)


@dataclass(frozen=True)
class Read:
    """A batch of files."""

    files: Sequence[Path]
    images: Tensor  # pixels (B, C, H, W) uint8 of those that could be read, in their order
    problems: Problems  # one sentence about each of the others


def read_batches(
    files: Sequence[Path], spec: InputSpec, *, batch_size: int, threads: int | None = None
) -> Iterator[Read]:
    """Read images as the stored pixels of a spec, batch by batch, in order, ahead of the batch that is being used.

    `threads` is how many read; None: one for each core.
    """
    batches = [files[i : i + batch_size] for i in range(0, len(files), batch_size)]
    chunks = [chunk for batch in batches for chunk in _chunks(batch)]
    ahead = 2 * -(-batch_size // _CHUNK) + 4 * (threads or cores())

    wide = WideRange()

    def read(path: Path) -> np.ndarray:
        return read_pixels(path, spec.in_chans, spec.stored_size, spec.decode_interpolation, wide=wide)

    results = _in_order(read, Path(), chunks, threads=threads, ahead=ahead)
    for batch in batches:
        parts = [next(results) for _ in _chunks(batch)]
        images = [image for some, _ in parts for image in some]
        problems = {path: unreadable(path, why) for _, some in parts for path, why in some.items()}
        pixels = np.stack(images) if images else np.empty((0, spec.in_chans, *spec.stored_size), np.uint8)
        yield Read(batch, torch.from_numpy(pixels), problems)
    wide.tell(os.path.commonpath([path.absolute().parent for path in files]))


def decode_all(
    root: Path, paths: Sequence[str], *, in_chans: int, size: tuple[int, int], resize: bool, title: str
) -> Iterator[np.ndarray]:
    """Read many images below `root` in order, and show the progress of `title` when somebody is looking.

    `resize` brings them to the height and width `size`; otherwise an image of another size is an error.

    Yields:
        Chunks of pixels, (<= 32, C, H, W) uint8; C is `in_chans`, 1 or 3.

    Raises:
        InputError: After all files were tried, when some cannot be read; tells how many and names up to three.
    """

    wide = WideRange()

    def read(path: Path) -> np.ndarray:
        pixels = read_pixels(path, in_chans, size if resize else None, wide=wide)
        if pixels.shape[1:] != size:
            h, w = pixels.shape[1:]
            raise Unreadable(f"is {h}x{w} pixels where the others are {size[0]}x{size[1]}")
        return pixels

    with progress() as bar:
        task = bar.add_task(f"Decoding {title}", total=len(paths))
        for images in _readable(read, root, paths):
            yield np.stack(images)
            bar.advance(task, len(images))
    wide.tell(root)


def look(root: Path, paths: Sequence[str]) -> tuple[set[tuple[int, int]], bool]:
    """Read the headers of many images; return the sizes (height, width) that occur, and whether every image is grey.

    Raises:
        InputError: When some cannot be opened; tells how many and names up to three.
    """
    found = {header for headers in _readable(read_header, root, paths) for header in headers}
    return {size for size, _ in found}, all(grey for _, grey in found)


def _readable(task: Callable[[Path], T], root: Path, paths: Sequence[str]) -> Iterator[list[T]]:
    """Yield what a task makes of the files of each chunk, in order; refuse those that cannot be read at the end."""
    bad: Problems = {}
    for done, problems in _in_order(task, root, _chunks(paths)):
        bad.update(problems)
        if not bad:  # nobody will want the others
            yield done
    if not bad:
        return
    named = [f"{os.path.relpath(path, root)}: {why}" for path, why in sorted(bad.items())]
    names = "; ".join(named[:3]) + ("; ..." if len(bad) > 3 else "")
    what, them = ("an image", "it") if len(bad) == 1 else (f"{len(bad)} images", "them")
    raise InputError(f"Cannot read {what} in {root} ({names}). Replace or remove {them}.")


def _chunks(paths: Sequence[T]) -> list[Sequence[T]]:
    return [paths[i : i + _CHUNK] for i in range(0, len(paths), _CHUNK)]


def _in_order(
    task: Callable[[Path], T],
    root: Path,
    chunks: Iterable[Sequence[Path | str]],
    *,
    threads: int | None = None,
    ahead: int | None = None,
) -> Iterator[tuple[list[T], Problems]]:
    """Yield what a task makes of the files of each chunk that can be read, in order, and what is wrong with the others.

    The window of running chunks is bounded, so that memory stays small however many there are.
    """

    def of_chunk(names: Sequence[Path | str]) -> tuple[list[T], Problems]:
        done, problems = [], {}
        for path in (root / name for name in names):
            try:
                done.append(task(path))
            except Unreadable as error:
                problems[path] = str(error)
        return done, problems

    running: deque[Future[tuple[list[T], Problems]]] = deque()
    with ThreadPoolExecutor(threads or cores()) as pool:
        for chunk in chunks:
            running.append(pool.submit(of_chunk, chunk))
            if len(running) > (ahead or 4 * cores()):
                yield running.popleft().result()
        while running:
            yield running.popleft().result()
