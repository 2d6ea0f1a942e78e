import pytest
import torch

from cct_lightning.analysis import plot_position_similarity, position_embedding, position_similarity
from cct_lightning.errors import InputError
from cct_lightning.models.factory import create_model


def test_similarity(net) -> None:
    if net.arch.position == "none":
        with pytest.raises(InputError, match="no position embedding"):
            position_similarity(net)
        return
    similarity = position_similarity(net)
    assert similarity.shape == (4, 4, 4, 4)
    flat = similarity.reshape(16, 16)
    assert torch.allclose(flat.diagonal(), torch.ones(16), atol=1e-5)
    assert torch.allclose(flat, flat.T, atol=1e-5)
    table = net.position.embedding.detach()[0, net.pool.num_prefix_tokens :]
    assert torch.allclose(position_embedding(net).flatten(0, 1), table, atol=1e-6)
    assert float(flat[0, 5]) == pytest.approx(float(torch.cosine_similarity(table[0], table[5], dim=0)), abs=1e-5)


def test_sine_neighbors_are_alike() -> None:
    similarity = position_similarity(create_model("cct_2_3x2", position="sine"))
    row = similarity[4, 4].flatten()
    assert row.argsort(descending=True)[:3].sort().values.tolist() == [35, 36, 37]


def test_other_size() -> None:
    net = create_model("vit_2_4", img_size=16)
    assert position_embedding(net, img_size=(16, 24)).shape == (4, 6, 128)


def test_plot_shows_some_places_of_a_large_grid() -> None:
    figure = plot_position_similarity(position_similarity(create_model("cct_2_3x1")), most=4)
    assert len(figure.axes) == 17  # 4x4 places and the color bar
    assert [ax.get_title() for ax in figure.axes[:4]] == ["1,1", "1,6", "1,11", "1,16"]
