import copy

import pytest
import torch

from cct_lightning.analysis import attention_maps, plot_attention, plot_rollout, residual_share, rollout, rollout_map
from cct_lightning.analysis.probe import capturing
from cct_lightning.errors import InputError
from cct_lightning.models.factory import create_model


def test_maps_are_what_the_kernel_computed(net, digits) -> None:
    """attn.weights @ v, projected, must be the module's own output in every layer."""
    images = digits.images[:16]
    maps = attention_maps(net, images)
    net.eval()
    layers = [block.attn for block in net.encoder.blocks]
    with torch.no_grad(), capturing(layers, lambda attn, x, output: (attn, x, output)) as found:
        net(images)
    net.train()
    tokens = 16 + net.pool.num_prefix_tokens
    assert maps.shape == (2, 16, 2, tokens, tokens)
    for layer, (attn, x, output) in zip(maps, found, strict=True):
        values = attn.split(x)[2]
        again = attn.proj((layer @ values).transpose(1, 2).flatten(2))
        assert torch.allclose(again, output, atol=1e-5)


def test_compiled_in_place(nets, digits) -> None:
    net = copy.deepcopy(nets["cct"])
    net.compile(backend="eager")
    assert torch.equal(attention_maps(net, digits.images[:4]), attention_maps(nets["cct"], digits.images[:4]))


def test_rollout(net, digits) -> None:
    maps = attention_maps(net, digits.images[:4])
    flow = rollout(maps)
    assert torch.allclose(flow.sum(-1), torch.ones(flow.shape[:2]), atol=1e-5)
    # By hand, written out: the last layer reads what the first one has mixed.
    eye = torch.eye(flow.shape[-1])
    first, second = (0.5 * eye + 0.5 * layer.mean(1) for layer in maps)
    assert torch.allclose(flow, second @ first, atol=1e-6)
    assert torch.equal(rollout(maps, residual=1.0), eye.expand_as(flow))
    weighted = rollout(maps, residual=torch.tensor([1.0, 0.0]))
    assert torch.allclose(weighted, maps[1].mean(1), atol=1e-6)
    with pytest.raises(InputError, match="between 0 and 1"):
        rollout(maps, residual=1.5)


def test_residual_share(net, digits) -> None:
    share = residual_share(net, digits.images[:4])
    net.eval()
    with torch.no_grad():
        x = net.embed(digits.images[:4])
        block = net.encoder.blocks[0]
        stream, branch = x.norm(dim=-1), block.attn(block.norm1(x)).norm(dim=-1)
    net.train()
    assert share.shape == (2,)
    assert float(share[0]) == pytest.approx(float((stream / (stream + branch)).mean()), rel=1e-4)


def test_rollout_map(net, digits) -> None:
    maps = rollout_map(net, digits.images)
    assert maps.shape == (len(digits.images), 4, 4)
    assert torch.allclose(maps.sum((1, 2)), torch.ones(len(maps)), atol=1e-5)
    flow = rollout(attention_maps(net, digits.images))
    if net.arch.pool == "class_token":
        expected = flow[:, 0, 1:] / flow[:, 0, 1:].sum(-1, keepdim=True)
        assert torch.allclose(maps.flatten(1), expected, atol=1e-5)
    if net.arch.pool == "mean":
        assert torch.allclose(maps.flatten(1), flow.mean(1), atol=1e-5)


def test_rollout_follows_the_input(nets, digits) -> None:
    """A class token that reads nothing but token 5 in both layers must put all its flow there."""
    maps = torch.zeros(2, 1, 1, 17, 17)
    maps[..., 6] = 1
    row = rollout(maps, residual=0.0)[0, 0]
    assert row.argmax() == 6
    assert row[6] == 1


def test_non_square() -> None:
    net = create_model("cvt_2_4", img_size=(16, 32))
    assert rollout_map(net, torch.randn(2, 3, 16, 32)).shape == (2, 4, 8)


def test_plots(nets, digits) -> None:
    maps = attention_maps(nets["vit"], digits.images[:2])[:, 0]
    figure = plot_attention(maps, grid=(4, 4), token=0)
    assert len(figure.axes) == 4
    assert figure.axes[0].get_title().startswith("L1 H1: ")
    assert len(plot_attention(maps, grid=(4, 4), token=(1, 2)).axes) == 4
    for token in (1, (4, 0)):
        with pytest.raises(InputError, match="There is no token"):
            plot_attention(maps, grid=(4, 4), token=token)
    with pytest.raises(InputError, match="Expected maps of one image"):
        plot_attention(attention_maps(nets["vit"], digits.images[:2]), grid=(4, 4), token=0)
    assert plot_rollout(digits.raw[:2], rollout_map(nets["vit"], digits.images[:2])).axes
