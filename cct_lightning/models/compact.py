"""The Compact Transformer: tokenizer -> position -> encoder -> pool -> head, each a part that can be swapped alone.

Source: Hassani et al., "Escaping the Big Data Paradigm with Compact Transformers", arXiv 2104.05704.

Letters: B batch, C channels, (H, W) image, N tokens, D embedding dimension, K classes.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from torch import Tensor, nn

from cct_lightning.models.arch import Arch
from cct_lightning.models.encoder import Encoder
from cct_lightning.models.parts import build_part
from cct_lightning.models.pooling import POOLINGS, Pooling
from cct_lightning.models.position import POSITIONS, PositionEmbedding
from cct_lightning.models.tokenizer import TOKENIZERS, Tokenizer

# Parts that may be classes of a user's own -> the built-in ones by name, and the base class.
PART_CLASSES: dict[str, tuple[Mapping[str, type], type]] = {
    "tokenizer": (TOKENIZERS, Tokenizer),
    "pool": (POOLINGS, Pooling),
    "position": (POSITIONS, PositionEmbedding),
}


class CompactTransformer(nn.Module):
    """ViT-Lite, CVT or CCT, by its parts.

    Three seams for analysis and fine-tuning: `forward_features` gives normalized tokens (B, N, D), `pool` one vector
    (B, D), `head` logits (B, K). It runs at every image size that its tokenizer accepts: position embeddings are
    resized on the way where the grid is another than the one that the model was built for.

    Args:
        arch: What to build; see `parse_arch`, and `create_model` for the usual way in.

    Raises:
        InputError: Parts that do not fit each other or the image.
    """

    def __init__(self, arch: Arch) -> None:
        super().__init__()
        self.arch = arch
        self.tokenizer = build_part(
            "tokenizer", arch.tokenizer, TOKENIZERS, Tokenizer,
            in_chans=arch.in_chans,
            embed_dim=arch.embed_dim,
            kernel_size=arch.kernel_size,
            conv_blocks=arch.conv_blocks,
        )  # fmt: skip
        self.pool = build_part("pool", arch.pool, POOLINGS, Pooling, embed_dim=arch.embed_dim)
        self.position = build_part(
            "position", arch.position, POSITIONS, PositionEmbedding,
            grid=self.tokenizer.grid(arch.img_size),
            num_prefix_tokens=self.pool.num_prefix_tokens,
            embed_dim=arch.embed_dim,
        )  # fmt: skip
        self.drop = nn.Dropout(arch.proj_drop)
        self.encoder = Encoder(arch)
        self.head = nn.Linear(arch.embed_dim, arch.num_classes)
        self.apply(_init_linear)

    def num_tokens(self, img_size: tuple[int, int]) -> int:
        """Return the length of the sequence N, prefix included, for images of (H, W) pixels."""
        height, width = self.tokenizer.grid(img_size)
        return self.pool.num_prefix_tokens + height * width

    def embed(self, images: Tensor) -> Tensor:
        """Map images (B, C, H, W) to what the encoder reads: tokens with prefix and positions (B, N, D)."""
        height, width = images.shape[-2:]
        tokens = self.pool.prepend(self.tokenizer(images))
        return self.drop(self.position(tokens, self.tokenizer.grid((height, width))))

    def forward_features(self, images: Tensor) -> Tensor:
        """Map normalized images (B, C, H, W) to the encoder's normalized output (B, N, D)."""
        return self.encoder(self.embed(images))

    def forward(self, images: Tensor) -> Tensor:
        """Map normalized images (B, C, H, W) to logits (B, K)."""
        return self.head(self.pool(self.forward_features(images)))


@contextmanager
def evaluating(net: nn.Module) -> Iterator[None]:
    """Switch to evaluation mode (no dropout, no stochastic depth); at the end each module gets its own mode back."""
    modes = [(module, module.training) for module in net.modules()]
    net.eval()
    try:
        yield
    finally:
        for module, mode in modes:
            module.training = mode


def _init_linear(module: nn.Module) -> None:
    if isinstance(module, nn.Linear):
        nn.init.trunc_normal_(module.weight, std=0.02)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
