"""Attention on CPUs takes its own way where PyTorch's is slow: it must be the same function. And a block's branches."""

import pytest
import torch

from cct_lightning.models.arch import resolve_arch
from cct_lightning.models.encoder import Attention, Block, _cpu_mask


def attention(drop: float = 0.0) -> Attention:
    torch.manual_seed(0)
    return Attention(embed_dim=32, num_heads=4, attn_drop=drop, proj_drop=0.0)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_both_ways_agree(dtype: torch.dtype) -> None:
    # These types take the way by parts, float32 that of scaled_dot_product_attention.
    module, x = attention(), torch.randn(2, 10, 32)
    expected = module(x)
    found = module.to(dtype)(x.to(dtype)).float()
    assert (found - expected).abs().max() < (0.02 if dtype == torch.bfloat16 else 1e-6)


def test_a_rate_that_drops_next_to_nothing_changes_next_to_nothing() -> None:
    x = torch.randn(2, 10, 32, requires_grad=True)
    found = []
    for drop in (0.0, 1e-6):
        y = attention(drop).train()(x)
        (gradient,) = torch.autograd.grad(y.square().sum(), x)
        found.append((y, gradient))
    for a, b in zip(*found, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("p", [0.1, 0.5])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_mask_keeps_the_right_share(p: float, dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    mask = _cpu_mask(torch.empty(63, 1001, dtype=dtype), p)  # not a multiple of four
    assert mask.dtype == dtype
    assert mask.shape == (63, 1001)
    assert set(mask.unique().tolist()) == {0.0, 1.0}
    deviation = (p * (1 - p) / mask.numel()) ** 0.5
    assert abs(float(mask.float().mean()) - (1 - p)) < 5 * deviation
    # No two of the four elements that one draw decides over go together.
    groups = mask.float().flatten()[: mask.numel() // 4 * 4].reshape(-1, 4)
    pairs = torch.corrcoef(groups.T) - torch.eye(4)
    assert pairs.abs().max() < 5 / len(groups) ** 0.5


def test_dropout_keeps_the_mean_and_follows_the_seed() -> None:
    module, x = attention(0.3).train(), torch.randn(1, 10, 32)
    torch.manual_seed(2)
    draws = module(x.expand(2000, -1, -1))
    torch.manual_seed(2)
    assert torch.equal(module(x.expand(2000, -1, -1)), draws)
    assert not torch.equal(draws[1], draws[0])
    expected = module.eval()(x)[0]
    error = draws.std(0) / len(draws) ** 0.5
    assert ((draws.mean(0) - expected).abs() < 5 * error).all()


def test_a_block_has_stochastic_depth() -> None:
    torch.manual_seed(0)
    block = Block(resolve_arch("cct_2_3x2", embed_dim=8, num_heads=2, mlp_ratio=1, attn_drop=0.0), drop_path=0.25)
    x = torch.randn(1, 3, 8, requires_grad=True)
    batch = x.expand(4000, -1, -1)
    found = block.train()(batch)
    shares = []
    for weigh_attention in (0, 1 / 0.75):
        stream = block.norm2(x + weigh_attention * block.attn(block.norm1(x)))
        for weigh_mlp in (0, 1 / 0.75):
            expected = stream + weigh_mlp * block.mlp(stream)
            shares.append(torch.isclose(found, expected, atol=1e-5).all((1, 2)).float().mean().item())
    # Each branch is skipped by itself: 1/16, 3/16, 3/16 and 9/16, within four standard errors.
    assert sum(shares) == pytest.approx(1)
    assert shares == pytest.approx([0.0625, 0.1875, 0.1875, 0.5625], abs=0.032)
    # No gradient passes through a branch that is skipped.
    skipped = torch.isclose(found, block.norm2(x), atol=1e-5).all((1, 2))
    weigh = torch.randn(3, 8)
    (gradient,) = torch.autograd.grad((weigh * found).sum(), batch)
    (expected,) = torch.autograd.grad((weigh * block.norm2(x)).sum(), x)
    torch.testing.assert_close(gradient[skipped], expected.expand(int(skipped.sum()), -1, -1))
    assert not torch.isclose(gradient[~skipped], expected, atol=1e-5).all((1, 2)).any()
    stream = block.norm2(x + block.attn(block.norm1(x)))
    torch.testing.assert_close(block.eval()(x), stream + block.mlp(stream))
    block.drop_path.p = 0.999999  # a batch of which no sample stays
    torch.testing.assert_close(block.train()(x), block.norm2(x))
