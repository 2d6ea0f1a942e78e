"""One image file to uint8 pixels, and many of them in parallel. Pillow does the decoding.

What is not plain 8-bit grey or RGB is converted where that is well defined, and refused by name where it is not:
palette and CMYK become RGB; transparency is laid over white; 16-bit grey is scaled to 8 bits (65535 -> 255); 1-bit
becomes grey; an EXIF orientation is applied; of an animation the first frame counts; 32-bit integers and floats are
refused.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import numpy as np
from PIL import Image, ImageOps

from cct_lightning.errors import InputError
from cct_lightning.system.machine import cores

EXTENSIONS = (".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp")  # torchvision's ImageFolder
GREY_MODES = ("1", "L", "I;16", "I;16L", "I;16B", "I;16N")
A = TypeVar("A")
B = TypeVar("B")
CHUNK = 64  # files per task: small PNGs take 0.1 ms each, so single files would drown in task overhead


class Unreadable(Exception):
    """A file that is no image we can read; collected and reported together."""


def decode(path: Path, *, in_chans: int, size: tuple[int, int] | None) -> np.ndarray:
    """Read one image.

    Args:
        path: The file.
        in_chans: 1 for grey, 3 for RGB.
        size: Height and width to bring it to (shorter side resized with antialiasing, center cropped); None: its own.

    Returns:
        Pixels, (C, H, W) uint8.

    Raises:
        InputError: The file is broken or of a kind that has no 8-bit meaning; the message names it.
    """
    try:
        return _decode(path, in_chans, size)
    except Unreadable as error:
        raise InputError(f"Cannot read the image {path}: {error}. Replace or remove the file.") from error


def decode_all(
    root: Path, paths: Sequence[str], *, in_chans: int, size: tuple[int, int], resize: bool
) -> Iterator[np.ndarray]:
    """Read many images in parallel, in order.

    Args:
        root: Folder that the paths are relative to.
        paths: Files.
        in_chans: 1 or 3.
        size: Height and width of every image.
        resize: Bring the images to that size; otherwise one of another size is an error.

    Yields:
        Chunks of pixels, (<= 64, C, H, W) uint8.

    Raises:
        InputError: After all files were tried, when some cannot be read; tells how many and names up to three.
    """
    bad: list[tuple[str, str]] = []

    def read(chunk: Sequence[str]) -> np.ndarray:
        out = np.zeros((len(chunk), in_chans, *size), dtype=np.uint8)
        for row, path in zip(out, chunk, strict=True):
            try:
                pixels = _decode(root / path, in_chans, size if resize else None)
                if pixels.shape != row.shape:
                    raise Unreadable(
                        f"is {pixels.shape[1]}x{pixels.shape[2]} pixels where the others are {size[0]}x{size[1]}"
                    )
                row[:] = pixels
            except Unreadable as error:
                bad.append((path, str(error)))
        return out

    chunks = (paths[i : i + CHUNK] for i in range(0, len(paths), CHUNK))
    yield from _in_order(read, chunks)
    if bad:
        raise unreadable(root, bad)


def look(root: Path, paths: Sequence[str]) -> tuple[set[tuple[int, int]], bool]:
    """Read the headers of many images.

    Returns:
        The sizes (height, width) that occur, and whether every image is grey.

    Raises:
        InputError: When some cannot be opened; tells how many and names up to three.
    """
    bad: list[tuple[str, str]] = []

    def peek(chunk: Sequence[str]) -> set[tuple[tuple[int, int], bool]]:
        found = set()
        for path in chunk:
            try:
                found.add(_look(root / path))
            except Unreadable as error:
                bad.append((path, str(error)))
        return found

    chunks = (paths[i : i + CHUNK] for i in range(0, len(paths), CHUNK))
    found = set().union(*_in_order(peek, chunks))
    if bad:
        raise unreadable(root, bad)
    return {size for size, _ in found}, all(grey for _, grey in found)


def unreadable(root: Path, bad: Sequence[tuple[str, str]]) -> InputError:
    """Return the error for files that cannot be read: how many, and up to three by name."""
    bad = sorted(bad)
    names = "; ".join(f"{path}: {why}" for path, why in bad[:3]) + ("; ..." if len(bad) > 3 else "")
    what = "an image" if len(bad) == 1 else f"{len(bad)} images"
    return InputError(f"Cannot read {what} in {root} ({names}). Replace or remove {'it' if len(bad) == 1 else 'them'}.")


def _in_order(task: Callable[[A], B], items: Iterable[A]) -> Iterator[B]:
    """Map over a bounded window of running tasks, so that memory stays small however many items there are."""
    running: deque[Future[B]] = deque()
    with ThreadPoolExecutor(cores()) as pool:
        for item in items:
            running.append(pool.submit(task, item))
            if len(running) > 4 * cores():
                yield running.popleft().result()
        while running:
            yield running.popleft().result()


def _look(path: Path) -> tuple[tuple[int, int], bool]:
    with _opened(path) as image:
        # A header may hold the orientation; where it comes only after the pixels (rare in PNG) decoding will notice.
        turned = "exif" in image.info and image.getexif().get(0x0112, 1) >= 5
        size = (image.width, image.height) if turned else (image.height, image.width)
        return size, image.mode in GREY_MODES and "transparency" not in image.info


def _decode(path: Path, in_chans: int, size: tuple[int, int] | None) -> np.ndarray:
    with _opened(path) as image:
        ImageOps.exif_transpose(image, in_place=True)
        picture = _plain(image, in_chans)
        if size is not None and (picture.height, picture.width) != size:
            picture = ImageOps.fit(picture, (size[1], size[0]), method=Image.Resampling.BICUBIC)
        pixels = np.asarray(picture)
    return pixels[None] if in_chans == 1 else pixels.transpose(2, 0, 1)


@contextmanager
def _opened(path: Path) -> Iterator[Image.Image]:
    """Open an image, and turn whatever Pillow raises for a broken file, now or while decoding, into Unreadable."""
    try:
        with Image.open(path) as image:
            yield image
    except Unreadable:
        raise
    except Exception as error:  # OSError, SyntaxError, ValueError, struct.error, zlib.error, ...
        raise Unreadable(_reason(error, path)) from error


def _reason(error: Exception, path: Path) -> str:
    if isinstance(error, Image.UnidentifiedImageError):
        return "is empty" if path.stat().st_size == 0 else "is not an image"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return str(error).strip().rstrip(".") or type(error).__name__


def _plain(image: Image.Image, in_chans: int) -> Image.Image:
    """Convert to 8-bit grey or RGB."""
    mode = "L" if in_chans == 1 else "RGB"
    if image.mode.startswith("I;16"):
        wide = np.asarray(image).astype(np.uint32)
        image = Image.fromarray(((wide + 128) // 257).astype(np.uint8))
    if image.mode in ("I", "F"):
        raise Unreadable(f"has 32-bit pixels (mode {image.mode}), save it with 8 bits")
    if image.mode in ("LA", "La", "PA", "RGBA", "RGBa") or "transparency" in image.info:
        over = Image.new("RGBA", image.size, "white")
        over.alpha_composite(image.convert("RGBA"))
        image = over
    return image if image.mode == mode else image.convert(mode)
