import copy

import pytest
import torch
from torch import nn

from cct_lightning.analysis import attention_maps, input_gradient, pool_weights
from cct_lightning.analysis.probe import compact, evaluating, on_grid
from cct_lightning.errors import InputError


def test_no_tokens(digits) -> None:
    net = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    with pytest.raises(InputError, match="Sequential has no tokens"):
        attention_maps(net, digits.images)
    assert input_gradient(net, digits.images[:4]).shape == (4, 8, 8)


def test_module_around_the_model(nets) -> None:
    class Around(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = nets["cct"]

    assert compact(Around()) is nets["cct"]


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda d: d.raw, "normalize them as in training first"),
        (lambda d: d.images[0], r"Expected a batch of images \(B, C, H, W\), got a tensor of shape \(1, 8, 8\)"),
        (lambda d: d.images.expand(-1, 3, -1, -1), "have 3 channels, the model reads 1"),
    ],
)
def test_bad_images(nets, digits, spoil, message: str) -> None:
    with pytest.raises(InputError, match=message):
        pool_weights(nets["cct"], spoil(digits))


def test_modes_come_back(nets) -> None:
    net = nets["cct"].train()
    net.encoder.norm.eval()  # a part that somebody froze
    before = [module.training for module in net.modules()]
    with evaluating(net):
        assert not any(module.training for module in net.modules())
    with pytest.raises(RuntimeError), evaluating(net):
        raise RuntimeError
    assert [module.training for module in net.modules()] == before
    net.train()


def test_nothing_is_left_behind(nets, digits) -> None:
    net = nets["cct"]
    assert net.training
    state = torch.get_rng_state()
    attention_maps(net, digits.images[:2])
    pool_weights(net, digits.images[:2])
    assert torch.equal(torch.get_rng_state(), state)
    assert not any(module._forward_hooks for module in net.modules())
    assert net.training


def test_bfloat16(nets, digits) -> None:
    small = copy.deepcopy(nets["cct"]).bfloat16()
    weights = pool_weights(small, digits.images[:8])
    assert weights.dtype == torch.float32
    assert torch.allclose(weights, pool_weights(nets["cct"], digits.images[:8]), atol=0.05)


def test_on_grid() -> None:
    weights = torch.tensor([[0.6, 0.1, 0.1, 0.2, 0.0]])
    assert torch.allclose(on_grid(weights, (2, 2)), torch.tensor([[[0.25, 0.25], [0.5, 0.0]]]))
