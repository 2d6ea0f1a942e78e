"""Position embeddings over a grid of tokens: learnable, sine or none.

Sources: Hassani et al., arXiv 2104.05704 (learnable and sine); Vaswani et al., arXiv 1706.03762 (sine).

Letters: B batch, (h, w) grid, P prefix tokens (1 with a class token, else 0), N = P + h*w, D embedding dimension.
"""

import torch
from torch import Tensor, nn

Grid = tuple[int, int]


class PositionEmbedding(nn.Module):
    """Base class of position embeddings; subclass it to bring your own; `init_args` gives it more arguments.

    Args:
        grid: The grid (h, w) that the model is built for.
        num_prefix_tokens: Tokens P before those of the grid (the class token).
        embed_dim: Dimension D of a token.
    """

    def __init__(self, *, grid: Grid, num_prefix_tokens: int, embed_dim: int) -> None:
        super().__init__()

    def forward(self, tokens: Tensor, grid: Grid) -> Tensor:
        """Add positions to tokens (B, N, D) of a `grid`; return the dtype of the tokens.

        Under autocast the tokens come from a convolution in the low precision, and a float32 parameter added to them
        would turn the whole stream to float32.
        """
        raise NotImplementedError


def resize_embedding(embedding: Tensor, old: Grid, new: Grid) -> Tensor:
    """Interpolate an embedding (1, P + h*w, D) bilinearly from its grid to a new one (h', w'): (1, P + h'*w', D).

    Prefix tokens are kept.
    """
    if old == new:
        return embedding
    prefix = embedding.shape[1] - old[0] * old[1]
    grid = embedding[:, prefix:].unflatten(1, old).permute(0, 3, 1, 2)  # (1, D, h, w)
    grid = nn.functional.interpolate(grid.float(), size=new, mode="bilinear", align_corners=False)
    return torch.cat([embedding[:, :prefix], grid.flatten(2).transpose(1, 2).to(embedding.dtype)], 1)


def sine_table(length: int, dim: int) -> Tensor:
    """Return the fixed 1-D table (1, length, dim): sin on even, cos on odd dimensions, base 10000."""
    even = torch.arange(dim, dtype=torch.float64) // 2 * 2
    angle = torch.arange(length, dtype=torch.float64)[:, None] / 10000 ** (even / dim)
    return torch.where(torch.arange(dim) % 2 == 0, angle.sin(), angle.cos())[None].float()


class LearnablePosition(PositionEmbedding):
    """A parameter for each position (truncated normal, std 0.2), interpolated bilinearly for other grids."""

    def __init__(self, *, grid: Grid, num_prefix_tokens: int, embed_dim: int) -> None:
        super().__init__(grid=grid, num_prefix_tokens=num_prefix_tokens, embed_dim=embed_dim)
        self.grid = grid
        self.embedding = nn.Parameter(torch.empty(1, num_prefix_tokens + grid[0] * grid[1], embed_dim))
        nn.init.trunc_normal_(self.embedding, std=0.2)

    def forward(self, tokens: Tensor, grid: Grid) -> Tensor:
        """Add positions to tokens (B, N, D)."""
        return tokens + resize_embedding(self.embedding, self.grid, grid).to(tokens.dtype)


class SinePosition(PositionEmbedding):
    """The fixed 1-D sine table over the sequence, prefix included; computed for each other length."""

    embedding: Tensor

    def __init__(self, *, grid: Grid, num_prefix_tokens: int, embed_dim: int) -> None:
        super().__init__(grid=grid, num_prefix_tokens=num_prefix_tokens, embed_dim=embed_dim)
        self.grid = grid
        # In the state dict, as in the published checkpoints.
        self.register_buffer("embedding", sine_table(num_prefix_tokens + grid[0] * grid[1], embed_dim))

    def forward(self, tokens: Tensor, grid: Grid) -> Tensor:
        """Add positions to tokens (B, N, D)."""
        if grid == self.grid:
            return tokens + self.embedding.to(tokens.dtype)
        return tokens + sine_table(tokens.shape[1], tokens.shape[2]).to(tokens)


class NoPosition(PositionEmbedding):
    """No position at all: what the paper's ablation compares with."""

    def forward(self, tokens: Tensor, grid: Grid) -> Tensor:
        """Return tokens (B, N, D) as they are."""
        return tokens


POSITIONS: dict[str, type[PositionEmbedding]]
POSITIONS = {"learnable": LearnablePosition, "sine": SinePosition, "none": NoPosition}
