"""One image file to uint8 pixels. Pillow does the decoding; `image_files.py` reads many files in parallel.

What is not plain 8-bit grey or RGB is converted where that is well defined, and refused by name where it is not:
palette and CMYK become RGB; transparency is laid over white; 16-bit grey is scaled to 8 bits (65535 -> 255); 1-bit
becomes grey; an EXIF orientation is applied; of an animation the first frame counts; 32-bit integers and floats are
refused.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps
from pytorch_lightning.utilities.rank_zero import rank_zero_warn

from cct_lightning.errors import InputError

EXTENSIONS = (".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp")  # torchvision's ImageFolder
Cut = Callable[[Image.Image], Image.Image]
GREY_MODES = ("1", "L", "I;16", "I;16L", "I;16B", "I;16N")


class WideRange:
    """The highest values in images of 16 bits: cameras and scanners often store 10 to 14 bits in them."""

    def __init__(self) -> None:
        self.tops: list[int] = []  # one for each image; threads may append

    def tell(self, where: Path | str) -> None:
        """Warn where no image uses a quarter of the range, in one of several processes."""
        if self.tops and (top := max(self.tops)) < 1 << 14:
            rank_zero_warn(
                f"{where}: the highest value of its {len(self.tops)} images of 16 bits is {top} ({top.bit_length()} "
                "bits), and they are read on the scale of 0 to 65535, so they are dark. Scale them to the whole range."
            )


class Unreadable(Exception):
    """A file that is broken or has no 8-bit meaning; its message is a reason, to be reported with the file's name."""


def decode(
    path: Path,
    *,
    in_chans: int,
    size: tuple[int, int] | None,
    interpolation: str = "bicubic",
    cut: Cut | None = None,
    wide: WideRange | None = None,
) -> np.ndarray:
    """Read one image.

    Args:
        path: The file.
        in_chans: 1 for grey, 3 for RGB.
        size: Height and width to bring it to (shorter side resized with antialiasing, center cropped); None: its own.
        interpolation: `bilinear` or `bicubic`, of that resize.
        cut: Brings the image to `size` instead.
        wide: Takes the highest value of an image of 16 bits.

    Returns:
        Pixels, (C, H, W) uint8.

    Raises:
        InputError: The file is broken or of a kind that has no 8-bit meaning; the message names it.
    """
    try:
        return read_pixels(path, in_chans, size, interpolation, cut=cut, wide=wide)
    except Unreadable as error:
        raise InputError(unreadable(path, str(error))) from error


def unreadable(path: Path, reason: str) -> str:
    """Return the sentence about one file that cannot be read."""
    return f"Cannot read the image {path}: {reason}. Replace or remove the file."


def read_pixels(
    path: Path,
    in_chans: int,
    size: tuple[int, int] | None,
    interpolation: str = "bicubic",
    *,
    cut: Cut | None = None,
    wide: WideRange | None = None,
) -> np.ndarray:
    """Read one image; see `decode`, but raise Unreadable. `wide` takes the highest value of an image of 16 bits."""
    with _opened(path) as image:
        wide_color = image.mode == "RGB" and ";16" in str(getattr(image, "tile", ""))  # Pillow reads the upper 8 bits
        ImageOps.exif_transpose(image, in_place=True)
        if wide is not None and (wide_color or image.mode.startswith("I;16")):
            top = int(np.asarray(image).max())
            wide.tops.append(256 * top + 255 if wide_color else top)
        picture = _plain(image, in_chans)
        if cut is not None:
            picture = cut(picture)
        elif size is not None and (picture.height, picture.width) != size:
            picture = ImageOps.fit(picture, (size[1], size[0]), method=Image.Resampling[interpolation.upper()])
        pixels = np.asarray(picture)
    return pixels[None] if in_chans == 1 else pixels.transpose(2, 0, 1)


def read_header(path: Path) -> tuple[tuple[int, int], bool]:
    """Return the size (height, width) of an image and whether it is grey, without decoding it, or raise Unreadable."""
    with _opened(path) as image:
        # A header may hold the orientation; where it comes only after the pixels (rare in PNG) decoding will notice.
        turned = "exif" in image.info and image.getexif().get(0x0112, 1) >= 5
        size = (image.width, image.height) if turned else (image.height, image.width)
        return size, image.mode in GREY_MODES and "transparency" not in image.info


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
