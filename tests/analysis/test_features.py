import pytest
import torch

from cct_lightning.analysis import layer_features, layer_tokens, plot_projection, project
from cct_lightning.errors import InputError


def test_last_layer_feeds_the_head(net, digits) -> None:
    tokens = layer_tokens(net, digits.images[:8])
    assert tokens.shape == (3, 8, 16 + net.pool.num_prefix_tokens, 128)
    net.eval()
    with torch.no_grad():
        logits = net.head(net.pool(net.encoder.norm(tokens[-1])))
        assert torch.allclose(logits, net(digits.images[:8]), atol=1e-5)
    net.train()


def test_features_do_not_depend_on_the_batch(nets, digits) -> None:
    whole = layer_features(nets["vit"], digits.images)
    assert whole.shape == (3, len(digits.images), 128)
    assert torch.allclose(whole, layer_features(nets["vit"], digits.images, batch_size=50), atol=1e-5)
    assert torch.allclose(whole, layer_tokens(nets["vit"], digits.images)[:, :, 1:].mean(2), atol=1e-5)


def test_project(digits) -> None:
    torch.manual_seed(0)
    flat = torch.randn(50, 2).double() @ torch.randn(2, 20).double()
    points = torch.as_tensor(project(flat)).double()
    # Points of a plane keep their distances under PCA.
    assert torch.allclose(torch.cdist(points, points), torch.cdist(flat, flat), atol=1e-3)
    tsne = project(digits.images.flatten(1)[:60], method="tsne")
    assert tsne.shape == (60, 2)
    assert (tsne == project(digits.images.flatten(1)[:60], method="tsne")).all()
    with pytest.raises(InputError, match="at least 3 vectors"):
        project(flat[:2])
    with pytest.raises(InputError, match="choose 'pca' or 'tsne'"):
        project(flat, method="umap")


def test_training_separates_classes(nets, digits) -> None:
    def spread(features: torch.Tensor) -> float:
        """Variance between the classes over the whole."""
        means = torch.stack([features[digits.labels == k].mean(0) for k in range(10)])
        return float(means.var(0).sum() / features.var(0).sum())

    features = layer_features(nets["cct"], digits.images)
    assert spread(features[-1]) > 1.5 * spread(features[0])


def test_plot_tells_ten_classes_apart(digits) -> None:
    points = [project(digits.images.flatten(1))] * 2
    figure = plot_projection(points, digits.labels, classes=[str(k) for k in range(10)], titles=["one", "two"])
    marks = {(tuple(c.get_facecolor()[0]), len(c.get_paths()[0])) for c in figure.axes[0].collections}
    assert len(marks) == 10
    assert len(figure.legends[0].get_texts()) == 10
