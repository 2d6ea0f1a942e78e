"""The names of weights in the published checkpoints and ours, mapped both ways.

Source: the state dicts of the reference implementation (SHI-Labs/Compact-Transformers).
"""

import re

from torch import Tensor

# (published, ours) as regular-expression templates; `{}` is the number of a layer.
_PAIRS: tuple[tuple[str, str], ...] = (
    ("tokenizer.conv_layers.{}.0.weight", "tokenizer.convs.{}.weight"),
    ("tokenizer.conv_layers.0.0.weight", "tokenizer.proj.weight"),
    ("tokenizer.conv_layers.0.0.bias", "tokenizer.proj.bias"),
    ("classifier.class_emb", "pool.token"),
    ("classifier.positional_emb", "position.embedding"),
    ("classifier.attention_pool.weight", "pool.score.weight"),
    ("classifier.attention_pool.bias", "pool.score.bias"),
    ("classifier.blocks.{}.pre_norm.weight", "encoder.blocks.{}.norm1.weight"),
    ("classifier.blocks.{}.pre_norm.bias", "encoder.blocks.{}.norm1.bias"),
    ("classifier.blocks.{}.self_attn.qkv.weight", "encoder.blocks.{}.attn.qkv.weight"),
    ("classifier.blocks.{}.self_attn.proj.weight", "encoder.blocks.{}.attn.proj.weight"),
    ("classifier.blocks.{}.self_attn.proj.bias", "encoder.blocks.{}.attn.proj.bias"),
    ("classifier.blocks.{}.norm1.weight", "encoder.blocks.{}.norm2.weight"),
    ("classifier.blocks.{}.norm1.bias", "encoder.blocks.{}.norm2.bias"),
    ("classifier.blocks.{}.linear1.weight", "encoder.blocks.{}.mlp.fc1.weight"),
    ("classifier.blocks.{}.linear1.bias", "encoder.blocks.{}.mlp.fc1.bias"),
    ("classifier.blocks.{}.linear2.weight", "encoder.blocks.{}.mlp.fc2.weight"),
    ("classifier.blocks.{}.linear2.bias", "encoder.blocks.{}.mlp.fc2.bias"),
    ("classifier.norm.weight", "encoder.norm.weight"),
    ("classifier.norm.bias", "encoder.norm.bias"),
    ("classifier.fc.weight", "head.weight"),
    ("classifier.fc.bias", "head.bias"),
)


def _translate(name: str, pairs: list[tuple[str, str]]) -> str | None:
    for source, target in pairs:
        found = re.fullmatch(re.escape(source).replace(r"\{\}", r"(\d+)"), name)
        if found:
            return target.format(*found.groups())
    return None


def to_published(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Rename a state dict of `CompactTransformer` to the published names; a name without a pair is kept."""
    pairs = [(ours, published) for published, ours in _PAIRS]
    return {_translate(name, pairs) or name: value for name, value in state.items()}


def from_published(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Rename a published state dict to the names of `CompactTransformer`; a name without a pair is kept."""
    # A patch embedding has a bias, a convolutional tokenizer has none.
    patches = "tokenizer.conv_layers.0.0.bias" in state
    pairs = [pair for pair in _PAIRS if pair[1].startswith("tokenizer.proj") == patches or "tokenizer" not in pair[1]]
    return {_translate(name, pairs) or name: value for name, value in state.items()}
