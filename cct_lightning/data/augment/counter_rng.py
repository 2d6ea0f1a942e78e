"""Random numbers that are pure functions of (seed, stream, epoch, index, draw): no state, nothing to save or restore.

The generator is counter-based like those of Salmon et al., "Parallel Random Numbers: As Easy as 1, 2, 3" (SC 2011),
with the finalizer of SplitMix64 (Steele, Lea, Flood, "Fast Splittable Pseudorandom Number Generators", OOPSLA 2014) as
the mixing function. Everything is 64-bit integer arithmetic that wraps, so the bits are the same on every device, in
every batch composition, and eager or compiled.

Letters: B samples, n draws per sample.
"""

import math

import torch
from torch import Tensor

_MASK = (1 << 64) - 1
# Odd, so that multiplying by them loses nothing; one for each coordinate of a draw.
_INDEX = 0x9E3779B97F4A7C15
_EPOCH = 0xD1342543DE82EF95
_DRAW = 0xDA942042E4DD58B5
_MULTIPLY = (0xBF58476D1CE4E5B9, 0x94D049BB133111EB)


def _signed(value: int) -> int:
    return value - (1 << 64) if value >> 63 else value


def _key(seed: int, stream: int) -> int:
    """One 64-bit constant for a seed and a stream, mixed twice in Python's integers."""
    state = seed & _MASK
    for part in (stream & _MASK, 0):
        state = (state + (part + 1) * _INDEX) & _MASK
        state = ((state ^ (state >> 30)) * _MULTIPLY[0]) & _MASK
        state = ((state ^ (state >> 27)) * _MULTIPLY[1]) & _MASK
        state ^= state >> 31
    return _signed(state)


def _shift_right(state: Tensor, bits: int) -> Tensor:
    # Torch shifts int64 arithmetically; the mask clears the copies of the sign bit.
    return (state >> bits) & ((1 << (64 - bits)) - 1)


def uniform(n: int, *, seed: int, epoch: int | Tensor, index: Tensor, stream: int) -> Tensor:
    """Draw uniform numbers (B, n), multiples of 2^-24 in [0, 1), float32, on the device of `index`.

    They are the same ones for a sample whatever else is in the batch.

    Args:
        n: Draws per sample. Asking for more leaves the earlier ones as they are.
        seed: The run's seed.
        epoch: The epoch, or any other count that advances, such as the step; as a tensor (), int64, in a graph that is
            compiled once for all epochs.
        index: The samples' places in the data set, int64, shape (B,).
        stream: What the numbers are for. Each use has its own stream, so that switching one augmentation on leaves the
            numbers of the others alone.
    """
    draws = torch.arange(n, dtype=torch.int64, device=index.device)
    # Counts enter by xor: torch.compile folds sums and products of counts into its index expressions, where the large
    # constants would overflow.
    state = (index ^ _key(seed, stream)) * _signed(_INDEX)  # (B,)
    state = (state ^ epoch) * _signed(_EPOCH)
    state = (state[:, None] ^ draws) * _signed(_DRAW)  # (B, n)
    state = (state ^ _shift_right(state, 30)) * _signed(_MULTIPLY[0])
    state = (state ^ _shift_right(state, 27)) * _signed(_MULTIPLY[1])
    state = state ^ _shift_right(state, 31)
    return _shift_right(state, 40).to(torch.float32) * 2.0**-24


def integers(draws: Tensor, count: Tensor | int) -> Tensor:
    """Turn uniform numbers into integers in [0, count), int64; `count` broadcasts against `draws`.

    Exact to one part in 2^24 / count; counts here are image sides and numbers of operations.
    """
    return (draws * count).long()  # below count: the largest draw is 1 - 2^-24, and count < 2^24


def normal(first: Tensor, second: Tensor) -> Tensor:
    """Turn two independent uniform numbers into a standard normal one (Box and Muller, 1958), in their dtype."""
    radius = torch.sqrt(-2.0 * torch.log1p(-first))  # 1 - first is in (0, 1]: no infinity
    return radius * torch.cos(2.0 * math.pi * second)
