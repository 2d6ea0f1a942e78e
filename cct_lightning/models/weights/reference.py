"""The names of weights in the published checkpoints and ours, mapped both ways.

Source: the state dicts of the reference implementation (SHI-Labs/Compact-Transformers).
"""

import re

from torch import Tensor

# (published, ours) without the `.weight` or `.bias` at the end; `{}` is the number of a layer.
_PAIRS: tuple[tuple[str, str], ...] = (
    ("tokenizer.conv_layers.{}.0", "tokenizer.convs.{}"),
    ("tokenizer.conv_layers.0.0", "tokenizer.proj"),
    ("classifier.class_emb", "pool.token"),
    ("classifier.positional_emb", "position.embedding"),
    ("classifier.attention_pool", "pool.score"),
    ("classifier.blocks.{}.pre_norm", "encoder.blocks.{}.norm1"),
    ("classifier.blocks.{}.self_attn.qkv", "encoder.blocks.{}.attn.qkv"),
    ("classifier.blocks.{}.self_attn.proj", "encoder.blocks.{}.attn.proj"),
    ("classifier.blocks.{}.norm1", "encoder.blocks.{}.norm2"),
    ("classifier.blocks.{}.linear1", "encoder.blocks.{}.mlp.fc1"),
    ("classifier.blocks.{}.linear2", "encoder.blocks.{}.mlp.fc2"),
    ("classifier.norm", "encoder.norm"),
    ("classifier.fc", "head"),
)


def _rename(state: dict[str, Tensor], pairs: list[tuple[str, str]]) -> dict[str, Tensor]:
    def renamed(name: str) -> str:
        for source, target in pairs:
            pattern = re.escape(source).replace(r"\{\}", r"(\d+)") + r"(\.weight|\.bias)?"
            if found := re.fullmatch(pattern, name):
                *layers, ending = found.groups(default="")
                return target.format(*layers) + ending
        return name

    return {renamed(name): value for name, value in state.items()}


def to_published(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Rename a state dict of `CompactTransformer` to the published names; a name without a pair is kept."""
    return _rename(state, [(ours, published) for published, ours in _PAIRS])


def from_published(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Rename a published state dict to the names of `CompactTransformer`; a name without a pair is kept."""
    # A patch embedding has a bias, a convolutional tokenizer has none.
    other = "tokenizer.convs.{}" if "tokenizer.conv_layers.0.0.bias" in state else "tokenizer.proj"
    return _rename(state, [pair for pair in _PAIRS if pair[1] != other])
