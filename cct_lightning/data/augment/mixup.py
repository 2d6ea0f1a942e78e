"""Mixup and cutmix of a batch with soft targets, the same on any number of devices.

Sources: Zhang et al., "mixup: Beyond Empirical Risk Minimization" (arXiv 1710.09412); Yun et al., "CutMix" (arXiv
1905.04899); the choice between the two and the corrected lambda as in timm's `Mixup` in batch mode.

Two rules make the mixed batch independent of the number of devices. Whether, how and how much to mix are functions of
(seed, epoch, step) alone, so every rank decides alike. And the partner of local position q is (q + b/2) mod b: torch's
`DistributedSampler` deals the global order out in turn, so that local position q of rank r of R is global position
q * R + r, and half a local batch on is half the global batch on. (Pairing first with last, as timm does, is not.) This
holds while R divides B/2.

Letters: B images of the global batch, b of a rank's, C channels, H rows, W columns, K classes.
"""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cct_lightning.data.augment import counter_rng
from cct_lightning.data.augment.tables import to_device
from cct_lightning.errors import InputError

_STREAM = 16  # apart from the streams of the augmentation
_ATTEMPTS = 8


@dataclass(frozen=True, kw_only=True)
class MixingPolicy:
    """When and how strongly images of a batch are mixed; the defaults are the 300-epoch recipe's.

    Args:
        mixup_alpha: Mixup's lambda is drawn from Beta(alpha, alpha); 0 is no mixup.
        cutmix_alpha: Cutmix's, likewise; 0 is no cutmix.
        prob: Probability that a batch is mixed at all.
        switch_prob: Probability of cutmix rather than mixup where both are on.
        off_epoch: The first epoch, from 0, that is not mixed any more; null mixes to the end.

    Raises:
        InputError: An option is outside its range.
    """

    mixup_alpha: float = 0.8
    cutmix_alpha: float = 1.0
    prob: float = 1.0
    switch_prob: float = 0.5
    off_epoch: int | None = None

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if name in ("prob", "switch_prob") and not 0 <= value <= 1:
                raise InputError(f"{name} is a probability from 0 to 1; got {value!r}.")
            if name in ("mixup_alpha", "cutmix_alpha") and not 0 <= value < math.inf:
                raise InputError(f"{name} is 0 (off) or positive; got {value!r}.")
        if self.mixup_alpha == 0 and self.cutmix_alpha == 0:
            raise InputError("mixup_alpha and cutmix_alpha are both 0, so nothing is mixed; leave mixing out.")
        if self.off_epoch is not None and self.off_epoch < 0:
            raise InputError(f"off_epoch is an epoch from 0, or null for never; got {self.off_epoch}.")


class Mixing(nn.Module):
    """Mix every image of a batch with its partner, by mixup or by cutmix; K is `num_classes`, `seed` the run's."""

    def __init__(self, policy: MixingPolicy, *, num_classes: int, seed: int = 0) -> None:
        super().__init__()
        if num_classes < 1:
            raise InputError(f"num_classes is at least 1; got {num_classes}.")
        self.policy, self.num_classes, self.seed = policy, num_classes, seed

    def extra_repr(self) -> str:
        """What `print(mixing)` shows."""
        return f"{self.policy}, num_classes={self.num_classes}, seed={self.seed}"

    @torch.no_grad()
    def forward(self, images: Tensor, labels: Tensor, epoch: int, step: int) -> tuple[Tensor, Tensor]:
        """Mix a batch of float images (b, C, H, W) and labels (b,) int64.

        `step` is the batch's number within the epoch, the same on every rank; epochs count from 0. Returns the mixed
        images in their dtype, and targets whose rows sum to one, float32, (b, K).
        """
        targets = F.one_hot(labels, self.num_classes).to(torch.float32)
        if self.policy.off_epoch is not None and epoch >= self.policy.off_epoch:
            return images, targets
        h, w = images.shape[-2:]
        keep, lam = to_device(self._plan(h, w, epoch, step), images.device)
        half = images.shape[0] // 2
        # lerp returns its end points exactly where `keep` is 0 or 1, so one formula serves both.
        mixed = torch.lerp(images.roll(-half, 0), images, keep.to(images.dtype).expand_as(images))
        return mixed, torch.lerp(targets.roll(-half, 0), targets, lam.expand_as(targets))

    def _plan(self, h: int, w: int, epoch: int, step: int) -> tuple[Tensor, Tensor]:
        """The share of its own that each pixel keeps, (H, W), and that the label keeps, (), both float32."""
        policy = self.policy
        index = torch.full((1,), step, dtype=torch.int64)
        # On the CPU, in float64, which not every accelerator has: the same for every device.
        draws = counter_rng.uniform(4 + 12 * _ATTEMPTS, seed=self.seed, epoch=epoch, index=index, stream=_STREAM)
        mix, switch, y, x = draws[0, :4].double().unbind()
        gammas = draws[0, 4:].double().view(4, 3, _ATTEMPTS)
        on = mix < policy.prob
        switch_prob = policy.switch_prob if policy.mixup_alpha else 1.0
        cut = switch < (switch_prob if policy.cutmix_alpha else 0.0)
        lam_mix = _beta(policy.mixup_alpha, gammas[:2])
        lam_cut = _beta(policy.cutmix_alpha, gammas[2:])
        rows, columns = torch.arange(h), torch.arange(w)
        side = torch.sqrt(1 - lam_cut)
        box = _span(rows, side, y)[:, None] & _span(columns, side, x)
        pixels = torch.where(cut, (~box).double(), lam_mix)
        lam = torch.where(cut, 1 - box.double().mean(), lam_mix)  # the box may reach beyond the image
        one = torch.ones_like(lam)
        return torch.where(on, pixels, one).float(), torch.where(on, lam, one).float()


def _span(places: Tensor, fraction: Tensor, center: Tensor) -> Tensor:
    """Which of the places lie in a span of this fraction of them around a random center, clipped at the ends."""
    n = places.numel()
    length, middle = (n * fraction).long(), counter_rng.integers(center, n)
    low = middle - length // 2
    return (places >= low) & (places < low + length)


def _beta(alpha: float, draws: Tensor) -> Tensor:
    """Beta(alpha, alpha) from two gamma variates and uniform numbers (2, 3, attempts) float64; 1 where alpha is 0."""
    if not alpha:
        return torch.ones((), dtype=draws.dtype)
    gamma = _log_gamma_variate(alpha, draws)  # logarithms: a small alpha underflows
    return torch.sigmoid(gamma[0] - gamma[1])


def _log_gamma_variate(alpha: float, draws: Tensor) -> Tensor:
    """Logarithms of Gamma(alpha) variates, shape (2,): the first accepted of a few attempts.

    Marsaglia and Tsang, "A Simple Method for Generating Gamma Variables" (ACM TOMS 2000). More than 95% of the attempts
    are accepted, so eight fail once in 10^10; then the first is taken.
    """
    # Gamma(alpha) = Gamma(alpha + 1) * U^(1 / alpha), which the method needs below 1 and which harms nowhere.
    d = alpha + 1 - 1 / 3
    normal = counter_rng.normal(draws[:, 0], draws[:, 1])  # (2, attempts)
    v = (1 + normal / math.sqrt(9 * d)) ** 3
    log_v = torch.log(v.clamp_min(1e-300))
    log_u = torch.log1p(-draws[:, 2])
    accepted = (v > 0) & (log_u < 0.5 * normal**2 + d - d * v + d * log_v)
    first = accepted.to(torch.uint8).argmax(1, keepdim=True)
    # The boost takes a uniform number of its own: the last attempt's, which is hardly ever needed.
    return math.log(d) + log_v.gather(1, first)[:, 0] + log_u[:, -1] / alpha
