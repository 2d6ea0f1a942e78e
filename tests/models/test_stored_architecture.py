"""What a checkpoint says of its architecture is used, or contradicted in one sentence, where shapes do not show it."""

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from cct_lightning.commands.convert import convert
from cct_lightning.errors import InputError
from cct_lightning.models.factory import create_model, load_model
from cct_lightning.models.weights.architecture import differing_parts
from cct_lightning.models.weights.reader import check_finite
from cct_lightning.training.checks import check_fits
from cct_lightning.training.module import Classifier

HEADS: dict[str, Any] = {"num_heads": 8}
POOL: dict[str, Any] = {"pool": "mean"}
PIXELS: dict[str, Any] = {"img_size": (8, 8), "in_chans": 1}


def content_of(module: Classifier) -> dict[str, Any]:
    return {
        "pytorch-lightning_version": "2.6.1",
        "state_dict": module.state_dict(),
        "hyper_parameters": dict(module.hparams),
    }


@pytest.fixture
def save(tmp_path: Path) -> Callable[..., Path]:
    """Save the checkpoint of a module with these parts."""

    def saved(ending: str = ".ckpt", **parts: Any) -> Path:
        torch.save(content_of(Classifier(arch="cct_2_3x1", **PIXELS, **parts)), tmp_path / "w.ckpt")
        return tmp_path / "w.ckpt" if ending == ".ckpt" else convert(tmp_path / "w.ckpt", tmp_path / f"w{ending}")

    return saved


@pytest.mark.parametrize(("trained", "asked"), [(HEADS, {}), (POOL, {"pool": "max"}), (POOL, {"depth": 2})], ids=str)
@pytest.mark.parametrize("ending", [".ckpt", ".safetensors", ".pth"])
def test_what_shapes_do_not_show(
    ending: str, trained: dict[str, Any], asked: dict[str, Any], save: Callable[..., Path], caplog: Any
) -> None:
    path = save(ending, **trained)
    (part, value), other = next(iter(trained.items())), {"num_heads": 2, "pool": "seqpool", **asked}
    if part in asked:
        with caplog.at_level(logging.WARNING):
            create_model("cct_2_3x1", pretrained=path, **asked)
        assert f"was trained with {part}={value!r}, and is used with {other[part]!r}" in caplog.text
    else:
        expected = rf"w\{ending} holds cct_2_3x1 with {part}={value!r} and .* which has {part}={other[part]!r}: choose"
        for build in (create_model, lambda arch, **options: Classifier(arch=arch, **PIXELS, **options)):
            with pytest.raises(InputError, match=expected) as error:
                build("cct_2_3x1_32", pretrained=str(path), **asked)
            assert "\n" not in str(error.value)
    caplog.clear()
    create_model("cct_2_3x1_32", pretrained=path, **trained)
    for arch in (None, "cct_2_3x1", "cct_2_3x1_32"):  # another name of the same model
        assert getattr(load_model(path, arch=arch)[0].arch, part) == value
    assert caplog.text == ""


def test_dropout_and_positions_may_differ(save: Callable[..., Path], caplog: pytest.LogCaptureFixture) -> None:
    path = save(proj_drop=0.3, position="sine")
    create_model("cct_2_3x1", pretrained=path, attn_drop=0.0, drop_path_rate=0.2)
    assert caplog.text == ""


def test_a_run_continues_with_its_own_architecture() -> None:
    module = Classifier(arch="cct_2_3x1", pool="mean", **PIXELS)
    check_fits(module, content_of(module))
    with pytest.raises(InputError, match="with pool='mean' and does not fit cct_2_3x1, which has pool='max'"):
        check_fits(Classifier(arch="cct_2_3x1", pool="max", **PIXELS), content_of(module))
    heads = Classifier(arch="cct_2_3x1", pool="mean", num_heads=8, **PIXELS)
    with pytest.raises(InputError, match="which has num_heads=8"):
        heads.on_load_checkpoint(content_of(module))


def test_a_class_of_the_users_with_and_without_its_defaults(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "my_lab.py").write_text(
        "from cct_lightning.models.pooling import Pooling\n"
        "class Power(Pooling):\n"
        "    def __init__(self, *, embed_dim, p=2.0):\n"
        "        super().__init__(embed_dim=embed_dim)\n"
        "    def forward(self, tokens):\n"
        "        return tokens.mean(1)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    arch = create_model("cct_2_3x1", pool="my_lab.Power").arch
    for arguments, same in (({"p": 2.0}, True), ({"p": 3.0}, False)):
        pool = {"class_path": "my_lab.Power", "init_args": arguments}
        assert (differing_parts({"arch": "cct_2_3x1", "pool": pool}, arch) == {}) == same
    assert differing_parts({"arch": "cct_2_3x1", "parts": {"pool": "my_lab.Power"}}, arch) == {}


def lost(module: Classifier, name: str, value: float) -> dict[str, Any]:
    content = content_of(module)
    content["state_dict"][name].view(-1)[1] = value
    return content


def test_an_option_that_contradicts_the_checkpoint_is_refused(save: Callable[..., Path]) -> None:
    path = save(num_heads=4)
    assert Classifier.load_from_checkpoint(path).net.arch.num_heads == 4
    with pytest.raises(InputError, match="num_heads=2"):
        Classifier.load_from_checkpoint(path, num_heads=2)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_lost_weights_are_refused_by_name(value: float, tmp_path: Path) -> None:
    module, name = Classifier(arch="cct_2_3x1", **PIXELS), "encoder.blocks.1.mlp.fc1.weight"
    content = lost(module, f"net.{name}", value)
    torch.save({**content, "loops": {}}, tmp_path / "w.ckpt")
    ways: list[Callable[[Path], object]] = [
        load_model,  # of predict, explain and export
        lambda path: convert(path, tmp_path / "out.safetensors"),
        lambda path: create_model("cct_2_3x1", pretrained=path),
        lambda path: Classifier(arch="cct_2_3x1", pretrained=str(path), **PIXELS),
        Classifier.load,
        lambda path: check_fits(module, torch.load(path, weights_only=True)),
    ]
    for way in ways:
        with pytest.raises(InputError, match=rf"holds NaN or infinite values \((net\.)?{name}\)") as error:
            way(tmp_path / "w.ckpt")
        assert "\n" not in str(error.value)
    assert [path.name for path in tmp_path.iterdir()] == ["w.ckpt"]


def test_what_training_continues_from_is_checked_beside_the_average() -> None:
    module = Classifier(arch="cct_2_3x1", **PIXELS)
    good = {name: value.clone() for name, value in module.state_dict().items()}
    trained = lost(module, "net.head.weight", float("nan"))["state_dict"]
    with pytest.raises(InputError, match=r"\(net\.head\.weight\)"):
        module.on_load_checkpoint({"state_dict": good, "hyper_parameters": {}, "current_model_state": trained})


def test_a_mask_may_be_infinite_and_statistics_not_nan() -> None:
    infinite, nan = torch.tensor([0.0, float("-inf")]), torch.tensor([float("nan")])
    check_finite({"mask": infinite, "count": torch.tensor(3)}, ["weight"], "x.pth")
    for state in ({"weight": infinite}, {"bn1.running_var": nan}):
        with pytest.raises(InputError, match=rf"x\.pth holds NaN or infinite values \({next(iter(state))}\)"):
            check_finite(state, ["weight"], "x.pth")
