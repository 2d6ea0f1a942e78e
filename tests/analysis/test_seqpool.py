import pytest
import torch
from torch import nn

from cct_lightning.analysis import mean_by_class, plot_class_weights, plot_pool_weights, pool_weights
from cct_lightning.analysis.seqpool import read_weights
from cct_lightning.errors import InputError
from cct_lightning.models.factory import create_model
from cct_lightning.models.pooling import Pooling


def test_sums_to_one(net, digits) -> None:
    weights = pool_weights(net, digits.images)
    assert weights.shape == (len(digits.images), 4, 4)
    assert torch.allclose(weights.sum((1, 2)), torch.ones(len(weights)), atol=1e-5)
    assert (weights >= 0).all()


def test_seqpool_weights_give_the_pooled_vector(nets, digits) -> None:
    net = nets["cct"].eval()
    weights = pool_weights(net, digits.images)
    features = net.forward_features(digits.images)
    assert torch.allclose(net.pool(features), torch.einsum("bn,bnd->bd", weights.flatten(1), features), atol=1e-5)
    net.train()


def test_mean_and_max(nets, digits) -> None:
    assert torch.allclose(pool_weights(nets["cct_mean"], digits.images), torch.tensor(1 / 16))
    net = nets["cvt_max"].eval()
    features = net.forward_features(digits.images)
    counts = torch.stack([torch.bincount(row, minlength=16) for row in features.argmax(1)]) / features.shape[2]
    assert torch.allclose(pool_weights(net, digits.images).flatten(1), counts)
    net.train()


def test_class_token_attends(nets, digits) -> None:
    net = nets["vit"].eval()
    stream = net.embed(digits.images)
    stream = net.encoder.blocks[0](stream)
    row = net.encoder.blocks[1].attn.weights(net.encoder.blocks[1].norm1(stream)).mean(1)[:, 0, 1:]
    assert torch.allclose(pool_weights(net, digits.images).flatten(1), row / row.sum(1, keepdim=True), atol=1e-5)
    net.train()


def test_other_sizes_and_sides() -> None:
    net = create_model("cct_2_3x2", img_size=32)
    assert pool_weights(net, torch.randn(2, 3, 48, 32)).shape == (2, 12, 8)


def test_own_pooling() -> None:
    class First(Pooling):
        def forward(self, tokens: torch.Tensor) -> torch.Tensor:
            return tokens[:, 0]

    with pytest.raises(InputError, match=r"First does not say its weights: give it a method weights"):
        read_weights(First(embed_dim=4), torch.zeros(1, 3, 4))

    class Telling(First):
        def weights(self, tokens: torch.Tensor) -> torch.Tensor:
            return nn.functional.one_hot(torch.zeros(len(tokens), dtype=torch.long), tokens.shape[1])

    assert read_weights(Telling(embed_dim=4), torch.zeros(1, 3, 4)).tolist() == [[1.0, 0.0, 0.0]]


def test_by_class(nets, digits) -> None:
    maps = pool_weights(nets["cct"], digits.images)
    mean = mean_by_class(maps, digits.labels, num_classes=11)
    assert torch.allclose(mean[3], maps[digits.labels == 3].mean(0), atol=1e-6)
    assert mean[10].isnan().all()
    assert plot_class_weights(mean, classes=[str(k) for k in range(11)]).axes
    with pytest.raises(InputError, match="11 maps but 10 class names"):
        plot_class_weights(mean, classes=[str(k) for k in range(10)])


def test_plot(nets, digits) -> None:
    figure = plot_pool_weights(digits.raw[:3], pool_weights(nets["cct"], digits.images[:3]), titles=["a", "b", "c"])
    assert [ax.get_title() for ax in figure.axes[:3]] == ["a", "b", "c"]
    assert "uniform weight" in figure.axes[-1].get_ylabel()
