"""Over the whole space of options: a model builds and a step gives a finite loss, or one sentence says why not."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st
from torch import nn

from cct_lightning.errors import InputError
from cct_lightning.training.module import Classifier
from cct_lightning.training.optim import Optim
from cct_lightning.training.optim.optimizers import build_optimizer

number = st.integers(0, 5)
archs = st.one_of(
    st.builds("cct_{}_{}x{}".format, number, st.integers(0, 8), number),
    st.builds("{}_{}_{}".format, st.sampled_from(["cvt", "vit"]), number, st.integers(0, 9)),
    st.builds("cct_{}_{}x{}_{}_sine".format, number, number, number, st.integers(1, 40)),
    st.text("cvit_x0123456789 sine", max_size=12),
)
rate = st.one_of(st.floats(0, 1), st.sampled_from([0.0, 1.0, -0.1, 1.5, float("nan"), float("inf")]))
parts = st.fixed_dictionaries(
    {"embed_dim": st.sampled_from([0, -4, 1, 6, 12, 16, 30]), "depth": st.integers(-1, 3)},
    optional={
        "num_heads": st.integers(-1, 6),
        "mlp_ratio": st.one_of(st.floats(0.01, 4), st.sampled_from([0.0, -1.0, 1e-4, float("nan")])),
        "tokenizer": st.sampled_from(["conv", "patch", "cov", "subprocess.Popen"]),
        "kernel_size": st.integers(-1, 9),
        "conv_blocks": st.integers(-1, 6),
        "position": st.sampled_from(["learnable", "sine", "none", "sin"]),
        "pool": st.sampled_from(["seqpool", "class_token", "mean", "max", "", "os.system"]),
        "attn_drop": rate,
        "proj_drop": rate,
        "drop_path_rate": rate,
    },
)
side = st.integers(0, 33)


@settings(max_examples=150, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(
    arch=archs,
    parts=parts,
    size=st.tuples(side, side),
    in_chans=st.sampled_from([1, 3, 0]),
    num_classes=st.integers(0, 12),
    batch=st.integers(1, 5),
    smoothing=rate,
    ema=st.one_of(st.none(), rate),
    optim=st.fixed_dictionaries(
        {"optimizer": st.sampled_from(["adamw", "muon", "adam"])},
        optional={
            "lr": st.one_of(st.floats(1e-6, 0.1), st.sampled_from([0.0, -1.0, float("nan"), float("inf")])),
            "weight_decay": st.one_of(st.floats(0, 1), st.sampled_from([-1.0, float("nan")])),
        },
    ),
)
def test_a_finite_step_or_one_sentence(
    arch: str,
    parts: dict[str, Any],
    size: tuple[int, int],
    in_chans: int,
    num_classes: int,
    batch: int,
    smoothing: float,
    ema: float | None,
    optim: dict[str, Any],
) -> None:
    torch.manual_seed(0)
    try:
        model = Classifier(
            arch=arch,
            img_size=size,
            in_chans=in_chans,
            num_classes=num_classes,
            label_smoothing=smoothing,
            ema_decay=ema,
            optim=Optim(**optim),
            **parts,
        )
        model.configure_callbacks()
        optimizer = build_optimizer(model.net, model.optim, global_batch_size=batch, finetune=model.finetune)
    except InputError as error:
        event("refused")
        if "\n" in str(error) or len(str(error)) < 20:
            pytest.fail(f"no sentence: {error}")
        return
    event("trained")
    images, labels = torch.randn(batch, in_chans, *size), torch.randint(num_classes, (batch,))
    for _ in range(2):
        logits = model(images)
        assert logits.shape == (batch, num_classes)
        loss = nn.functional.cross_entropy(logits, labels, label_smoothing=smoothing)
        assert torch.isfinite(loss)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert all(torch.isfinite(weight).all() for weight in model.parameters())


def test_most_of_the_space_is_not_refused() -> None:
    # The property above would hold for a program that refuses everything.
    trained = 0
    for arch in ("cct_2_3x1", "cct_2_3x2", "cvt_2_4", "vit_2_4", "cct_1_5x1_16_sine"):
        for pool in ("seqpool", "class_token", "mean", "max"):
            for position in ("learnable", "sine", "none"):
                Classifier(arch=arch, pool=pool, position=position, img_size=(16, 16), embed_dim=16)
                trained += 1
    assert trained == 60


@pytest.mark.parametrize(
    "make",
    [
        lambda: Optim(lr=float("nan")),
        lambda: Optim(weight_decay=float("nan")),
        lambda: Classifier(label_smoothing=float("nan")),
        lambda: Classifier(ema_decay=float("nan")).configure_callbacks(),
        lambda: Classifier(attn_drop=float("nan")),
    ],
)
def test_nan_is_no_option(make: Callable[[], Any]) -> None:
    with pytest.raises(InputError):
        make()
