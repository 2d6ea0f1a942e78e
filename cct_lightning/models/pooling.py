"""From a sequence of tokens to one vector: SeqPool, class token, mean or max.

Source: Hassani et al., arXiv 2104.05704, section 3.2 (SeqPool) and its ablation of static poolings.

Letters: B batch, P prefix tokens, N tokens (prefix included), D embedding dimension.
"""

import torch
from torch import Tensor, nn


class Pooling(nn.Module):
    """Base class of poolings; subclass it to bring your own, with more arguments if need be, which `init_args` gives.

    A pooling that can say how much it reads of each
    token has a method `weights(tokens) -> (B, N)`, whose rows sum to one: pictures of the pooling show it.

    Args:
        embed_dim: Dimension D of a token.
    """

    num_prefix_tokens = 0  # P: tokens that `prepend` adds

    def __init__(self, *, embed_dim: int) -> None:
        super().__init__()

    def prepend(self, tokens: Tensor) -> Tensor:
        """Add the prefix to the tokens (B, N, D) before positions and encoder; none by default."""
        return tokens

    def forward(self, tokens: Tensor) -> Tensor:
        """Map the encoder's normalized output (B, N, D) to (B, D)."""
        raise NotImplementedError


class SeqPool(Pooling):
    """The weighted mean of the tokens, with weights that a linear layer computes from each token."""

    def __init__(self, *, embed_dim: int) -> None:
        super().__init__(embed_dim=embed_dim)
        self.score = nn.Linear(embed_dim, 1)

    def weights(self, tokens: Tensor) -> Tensor:
        """Return the weight (B, N) of each token (B, N, D); each row sums to one."""
        return self.score(tokens).squeeze(-1).softmax(-1)

    def forward(self, tokens: Tensor) -> Tensor:
        """Map (B, N, D) to (B, D)."""
        return (self.weights(tokens).unsqueeze(1) @ tokens).squeeze(1)  # (B, 1, N) x (B, N, D)


class ClassToken(Pooling):
    """A learned token, put first in the sequence; the encoder's output for it is the result (ViT)."""

    num_prefix_tokens = 1

    def __init__(self, *, embed_dim: int) -> None:
        super().__init__(embed_dim=embed_dim)
        self.token = nn.Parameter(torch.zeros(1, 1, embed_dim))

    def prepend(self, tokens: Tensor) -> Tensor:
        """Put the class token first: (B, N, D) -> (B, 1 + N, D)."""
        return torch.cat([self.token.expand(tokens.shape[0], -1, -1).to(tokens.dtype), tokens], 1)

    def forward(self, tokens: Tensor) -> Tensor:
        """Map (B, N, D) to (B, D)."""
        return tokens[:, 0]


class MeanPool(Pooling):
    """The mean of the tokens."""

    def forward(self, tokens: Tensor) -> Tensor:
        """Map (B, N, D) to (B, D)."""
        return tokens.mean(1)

    def weights(self, tokens: Tensor) -> Tensor:
        """Return the weight (B, N) of each token (B, N, D): all the same."""
        return tokens.new_full(tokens.shape[:2], 1 / tokens.shape[1], dtype=torch.float32)


class MaxPool(Pooling):
    """The maximum of the tokens in each dimension."""

    def forward(self, tokens: Tensor) -> Tensor:
        """Map (B, N, D) to (B, D)."""
        return tokens.amax(1)

    def weights(self, tokens: Tensor) -> Tensor:
        """Return for each token (B, N, D) the share (B, N) of the D dimensions in which it is the largest."""
        return nn.functional.one_hot(tokens.argmax(1), tokens.shape[1]).float().mean(1)


POOLINGS: dict[str, type[Pooling]] = {"seqpool": SeqPool, "class_token": ClassToken, "mean": MeanPool, "max": MaxPool}
