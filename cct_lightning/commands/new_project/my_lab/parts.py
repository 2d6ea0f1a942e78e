"""A pooling of my own. A tokenizer, a position embedding, a loss or an optimizer is one class in the same way."""

import torch

from cct_lightning.models.pooling import Pooling


class TopPool(Pooling):
    """The mean of the k largest values in each dimension of the tokens.

    Args:
        embed_dim: Dimension D of the tokens.
        k: Values that are averaged; 1 is max pooling.
    """

    def __init__(self, *, embed_dim: int, k: int = 4) -> None:
        super().__init__(embed_dim=embed_dim)
        self.k = k

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:  # (B, N, D) -> (B, D)
        return tokens.topk(self.k, dim=1).values.mean(1)
