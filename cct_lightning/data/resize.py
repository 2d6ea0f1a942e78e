"""Bring a batch to another size on its device: a set held at its native size serves every img_size from one cache."""

import torch
from torch import Tensor
from torch.nn import functional as F


def cover(images: Tensor, size: tuple[int, int]) -> Tensor:
    """Resize so that the images just cover `size` (bilinear, antialiased), and crop their center.

    Args:
        images: (B, C, H, W) uint8.
        size: Height and width wanted.

    Returns:
        (B, C, *size) uint8; the same tensor when it has that size.
    """
    height, width = images.shape[-2:]
    if (height, width) == size:
        return images
    scale = max(size[0] / height, size[1] / width)
    between = (max(size[0], round(height * scale)), max(size[1], round(width * scale)))
    resized = F.interpolate(images.float(), between, mode="bilinear", antialias=True).round_().clamp_(0, 255)
    top, left = (between[0] - size[0]) // 2, (between[1] - size[1]) // 2
    return resized[..., top : top + size[0], left : left + size[1]].to(torch.uint8)
