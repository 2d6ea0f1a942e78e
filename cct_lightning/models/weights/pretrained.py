"""From stored weights to a model: found, adapted, and loaded with nothing left over.

Classes, image size and channels may differ from those of the stored model; everything else must match by name and
shape. The rule for channels is timm's (`adapt_input_conv`).

Letters: P prefix tokens, (h, w) grid, N = P + h*w tokens, D embedding dimension, C channels.
"""

import logging
import math
import os
from pathlib import Path

import torch
from torch import Tensor, nn

from cct_lightning.errors import InputError
from cct_lightning.models.arch import PUBLISHED, parse_arch
from cct_lightning.models.compact import CompactTransformer
from cct_lightning.models.parts import PartSpec, split_spec
from cct_lightning.models.position import Grid, resize_embedding, sine_table
from cct_lightning.models.weights.download import ADDRESS, checkpoint_folder, fetch, published
from cct_lightning.models.weights.reader import StoredWeights, at_most_five, check_finite, read_weights

log = logging.getLogger(__name__)

_SUFFIXES = (".ckpt", ".pth", ".pt", ".bin", ".safetensors")
# Ours; torchvision's and timm's ViT.
_POSITIONS = ("position.embedding", "encoder.pos_embedding", "pos_embed")
_FIRST = ("tokenizer.convs.0", "tokenizer.proj", "conv1", "features.0.0", "conv_proj", "patch_embed.proj")
_LAST = ("head", "fc", "classifier.1", "heads.head")
_HEADS = {name.split(".")[0] for name in _LAST}  # where torchvision and timm keep their last linear layer


def find_weights(name: PartSpec, pretrained: bool | str | Path | StoredWeights) -> StoredWeights:
    """Read the weights that `create_model(name, pretrained=...)` asks for, downloading published ones if need be.

    Raises:
        InputError: There are none, or the file is not what it should be.
    """
    if isinstance(pretrained, StoredWeights):
        return pretrained
    tag = None if isinstance(pretrained, bool) else str(pretrained)
    if tag is not None:
        path = Path(tag).expanduser()
        if path.exists() or path.suffix in _SUFFIXES or path.name != tag:
            return read_weights(path)
    entry = published(split_spec("arch", name)[0], tag)
    url = f"{os.environ.get('CCT_CHECKPOINTS_URL', ADDRESS).rstrip('/')}/{entry.file}"
    path = checkpoint_folder() / Path(entry.file).name
    return read_weights(fetch(url, path, check=_check_published))


def _check_published(path: Path) -> None:
    names = read_weights(path).state
    for wanted in ("position.embedding", "encoder.norm.weight", "head.weight"):
        if wanted not in names:
            raise InputError(f"it lacks {wanted!r}.")


def is_sine(embedding: Tensor) -> bool:
    """Tell whether an embedding (1, N, D) is the fixed sine table; a learned one never comes that close."""
    with torch.device(embedding.device):
        table = sine_table(embedding.shape[1], embedding.shape[2])
    # The published tables were computed in float32; halves are rounded in the third digit.
    return torch.allclose(embedding.float(), table, atol=1e-4 if embedding.itemsize >= 4 else 1e-2)


def stored_channels(stored: StoredWeights) -> int | None:
    """Return the channels of the images that a checkpoint was trained on; None where it does not say."""
    found = [stored.state[f"{name}.weight"].shape for name in _FIRST if f"{name}.weight" in stored.state]
    return found[0][1] if found and len(found[0]) == 4 else stored.hparams.get("in_chans")


def stored_classes(stored: StoredWeights) -> int | None:
    """Return the number of classes of a checkpoint; None where it does not say."""
    found = [stored.state[f"{name}.weight"].shape for name in _LAST if f"{name}.weight" in stored.state]
    return found[0][0] if found and len(found[0]) == 2 else stored.hparams.get("num_classes")


def infer_arch(stored: StoredWeights) -> str:
    """Return the published name whose entries have the shapes of a checkpoint that does not name its model.

    Raises:
        InputError: None or several have.
    """
    state, found = stored.state, []
    depth = sum(name.endswith(".attn.qkv.weight") for name in state)
    for arch in map(parse_arch, PUBLISHED):
        if (arch.depth, arch.num_classes) == (depth, stored_classes(stored)):
            with torch.device("meta"):
                model = CompactTransformer(arch)
            if _shapes(model.state_dict()) == _shapes(state):
                found.append(arch)
    if len(found) > 1:  # learnable or sine: the same shapes
        wanted = "sine" if is_sine(state["position.embedding"]) else "learnable"
        found = [arch for arch in found if arch.position == wanted]
    if len(found) != 1:
        raise InputError(
            f"The checkpoint {stored.path} does not tell which model it holds: name it (--arch cct_7_3x1)."
        )
    return found[0].name


def _shapes(state: dict[str, Tensor]) -> dict[str, tuple[int, ...]]:
    # Without the first convolution and the head, whose shapes follow from the data.
    return {name: tuple(value.shape) for name, value in state.items() if not name.startswith(("head.", *_FIRST))}


def head_of(model: nn.Module) -> str:
    """Return the name of a model's last linear layer: `head`, `fc`, `classifier.1`, `heads.head`, or a user's."""
    linear = [name for name, module in model.named_modules() if isinstance(module, nn.Linear)]
    usual = [name for name in linear if name.split(".")[0] in _HEADS]
    if not (usual or linear):
        raise InputError(f"{type(model).__name__} has no torch.nn.Linear that could be its head.")
    return (usual or linear)[-1]


def load_weights(model: nn.Module, stored: StoredWeights) -> None:
    """Load weights into any model, adapting the head, the position embedding and the first convolution where needed.

    Raises:
        InputError: Entries are missing, unexpected, or of another shape, or NaN; the message names up to five.
    """
    target = model.state_dict()
    state = named_for(target, stored)
    _adapt_head(model, state, target)
    _adapt_position(model, state, target, stored.hparams.get("img_size"))
    _adapt_channels(model, state)
    problems = [
        *(f"missing {name}" for name in target if name not in state),
        *(f"unexpected {name}" for name in state if name not in target),
        *(
            f"{name} (shape {_shape(state[name])} stored, {_shape(target[name])} wanted)"
            for name in target
            if name in state and state[name].shape != target[name].shape
        ),
    ]
    if problems:
        name = model.arch.name if isinstance(model, CompactTransformer) else type(model).__name__
        raise InputError(
            f"The checkpoint {stored.path} does not fit {name}: {at_most_five(problems)} "
            f"({_likely_reason(stored, shared=len(state.keys() & target.keys()))}): choose the model and the parts "
            "that it was trained with."
        )
    check_finite(state, dict(model.named_parameters()), f"The checkpoint {stored.path}")
    model.load_state_dict(state, assign=any(parameter.is_meta for parameter in model.parameters()))


def named_for(target: dict[str, Tensor], stored: StoredWeights) -> dict[str, Tensor]:
    """Return stored weights by the names of a model's state dict, some of which may begin as `prefix` ends."""
    words = stored.prefix.split(".")[:-1]
    beginnings = ["".join(f"{word}." for word in words[start:]) for start in range(len(words), -1, -1)]
    named = [{f"{beginning}{name}": value for name, value in stored.state.items()} for beginning in beginnings]
    return max(named, key=lambda state: len(state.keys() & target.keys()))  # the first of equal ones, without a prefix


def _likely_reason(stored: StoredWeights, *, shared: int) -> str:
    if "arch" in stored.hparams:
        return f"it holds {split_spec('arch', stored.hparams['arch'])[0]}"
    try:
        return f"its shapes are those of {infer_arch(stored)}"
    except InputError:
        return "it is of another size or has other parts" if shared else "no name is the model's, so it is another one"


def _shape(tensor: Tensor) -> str:
    return "x".join(map(str, tensor.shape)) or "scalar"


def _adapt_head(model: nn.Module, state: dict[str, Tensor], target: dict[str, Tensor]) -> None:
    head = head_of(model)
    weight = f"{head}.weight"
    if weight not in state or weight not in target or state[weight].shape[1:] != target[weight].shape[1:]:
        return
    if len(state[weight]) != len(target[weight]):
        log.warning("head re-initialized: %d classes stored, %d wanted", len(state[weight]), len(target[weight]))
        state.update({name: value for name, value in target.items() if name in (weight, f"{head}.bias")})


def _adapt_position(
    model: nn.Module, state: dict[str, Tensor], target: dict[str, Tensor], img_size: tuple[int, int] | None
) -> None:
    name = next((name for name in _POSITIONS if name in state and name in target), None)
    if name is None or state[name].ndim != 3 or state[name].shape[2] != target[name].shape[2]:
        return
    stored, wanted = state[name].shape[1], target[name].shape[1]
    if not isinstance(model, CompactTransformer):  # a ViT of torchvision or timm: one class token
        old, new = _square(stored - 1), _square(wanted - 1)
    else:
        prefix, new = model.pool.num_prefix_tokens, model.tokenizer.grid(model.arch.img_size)
        old = None if img_size is None else model.tokenizer.grid((img_size[0], img_size[1]))
        if old is None or prefix + math.prod(old) != stored:
            # Published checkpoints do not hold their image size; all of them are square.
            old = new if stored == wanted else _square(stored - prefix)
    if old is None or new is None or old == new:  # or the number of tokens does not say
        return
    if is_sine(state[name]):
        state[name] = sine_table(wanted, target[name].shape[2])
    else:
        state[name] = resize_embedding(state[name], old, new)
    log.info("position embedding resized from a grid of %s to %s tokens", old, new)


def _square(tokens: int) -> Grid | None:
    side = math.isqrt(max(tokens, 0))
    return (side, side) if side and side * side == tokens else None


def _adapt_channels(model: nn.Module, state: dict[str, Tensor]) -> None:
    """Fold or repeat the weights (D, C, k, k) of a first convolution for images of other channels.

    For one channel they are summed, for others repeated and scaled by the old number over the new, so that an image of
    equal channels gives what it gave before (timm's rule for C = 3).
    """
    found = next(((name, module) for name, module in model.named_modules() if isinstance(module, nn.Conv2d)), None)
    weight = state.get(f"{found[0]}.weight") if found else None
    if found is None or weight is None or weight.ndim != 4 or found[1].groups != 1:
        return
    have, want = weight.shape[1], found[1].in_channels
    if have == want:
        return
    if want == 1:
        adapted = weight.float().sum(1, keepdim=True)
    else:
        adapted = weight.float().repeat(1, math.ceil(want / have), 1, 1)[:, :want] * (have / want)
    state[f"{found[0]}.weight"] = adapted.to(weight.dtype)
    log.warning("first convolution adapted from %d to %d channels", have, want)
