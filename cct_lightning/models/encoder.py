"""The transformer encoder of the published Compact Transformers.

Its block is not the usual pre-norm one: between attention and MLP the *stream itself* is normalized (x = norm2(x)),
and the published weights only reproduce with that. Source: the reference implementation of arXiv 2104.05704, as
described in its checkpoints.

Letters: B batch, N tokens, D embedding dimension, h heads, d = D/h.
"""

from collections import OrderedDict

import torch
from torch import Tensor, nn
from torchvision.ops import StochasticDepth

from cct_lightning.errors import InputError
from cct_lightning.models.arch import Arch


def _cpu_mask(x: Tensor, p: float) -> Tensor:
    # nn.functional.dropout on a CPU costs more than the rest of the attention around it. Here one draw of 64 bits
    # decides over four elements, with p rounded down to a multiple of 1/65536, and the mask is made of numbers:
    # operations on booleans are not vectorized. `random_` would be 15% faster, but does not compile or vmap.
    draws = torch.randint(-(2**63), 2**63 - 1, (-(-x.numel() // 4),), dtype=torch.int64, device=x.device)
    keep = draws.view(torch.int16)[: x.numel()].ge_(int(p * 2**16) - 2**15)
    return keep.view(x.shape).to(x.dtype)


class Attention(nn.Module):
    """Multi-head self-attention; qkv has no bias, proj has one.

    Args:
        embed_dim: Dimension D of a token.
        num_heads: Heads h, which must divide D.
        attn_drop: Dropout probability of the attention weights.
        proj_drop: Dropout probability after the projection.
    """

    def __init__(self, *, embed_dim: int, num_heads: int, attn_drop: float, proj_drop: float) -> None:
        super().__init__()
        self.num_heads, self.attn_drop = num_heads, attn_drop
        self.qkv = nn.Linear(embed_dim, 3 * embed_dim, bias=False)
        self.proj = nn.Linear(embed_dim, embed_dim)
        self.proj_drop = nn.Dropout(proj_drop)

    def split(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Map tokens (B, N, D) to queries, keys and values, each (B, h, N, d)."""
        return self._heads(self.qkv(x))

    def _heads(self, qkv: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        parts = qkv.unflatten(-1, (3, self.num_heads, -1)).unbind(2)  # 3 times (B, N, h, d)
        q, k, v = (part.transpose(1, 2) for part in parts)
        return q, k, v

    def _scaled_split(self, x: Tensor, drop: float) -> tuple[Tensor, Tensor, Tensor]:
        # Queries over sqrt(d), values over 1 - drop. In the weight, which is small beside the batch.
        scale = self.qkv.weight.new_tensor([(x.shape[-1] // self.num_heads) ** -0.5, 1, 1 / (1 - drop)])
        weight = self.qkv.weight.unflatten(0, (3, -1)) * scale[:, None, None]  # (3, D, D)
        return self._heads(nn.functional.linear(x, weight.flatten(0, 1)))

    def forward(self, x: Tensor) -> Tensor:
        """Map tokens (B, N, D) to (B, N, D)."""
        drop = self.attn_drop if self.training else 0.0
        autocast = x.device.type == "cpu" and torch.is_autocast_enabled("cpu")
        if x.device.type == "cpu" and (drop > 0 or autocast or x.dtype != torch.float32):
            # The CPU kernel of SDPA has no dropout, and is slow in bfloat16.
            q, k, v = self._scaled_split(x, drop)
            weights = (q @ k.mT).softmax(-1)
            if drop > 0:
                weights = weights * _cpu_mask(weights, drop)
            x = weights @ v
        else:
            x = nn.functional.scaled_dot_product_attention(*self.split(x), dropout_p=drop)
        return self.proj_drop(self.proj(x.transpose(1, 2).flatten(2)))  # (B, h, N, d) -> (B, N, D)

    def weights(self, x: Tensor) -> Tensor:
        """Return the attention weights (B, h, N, N) that `forward` uses without forming them; for analysis."""
        q, k, _ = self.split(x)
        return (q @ k.transpose(-2, -1) * q.shape[-1] ** -0.5).softmax(-1)


class Block(nn.Module):
    """One encoder layer.

    Args:
        arch: Its `embed_dim`, `num_heads`, `mlp_ratio`, `attn_drop` and `proj_drop` are used.
        drop_path: Stochastic depth: the probability that a sample skips a residual branch.
    """

    def __init__(self, arch: Arch, *, drop_path: float) -> None:
        super().__init__()
        dim, drop = arch.embed_dim, arch.proj_drop
        self.norm1 = nn.LayerNorm(dim)
        self.attn = Attention(embed_dim=dim, num_heads=arch.num_heads, attn_drop=arch.attn_drop, proj_drop=drop)
        self.norm2 = nn.LayerNorm(dim)
        hidden = int(dim * arch.mlp_ratio)
        fc1, fc2 = nn.Linear(dim, hidden), nn.Linear(hidden, dim)
        layers = {"fc1": fc1, "act": nn.GELU(), "drop1": nn.Dropout(drop), "fc2": fc2, "drop2": nn.Dropout(drop)}
        self.mlp = nn.Sequential(OrderedDict(layers))
        # A mask: computing only the samples that are kept takes as long within 3 % (benchmarks/cpu_parts.py), and a
        # batch of another size in every step chooses kernels and allocates memory again.
        self.drop_path = StochasticDepth(drop_path, "row")

    def forward(self, x: Tensor) -> Tensor:
        """Map tokens (B, N, D) to (B, N, D)."""
        x = x + self.drop_path(self.attn(self.norm1(x)))
        # The stream itself, not only the branch: see the top of this file. It keeps its type: under CUDA's autocast a
        # norm returns float32. A bfloat16 stream costs no accuracy (digits, 20 epochs in bf16-mixed on a CPU, seeds 0
        # to 3, against a float32 stream: the same test accuracy of each, validation losses within 0.001), and moves
        # half the bytes.
        x = self.norm2(x).to(x.dtype)
        return x + self.drop_path(self.mlp(x))


class Encoder(nn.Module):
    """A stack of `arch.depth` blocks and a final LayerNorm; stochastic depth rises linearly from 0 at the first block.

    Raises:
        InputError: The heads do not divide the dimension.
    """

    def __init__(self, arch: Arch) -> None:
        super().__init__()
        if arch.embed_dim % arch.num_heads:
            raise InputError(
                f"{arch.num_heads} attention heads do not divide an embedding of dimension {arch.embed_dim}."
            )
        rates = [arch.drop_path_rate * layer / max(1, arch.depth - 1) for layer in range(arch.depth)]
        self.blocks = nn.ModuleList(Block(arch, drop_path=rate) for rate in rates)
        self.norm = nn.LayerNorm(arch.embed_dim)

    def forward(self, x: Tensor) -> Tensor:
        """Map tokens (B, N, D) to (B, N, D)."""
        for block in self.blocks:
            x = block(x)
        return self.norm(x)
