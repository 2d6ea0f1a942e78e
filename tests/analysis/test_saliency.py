import copy

import pytest
import torch
from torch import nn

from cct_lightning.analysis import input_gradient, plot_saliency, smooth_grad
from cct_lightning.errors import InputError


def test_finite_differences(net, digits) -> None:
    # Noise, because equal pixels tie in max pooling, where there is no derivative.
    noise = torch.randn(2, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    images = (digits.images[:2] + 0.1 * noise).double()
    double = copy.deepcopy(net).double().eval()
    target = torch.tensor([3, 7])
    saliency = input_gradient(double, images, target=target)
    with torch.no_grad():
        for i, (row, column) in enumerate([(3, 4), (5, 2)]):
            step = torch.zeros_like(images)
            step[i, 0, row, column] = 1e-5
            high, low = double(images + step), double(images - step)
            slope = (high[i, target[i]] - low[i, target[i]]) / 2e-5
            assert float(saliency[i, row, column]) == pytest.approx(abs(float(slope)), rel=1e-3, abs=1e-6)
    assert all(p.grad is None for p in double.parameters())


def test_smooth_grad_of_a_linear_model_is_its_weight(digits) -> None:
    net = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    state = torch.get_rng_state()
    maps = smooth_grad(net, digits.images[:3], target=torch.tensor([1, 2, 3]), samples=3)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.allclose(maps.flatten(1), net[1].weight[[1, 2, 3]].abs(), atol=1e-6)
    assert net[1].weight.grad is None


def test_noise_smooths(nets, digits) -> None:
    plain = input_gradient(nets["cct"], digits.images[:4])
    assert torch.allclose(smooth_grad(nets["cct"], digits.images[:4], noise=0, samples=2), plain, atol=1e-5)
    once, again = (smooth_grad(nets["cct"], digits.images[:4], samples=4) for _ in range(2))
    assert torch.equal(once, again)
    assert not torch.allclose(once, plain, atol=1e-3)
    assert not torch.equal(once, smooth_grad(nets["cct"], digits.images[:4], samples=4, seed=1))


def test_bad_input(nets, digits) -> None:
    with pytest.raises(InputError, match="one class from 0 to 9 for each of 4 images"):
        input_gradient(nets["cct"], digits.images[:4], target=torch.tensor([0, 1, 2, 10]))
    with pytest.raises(InputError, match="samples is 0"):
        smooth_grad(nets["cct"], digits.images[:4], samples=0)


def test_plot(nets, digits) -> None:
    figure = plot_saliency(digits.raw[:3], input_gradient(nets["cct"], digits.images[:3]))
    assert "99th percentile" in figure.axes[-1].get_ylabel()
