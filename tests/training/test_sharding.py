"""What FSDP changes for a model, and what is refused beside it."""

from collections.abc import Iterator

import pytest
import pytorch_lightning as pl
import torch
from jsonargparse import Namespace
from pytorch_lightning.strategies import DDPStrategy, FSDPStrategy
from torch import distributed

from cct_lightning.errors import InputError
from cct_lightning.models.factory import create_model
from cct_lightning.training.checks import check_sharding
from cct_lightning.training.optim.groups import parameter_groups
from cct_lightning.training.sharding import is_sharded, remember_shapes
from cct_lightning.training.trainer import build_trainer


class Sharded(FSDPStrategy):
    """A subclass, which Lightning lets a CPU have."""


@pytest.fixture
def trainer() -> Iterator[pl.Trainer]:
    yield pl.Trainer(accelerator="cpu", devices=2, strategy=Sharded(), logger=False, enable_checkpointing=False)
    assert not distributed.is_initialized()


@pytest.mark.parametrize(
    ("options", "word"),
    [({"optimizer": "muon", "ema_decay": None}, "Muon"), ({"optimizer": "adamw", "ema_decay": 0.9}, "ema_decay null")],
)
def test_what_needs_whole_weights_is_refused(trainer: pl.Trainer, options: dict, word: str) -> None:
    assert is_sharded(trainer)
    with pytest.raises(InputError, match=word) as caught:
        check_sharding(trainer, **options)
    assert "\n" not in str(caught.value)
    check_sharding(pl.Trainer(accelerator="cpu", logger=False, enable_checkpointing=False), **options)


def test_adamw_alone_is_fine(trainer: pl.Trainer) -> None:
    check_sharding(trainer, optimizer="adamw", ema_decay=None)


def test_pieces_decay_as_whole_weights_do() -> None:
    net = create_model("cct_2_3x2", num_classes=10)
    remember_shapes(net)
    whole = parameter_groups(net, weight_decay=0.1)
    for parameter in net.parameters():
        parameter.data = torch.empty(parameter.numel() // 2)  # as FSDP leaves it
    pieces = parameter_groups(net, weight_decay=0.1)
    for one, two in zip(whole, pieces, strict=True):
        assert [name for name, _ in one["params"]] == [name for name, _ in two["params"]]


@pytest.mark.parametrize("strategy", ["auto", "ddp", DDPStrategy(find_unused_parameters=True)])
def test_gradients_are_not_copied_to_their_buckets(strategy: str | DDPStrategy) -> None:
    built = build_trainer(Namespace(accelerator="cpu", devices=2, strategy=strategy, logger=False))
    assert isinstance(built.strategy, DDPStrategy)
    assert built.strategy._ddp_kwargs["gradient_as_bucket_view"]
    assert ("find_unused_parameters" in built.strategy._ddp_kwargs) == (strategy not in ("auto", "ddp"))


def test_the_users_options_of_ddp_win() -> None:
    asked = DDPStrategy(gradient_as_bucket_view=False)
    build_trainer(Namespace(accelerator="cpu", devices=2, strategy=asked, logger=False))
    assert not asked._ddp_kwargs["gradient_as_bucket_view"]
