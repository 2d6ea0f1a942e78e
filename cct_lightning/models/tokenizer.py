"""From an image to a sequence of tokens: by convolution (CCT) or by patches (ViT-Lite, CVT).

Source: Hassani et al., arXiv 2104.05704, section 3.

Letters: B batch, C channels, (H, W) image, (h, w) grid, N = h*w tokens, D embedding dimension.
"""

import itertools
from typing import Any

from torch import Tensor, nn

from cct_lightning.models.arch import HIDDEN_CHANS, conv_geometry, conv_grids, patch_grid


class Tokenizer(nn.Module):
    """Base class of tokenizers; subclass it to bring your own, with more arguments if need be, which `init_args` gives.

    What your tokenizer costs is counted when a model is built; what its tokens see is measured unless `layers` says it.

    Args:
        in_chans: Channels of the image.
        embed_dim: Dimension D of a token.
        kernel_size: Kernel or patch size in pixels, from the model's name.
        conv_blocks: Convolution blocks, from the model's name.
    """

    def __init__(self, *, in_chans: int, embed_dim: int, kernel_size: int, conv_blocks: int) -> None:
        super().__init__()

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        # A subclass with modules or a `forward` of its own sees other pixels than its parent, unless it says which.
        if vars(cls).keys() & {"__init__", "forward"} and "layers" not in vars(cls):
            setattr(cls, "layers", Tokenizer.layers)  # noqa: B010  # mypy refuses to assign a method

    def grid(self, img_size: tuple[int, int]) -> tuple[int, int]:
        """Return the grid (h, w) of tokens for an image of (H, W) pixels; raise `InputError` where there is none."""
        raise NotImplementedError

    def forward(self, images: Tensor) -> Tensor:
        """Map images (B, C, H, W) to tokens (B, h*w, D), row by row."""
        raise NotImplementedError

    def layers(self) -> list[tuple[int, int, int]] | None:
        """Return kernel, stride and padding in pixels of each layer in order, which give a token's receptive field.

        None: it is measured by gradients.
        """
        return None


def _channels_last(images: Tensor) -> Tensor:
    # The layout of the fast kernels, which also makes the flattening to tokens free. Without
    # `contiguous(memory_format=)`, which `torch.func.vmap` does not know.
    return images.permute(0, 2, 3, 1).contiguous().permute(0, 3, 1, 2)


def _tokens(maps: Tensor) -> Tensor:
    # (B, D, h, w) -> (B, N, D); a view without a copy when the maps are channels-last.
    return maps.flatten(2).transpose(1, 2)


class ConvTokenizer(Tokenizer):
    """Blocks of convolution (no bias), ReLU and max pool 3/2/1: the tokenizer of CCT."""

    def __init__(self, *, in_chans: int, embed_dim: int, kernel_size: int = 3, conv_blocks: int = 1) -> None:
        super().__init__(in_chans=in_chans, embed_dim=embed_dim, kernel_size=kernel_size, conv_blocks=conv_blocks)
        self.kernel_size, self.conv_blocks = kernel_size, conv_blocks
        stride, padding = conv_geometry(kernel_size)
        chans = [in_chans] + [HIDDEN_CHANS] * (conv_blocks - 1) + [embed_dim]
        self.convs = nn.ModuleList(
            nn.Conv2d(i, o, kernel_size, stride, padding, bias=False) for i, o in itertools.pairwise(chans)
        )
        for weight in self.convs.parameters():
            nn.init.kaiming_normal_(weight)

    def grid(self, img_size: tuple[int, int]) -> tuple[int, int]:
        """Return the grid (h, w); each block halves it, after the stride of its convolution."""
        return conv_grids(img_size, kernel_size=self.kernel_size, conv_blocks=self.conv_blocks)[-1]

    def forward(self, images: Tensor) -> Tensor:
        """Map images (B, C, H, W) to tokens (B, N, D)."""
        x = _channels_last(images)
        for conv in self.convs:
            # Pooling first is the same function with the same gradient, and leaves ReLU a quarter of the work.
            x = nn.functional.max_pool2d(conv(x), 3, 2, 1).relu_()  # (B, D, h, w)
        return _tokens(x)

    def layers(self) -> list[tuple[int, int, int]]:
        """Return kernel, stride and padding of the convolutions and max pools."""
        return [(self.kernel_size, *conv_geometry(self.kernel_size)), (3, 2, 1)] * self.conv_blocks


class PatchTokenizer(Tokenizer):
    """One convolution with bias whose stride is its kernel: the tokenizer of ViT-Lite and CVT."""

    def __init__(self, *, in_chans: int, embed_dim: int, kernel_size: int = 4, conv_blocks: int = 1) -> None:
        super().__init__(in_chans=in_chans, embed_dim=embed_dim, kernel_size=kernel_size, conv_blocks=conv_blocks)
        self.patch_size = kernel_size
        self.proj = nn.Conv2d(in_chans, embed_dim, kernel_size, stride=kernel_size)
        nn.init.kaiming_normal_(self.proj.weight)

    def grid(self, img_size: tuple[int, int]) -> tuple[int, int]:
        """Return the grid (h, w) of patches."""
        return patch_grid(img_size, self.patch_size)

    def forward(self, images: Tensor) -> Tensor:
        """Map images (B, C, H, W) to tokens (B, N, D)."""
        return _tokens(self.proj(_channels_last(images)))

    def layers(self) -> list[tuple[int, int, int]]:
        """Return side, side and 0: patches do not overlap."""
        return [(self.patch_size, self.patch_size, 0)]


# A new one is counted and measured; arithmetic for `cct models` without torch may be added in `complexity.py`.
TOKENIZERS: dict[str, type[Tokenizer]] = {"conv": ConvTokenizer, "patch": PatchTokenizer}
