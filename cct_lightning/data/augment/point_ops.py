"""Brightness, contrast, color, sharpness, posterize, solarize, equalize and more: each image with its own argument.

The arithmetic is Pillow's (`ImageEnhance`, `ImageOps`), which timm calls and torchvision follows, in whole numbers
wherever Pillow's result is one. Every function takes uint8 images (B, C, H, W) and returns uint8 images of that shape.
The ranges are those of timm's `LEVEL_TO_ARG` (RandAugment) and of torchvision's `_AUGMENTATION_SPACE`.
Gray needs red, green and blue: with other than three channels, contrast takes the mean of all, and color does nothing.

Letters: B images, C channels, H rows, W columns.
"""

import torch
from torch import Tensor

from cct_lightning.data.augment.pixels import select, to_uint8
from cct_lightning.data.augment.registry import Range, operation

_NONE = {"randaugment": Range(), "autoaugment": Range(), "trivialaugment": Range()}  # no argument
_BLEND = {
    "randaugment": Range(base=0.1, span=1.8),
    "randaugment_increasing": Range(base=1, span=0.9, signed=True),
    "autoaugment": Range(base=1, span=0.9, signed=True),
    "trivialaugment": Range(base=1, span=0.99, signed=True),
}


@operation("autocontrast", **_NONE)
def autocontrast(images: Tensor) -> Tensor:
    """Stretch every channel to the full range; a flat channel stays."""
    pixels = images.float()
    low, high = pixels.amin((2, 3), keepdim=True), pixels.amax((2, 3), keepdim=True)
    flat = low == high
    pixels.sub_(torch.where(flat, 0.0, low)).mul_(255).div_(torch.where(flat, 255.0, high - low))
    # Pillow truncates. What is not whole lies at least 1/255 above the whole number below it, so that this small
    # addition keeps an inexact division from falling below a whole number and changes nothing else.
    return to_uint8(pixels.add_(2.0**-10))


@operation("equalize", **_NONE)
def equalize(images: Tensor) -> Tensor:
    """Flatten the histogram of every channel, by a table of 256 entries."""
    b, c, h, w = images.shape
    pixels = images.reshape(b, c, h * w).long()
    histogram = torch.zeros(b, c, 256, dtype=torch.int32, device=images.device)
    histogram.scatter_add_(2, pixels, torch.ones((), dtype=torch.int32, device=images.device).expand_as(pixels))
    below = histogram.cumsum(2, dtype=torch.int32) - histogram
    brightest = histogram.gather(2, images.reshape(b, c, h * w).amax(2, keepdim=True).long())
    step = (h * w - brightest) // 255
    table = ((below + step // 2) // step.clamp(min=1)).clamp(max=255).to(torch.uint8)
    table = select(step > 0, table, torch.arange(256, dtype=torch.uint8, device=images.device))
    return table.gather(2, pixels).view(b, c, h, w)


@operation("invert", randaugment=Range(), autoaugment=Range())
def invert(images: Tensor) -> Tensor:
    """255 minus the pixel."""
    return images.bitwise_not()


@operation(
    "posterize",
    randaugment=Range(span=4, whole=0.0),
    randaugment_increasing=Range(base=4, span=-4, whole=0.0),
    autoaugment=Range(base=8, span=-4, whole=0.5),
    trivialaugment=Range(base=8, span=-6, whole=0.5),
)
def posterize(images: Tensor, bits: Tensor) -> Tensor:
    """Keep the upper bits of every pixel; `bits` is 0 to 8, shape (B,)."""
    mask = (256 - torch.exp2(8 - bits)).to(torch.uint8)
    return images & mask.view(-1, 1, 1, 1)


@operation(
    "solarize",
    randaugment=Range(span=256, whole=0.0),
    randaugment_increasing=Range(base=256, span=-256, whole=0.0),
    autoaugment=Range(base=255, span=-255),
    trivialaugment=Range(base=255, span=-255),
)
def solarize(images: Tensor, threshold: Tensor) -> Tensor:
    """Invert the pixels at or above the threshold, shape (B,)."""
    bright = images.to(torch.int16) >= torch.ceil(threshold).to(torch.int16).view(-1, 1, 1, 1)
    return images ^ bright.to(torch.uint8).neg()  # an exclusive or with 255 inverts


@operation("solarize_add", randaugment=Range(span=110, whole=0.0))
def solarize_add(images: Tensor, amount: Tensor) -> Tensor:
    """Add an amount, shape (B,), to the pixels below 128, up to 255."""
    wide = images.to(torch.int16)
    return (wide + amount.to(torch.int16).view(-1, 1, 1, 1) * (wide < 128)).clamp(max=255).to(torch.uint8)


@operation("brightness", **_BLEND)
def brightness(images: Tensor, factor: Tensor) -> Tensor:
    """Multiply by a factor, shape (B,): 0 is black, 1 the image."""
    return to_uint8(images.float() * factor.view(-1, 1, 1, 1))


@operation("contrast", **_BLEND)
def contrast(images: Tensor, factor: Tensor) -> Tensor:
    """Blend with the mean gray, one number per image; factor 0 is gray, 1 the image, shape (B,)."""
    pixels = images.float()
    gray = _gray(pixels).flatten(1).to(torch.int32)
    n = gray.shape[1]
    mean = (2 * gray.sum(1) + n) // (2 * n)  # rounded, in whole numbers, so that no order of summation shows
    return _blend(mean.float().view(-1, 1, 1, 1), pixels, factor)


@operation("color", **_BLEND)
def color(images: Tensor, factor: Tensor) -> Tensor:
    """Blend with the gray image; factor 0 is gray, 1 the image, shape (B,)."""
    if images.shape[1] != 3:
        return images
    pixels = images.float()
    return _blend(_gray(pixels), pixels, factor)


@operation("sharpness", **_BLEND)
def sharpness(images: Tensor, factor: Tensor) -> Tensor:
    """Blend with the image smoothed by a 3 x 3 kernel (5 in the middle, 1 around), border excepted."""
    if min(images.shape[2:]) < 3:
        return images
    pixels = images.float()
    three = pixels[:, :, :-2] + pixels[:, :, 1:-1] + pixels[:, :, 2:]
    nine = three[..., :-2] + three[..., 1:-1] + three[..., 2:]
    smooth = pixels.clone()
    smooth[:, :, 1:-1, 1:-1] = nine.add_(pixels[:, :, 1:-1, 1:-1], alpha=4).div_(13).round_()
    return _blend(smooth, pixels, factor)


def _gray(pixels: Tensor) -> Tensor:
    """Luma as Pillow rounds it, float32, shape (B, 1, H, W); the image itself unless it has three channels."""
    if pixels.shape[1] != 3:
        return pixels
    red, green, blue = pixels.split(1, 1)
    # Whole numbers below 2^24 throughout: exact in float32.
    return (red * 19595).add_(green, alpha=38470).add_(blue, alpha=7471).add_(32768).mul_(2.0**-16).floor_()


def _blend(degenerate: Tensor, pixels: Tensor, factor: Tensor) -> Tensor:
    """Go from the degenerate image towards (or beyond) the image; truncated, as in Pillow. `pixels` is overwritten."""
    return to_uint8(pixels.sub_(degenerate).mul_(factor.view(-1, 1, 1, 1)).add_(degenerate))
