"""What PyTorch does to a model: compile, export, function transforms, bfloat16, other image sizes."""

import pytest
import torch
from torch import nn
from torch._dynamo.utils import counters
from torch.func import functional_call, grad, vmap

from cct_lightning.models.factory import create_model

NAMES = ["cct_2_3x2", "cvt_2_4_32_sine", "vit_2_4"]


@pytest.fixture(autouse=True)
def _fresh_compiler() -> None:
    torch._dynamo.reset()
    counters.clear()


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("training", [False, True])
def test_one_graph_for_every_batch_size(name: str, training: bool) -> None:
    model = create_model(name).train(training)
    compiled = torch.compile(model, backend="eager", fullgraph=True)
    # From 16 on: below that PyTorch itself chooses another convolution on a CPU, which is a second graph.
    images = torch.randn(16, 3, 32, 32)
    torch._dynamo.mark_dynamic(images, 0)
    compiled(images)
    for batch in (17, 24, 33):
        assert compiled(torch.randn(batch, 3, 32, 32)).shape == (batch, 10)
    assert counters["stats"]["unique_graphs"] == 1
    assert not counters["graph_break"]
    if not training:
        images = torch.randn(20, 3, 32, 32)
        torch.testing.assert_close(compiled(images), model(images))


def test_without_marking_the_second_size_is_the_last_compilation() -> None:
    compiled = torch.compile(create_model("cct_2_3x2", depth=1).eval(), backend="eager", fullgraph=True)
    for batch in (16, 17, 24, 33):
        compiled(torch.randn(batch, 3, 32, 32))
    assert counters["stats"]["unique_graphs"] == 2


@pytest.mark.parametrize("name", ["cct_2_3x2", "vit_2_4"])
def test_gradients_of_the_compiled_model(name: str) -> None:
    model = create_model(name, depth=1).eval()
    images = torch.randn(4, 3, 32, 32)
    model(images).square().sum().backward()
    expected = {key: p.grad.clone() for key, p in model.named_parameters()}
    model.zero_grad()
    torch.compile(model, backend="aot_eager", fullgraph=True)(images).square().sum().backward()
    for key, parameter in model.named_parameters():
        torch.testing.assert_close(parameter.grad, expected[key], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_export_with_a_free_batch(name: str) -> None:
    model = create_model(name).eval()
    shapes = ({0: torch.export.Dim("batch", min=1)},)
    program = torch.export.export(model, (torch.randn(2, 3, 32, 32),), dynamic_shapes=shapes).module()
    for batch in (1, 5):
        images = torch.randn(batch, 3, 32, 32)
        torch.testing.assert_close(program(images), model(images))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.filterwarnings("ignore:There is a performance drop")
def test_gradients_per_sample(name: str) -> None:
    model = create_model(name, depth=1).eval()
    weights, images, labels = dict(model.named_parameters()), torch.randn(3, 3, 32, 32), torch.tensor([1, 5, 9])

    def loss(weights: dict[str, torch.Tensor], image: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
        return nn.functional.cross_entropy(functional_call(model, weights, (image[None],)), label[None])

    found = vmap(grad(loss), (None, 0, 0))(weights, images, labels)
    nn.functional.cross_entropy(model(images), labels).backward()
    for key, value in weights.items():
        torch.testing.assert_close(found[key].mean(0), value.grad, rtol=1e-3, atol=1e-6)


def test_gradients_per_sample_in_training() -> None:
    # Without stochastic depth, whose draws (torchvision's) do not vmap.
    model = create_model("cct_2_3x2", drop_path_rate=0.0, attn_drop=0.5)
    image = torch.randn(3, 32, 32).expand(4, -1, -1, -1)

    def total(weights: dict[str, torch.Tensor], image: torch.Tensor) -> torch.Tensor:
        return functional_call(model, weights, (image[None],)).square().sum()

    weights = dict(model.named_parameters())
    found = vmap(grad(total), (None, 0), randomness="different")(weights, image)["head.weight"]
    assert not torch.allclose(found[0], found[1])  # each sample has dropout of its own


@pytest.mark.parametrize("name", NAMES)
@torch.no_grad()
def test_bfloat16(name: str) -> None:
    model, images = create_model(name).eval(), torch.randn(2, 3, 40, 32)
    expected = model(images)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        torch.testing.assert_close(model(images).float(), expected, rtol=0.1, atol=0.05)
    half = model.bfloat16()(images.bfloat16())
    assert half.dtype == torch.bfloat16
    torch.testing.assert_close(half.float(), expected, rtol=0.1, atol=0.05)


@pytest.mark.parametrize("position", ["learnable", "sine", "none"])
@pytest.mark.parametrize("pool", ["seqpool", "class_token"])
@pytest.mark.parametrize(
    ("name", "sizes"), [("cct_2_3x2", [(33, 20), (5, 3), (64, 7)]), ("vit_2_4", [(4, 64), (36, 8)])]
)
@torch.no_grad()
def test_any_image_size(name: str, sizes: list[tuple[int, int]], pool: str, position: str) -> None:
    model = create_model(name, pool=pool, position=position).eval()
    for size in sizes:
        logits = model(torch.randn(2, 3, *size))
        assert logits.shape == (2, 10)
        assert logits.isfinite().all()
