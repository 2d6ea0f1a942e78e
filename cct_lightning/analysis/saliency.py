"""Which pixels move the prediction: the gradient of a logit, plain and smoothed. Works with every network.

Sources: Simonyan et al., arXiv 1312.6034 (input gradient); Smilkov et al., arXiv 1706.03825 (SmoothGrad).

Letters: B batch, C channels, (H, W) image, K classes.
"""

from collections.abc import Sequence

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor, nn

from cct_lightning.analysis.overlay import plot_overlays
from cct_lightning.analysis.pictures import Maps, picture
from cct_lightning.analysis.probe import evaluating, ready
from cct_lightning.analysis.style import Array, numbers
from cct_lightning.errors import InputError

GRADIENT = "logits per unit of the normalized pixel"  # the unit of both gradients
_FEW = 8  # copies of an image where a picture is drawn while a run goes on


def _gradient(net: nn.Module, images: Tensor, target: Tensor) -> Tensor:
    pixels = images.detach().requires_grad_()
    with torch.enable_grad():
        score = net(pixels).gather(1, target[:, None]).sum()
        (gradient,) = torch.autograd.grad(score, pixels)
    return gradient.float()


def _targets(net: nn.Module, images: Tensor, target: Tensor | None) -> Tensor:
    with torch.no_grad():
        logits = net(images)
    if target is None:
        return logits.argmax(-1)
    if target.shape != images.shape[:1] or target.min() < 0 or target.max() >= logits.shape[1]:
        raise InputError(f"target must be one class from 0 to {logits.shape[1] - 1} for each of {len(images)} images.")
    return target.to(images.device)


def input_gradient(net: nn.Module, images: Tensor, *, target: Tensor | None = None) -> Tensor:
    """Return how much each pixel moves a class's logit: the largest |gradient| of its channels.

    The network is any classifier; `target` is the class of each image (B,) int64, the predicted one when None.

    Returns:
        (B, H, W) float32, in logits per unit of the normalized pixel.
    """
    images = ready(net, images)
    with evaluating(net):
        return _gradient(net, images, _targets(net, images, target)).abs().amax(1)


def smooth_grad(
    net: nn.Module,
    images: Tensor,
    *,
    target: Tensor | None = None,
    noise: float = 0.15,
    samples: int = 25,
    seed: int = 0,
) -> Tensor:
    """Return the input gradient averaged over noisy copies of the image, which shows more structure than the plain one.

    Arguments and result are those of `input_gradient`; the predicted class is the one without noise.

    Args:
        noise: Standard deviation of the noise over the range (largest - smallest pixel) of the image.
        samples: Noisy copies.
        seed: Seed of the noise, drawn on the CPU and away from the global generator.
    """
    if samples < 1 or noise < 0:
        raise InputError(f"samples is {samples} and noise {noise}: at least one sample, and no negative noise.")
    images = ready(net, images)
    generator = torch.Generator().manual_seed(seed)
    scale = noise * (images.amax((1, 2, 3), keepdim=True) - images.amin((1, 2, 3), keepdim=True))
    total = torch.zeros_like(images, dtype=torch.float32)
    with evaluating(net):
        classes = _targets(net, images, target)
        for _ in range(samples):
            draw = torch.randn(images.shape, generator=generator).to(images)
            total += _gradient(net, images + scale * draw, classes)
    return (total / samples).abs().amax(1)


@picture("saliency")
def _picture(net: nn.Module, images: Tensor) -> Maps:
    return Maps(smooth_grad(net, images, samples=_FEW), GRADIENT)


def plot_saliency(
    images: Tensor | Array, maps: Tensor | Array, *, titles: Sequence[str] | None = None, columns: int = 6
) -> Figure:
    """Draw gradients (B, H, W) over their images; each is scaled by its 99th percentile, beyond which it is clipped."""
    values = numbers(maps)
    top = np.maximum(np.percentile(values, 99, axis=(1, 2), keepdims=True), 1e-12)
    scaled = np.minimum(values / top, 1)
    return plot_overlays(images, scaled, titles=titles, label="|gradient| ÷ 99th percentile", columns=columns)
