"""What automatic augmentation draws: operations and their arguments, for RandAugment, AutoAugment and TrivialAugment.

Sources: RandAugment as in timm's `rand_augment_transform` (Cubuk et al., arXiv 1909.13719); AutoAugment with its
published policies (Cubuk et al., arXiv 1805.09501) and TrivialAugmentWide (Müller and Hutter, arXiv 2103.10158) as in
torchvision.

Letters: B images, S operations per image, one after the other.
"""

import functools
from pathlib import Path
from typing import NamedTuple

import torch
import yaml
from torch import Tensor

from cct_lightning.data.augment import counter_rng, geometric
from cct_lightning.data.augment.operations import PUBLISHED, Op
from cct_lightning.data.augment.policies import AugmentPolicy
from cct_lightning.data.augment.registry import OPERATIONS, find_operation

DRAWS = 6  # uniform numbers for each operation


@functools.cache
def sub_policies(name: str) -> list[list[tuple[int, float, int]]]:
    """Return the pairs of steps (`Op`, probability, level 0 to 9) of one of AutoAugment's published policies."""
    tables = yaml.safe_load(Path(__file__).with_name("autoaugment.yaml").read_text(encoding="utf-8"))
    return [[(OPERATIONS[step].number, prob, level) for step, prob, level in pair] for pair in tables[name]]


class Operations(NamedTuple):
    """What each image of a batch goes through, in this order: shape (B, S) each."""

    op: Tensor  # `Op`, int64
    argument: Tensor  # in the operation's unit, float32
    cubic: Tensor  # whether to sample bicubically where the interpolation is random, bool
    rotation: Tensor  # by the argument in degrees, (B, S, 2, 3) int32


class AutoAugmenter:
    """Draws the operations of one policy, whose `auto` is not `none`, for images of one size (height, width).

    On the CPU, in float64: the arguments, some of them truncated, then come out alike whatever device they are for.
    """

    def __init__(self, policy: AugmentPolicy, *, size: tuple[int, int]) -> None:
        self.policy = policy
        self.slots = {"randaugment": policy.num_ops, "autoaugment": 2, "trivialaugment": 1}[policy.auto]
        space = policy.auto_space
        drawn = [OPERATIONS[name] for name in PUBLISHED if space in OPERATIONS[name].ranges]
        drawn += [find_operation(name, space) for name in policy.extra_ops]
        self.choices = torch.tensor([it.number for it in drawn])
        # A table of the space's columns, one row per operation: base, span, sign, whole, bias (see `Range`).
        self.rows = torch.zeros(Op.COUNT, 5, dtype=torch.float64)
        pixels = {None: 1, "height": size[0], "width": size[1]}
        for it in drawn:
            base, span, signed, side, whole = it.ranges[space]
            self.rows[it.number] = torch.tensor((base, span * pixels[side], signed, whole is not None, whole or 0.0))
        if policy.auto == "autoaugment":
            table = torch.tensor(sub_policies(policy.autoaugment_policy), dtype=torch.float64).unbind(2)
            self.table_op, self.table_prob, self.table_level = table[0].long(), table[1].float(), (table[2] / 9).float()

    def draw(self, draws: Tensor, size: tuple[int, int]) -> Operations:
        """Turn uniform numbers (B, S * DRAWS) into operations on images that have this size when it is their turn."""
        policy = self.policy
        choice, apply, first, second, sign, cubic = draws.view(len(draws), self.slots, DRAWS).unbind(2)  # (B, S)
        if policy.auto == "autoaugment":
            pair = counter_rng.integers(choice[:, 0], len(self.table_op))
            op, level = self.table_op[pair], self.table_level[pair]
            op = torch.where(apply < self.table_prob[pair], op, Op.IDENTITY)
        else:
            op = self.choices[counter_rng.integers(choice, len(self.choices))]
            if policy.auto == "randaugment":
                op = torch.where(apply < policy.op_prob, op, Op.IDENTITY)
                noise = counter_rng.normal(first.double(), second.double()) * policy.magnitude_std
                level = (policy.magnitude + noise).clamp(0, 10) / 10
            else:
                level = counter_rng.integers(first, 31) / 30
        cubic = cubic < (1.0 if policy.interpolation == "bicubic" else 0.5)
        argument = self._argument(op, level.double(), sign)
        return Operations(op, argument, cubic, geometric.rotation(argument.flatten(), size).unflatten(0, op.shape))

    def _argument(self, op: Tensor, level: Tensor, sign: Tensor) -> Tensor:
        """The argument of an operation at a level from 0 to 1."""
        base, span, signed, whole, bias = self.rows[op].unbind(-1)
        change = span * level
        # The small addition keeps 0.3 * 110 from being truncated to 32.
        truncated = torch.floor(change.abs() + bias + 1e-9) * change.sign()
        change = torch.where(whole > 0, truncated, change)
        return (base + torch.where((signed > 0) & (sign < 0.5), -change, change)).float()
