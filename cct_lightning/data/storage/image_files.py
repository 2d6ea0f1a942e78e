"""Image files: found in folders, and read ahead in batches by threads.

Letters: B batch, C channels, (H, W) image.
"""

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from cct_lightning.data.storage.decode import EXTENSIONS, decode
from cct_lightning.errors import InputError
from cct_lightning.system.machine import cores

_CHUNK = 32  # files per task of a thread: a small PNG takes 0.1 ms, about what handing out a task costs


def find_images(paths: Iterable[Path]) -> list[Path]:
    """Return the image files among paths and in folders, each once; those of a folder in the order of their names.

    Args:
        paths: Files, taken whatever their ending, and folders, searched for the usual endings of images.

    Raises:
        InputError: A path does not exist, or there is no image at all.
    """
    found: dict[Path, None] = {}
    paths = [Path(path).expanduser() for path in paths]
    for path in paths:
        if path.is_dir():
            found.update(dict.fromkeys(sorted(_walk(path))))
        elif path.exists():
            found[path] = None
        else:
            raise InputError(f"{path} does not exist: give image files or folders of images.")
    if not found:
        where = ", ".join(map(str, paths)) or "no path"
        raise InputError(f"No images found ({where}): give files or folders that hold {', '.join(EXTENSIONS)} files.")
    return list(found)


def _walk(folder: Path) -> Iterator[Path]:
    seen: set[str] = set()
    for place, folders, names in os.walk(folder, followlinks=True):
        # A link may lead back into a folder above it.
        real = os.path.realpath(place)
        if real in seen:
            folders.clear()
            continue
        seen.add(real)
        yield from (Path(place, name) for name in names if name.lower().endswith(EXTENSIONS))


@dataclass(frozen=True)
class Read:
    """A batch of files.

    Attributes:
        files: All of them.
        images: Pixels (B, C, H, W) uint8 of those that could be read, in their order.
        problems: What is wrong with each of the others.
    """

    files: Sequence[Path]
    images: Tensor
    problems: dict[Path, str]


def read_batches(
    files: Sequence[Path], *, in_chans: int, size: tuple[int, int], batch_size: int, threads: int | None = None
) -> Iterator[Read]:
    """Read images batch by batch, two batches ahead of the one that is being used.

    Args:
        files: Image files.
        in_chans: 1 for grey, 3 for RGB.
        size: (H, W) in pixels to bring every image to.
        batch_size: Files of a batch.
        threads: Threads that read; None: one for each core.

    Yields:
        The batches, in order.
    """

    def read(paths: Sequence[Path]) -> tuple[list[np.ndarray], dict[Path, str]]:
        images, problems = [], {}
        for path in paths:
            try:
                images.append(decode(path, in_chans=in_chans, size=size))
            except InputError as error:
                problems[path] = str(error)
        return images, problems

    with ThreadPoolExecutor(threads or cores()) as pool:

        def start(batch: Sequence[Path]) -> Callable[[], Read]:
            chunks = [batch[i : i + _CHUNK] for i in range(0, len(batch), _CHUNK)]
            work = [pool.submit(read, chunk) for chunk in chunks]

            def finish() -> Read:
                parts = [future.result() for future in work]
                images = [image for some, _ in parts for image in some]
                problems = {path: problem for _, some in parts for path, problem in some.items()}
                pixels = np.stack(images) if images else np.empty((0, in_chans, *size), np.uint8)
                return Read(batch, torch.from_numpy(pixels), problems)

            return finish

        ahead: deque[Callable[[], Read]] = deque()
        for first in range(0, len(files), batch_size):
            ahead.append(start(files[first : first + batch_size]))
            if len(ahead) > 2:
                yield ahead.popleft()()
        while ahead:
            yield ahead.popleft()()
