"""What each choice brings on a CPU, against what one would write without it.

    python benchmarks/cpu_parts.py                       (about 5 minutes on 2 cores)

Alternatives of one part are measured in turns in one process; whether freed memory is kept, in a process each. The
shapes are those of CCT-2/3x2 at batch 128 and CCT-7/3x1 at batch 16. Times are forward and backward, in milliseconds.
"""

import argparse
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.report import conditions, write
from cct_lightning.models.arch import parse_arch
from cct_lightning.models.encoder import Attention, Block
from cct_lightning.models.factory import create_model
from cct_lightning.training.memory import keep_freed_memory
from cct_lightning.training.optim import Optim
from cct_lightning.training.optim.muon import muon_names
from cct_lightning.training.optim.optimizers import build_optimizer

functional = nn.functional


def turns(ways: Mapping[str, Callable[[], Any]], repeats: int) -> dict[str, float]:
    """Return the median milliseconds of each way."""
    found: dict[str, list[float]] = {name: [] for name in ways}
    for way in ways.values():
        way()
    for _ in range(repeats):
        for name, way in ways.items():
            start = time.perf_counter()
            way()
            found[name].append(1e3 * (time.perf_counter() - start))
    return {name: statistics.median(times) for name, times in found.items()}


def back(module: nn.Module, x: Tensor) -> None:
    module(x).sum().backward()


def step_both(first: torch.optim.Optimizer, second: torch.optim.Optimizer) -> None:
    first.step()
    second.step()


class Sdpa(Attention):
    """The one call that PyTorch offers."""

    def forward(self, x: Tensor) -> Tensor:  # noqa: D102
        q, k, v = self.split(x)
        x = functional.scaled_dot_product_attention(q, k, v, dropout_p=self.attn_drop if self.training else 0.0)
        return self.proj_drop(self.proj(x.transpose(1, 2).flatten(2)))


class Plain(Attention):
    """The parts with PyTorch's dropout, as vit-pytorch and the reference have them."""

    def forward(self, x: Tensor) -> Tensor:  # noqa: D102
        q, k, v = self.split(x)
        weights = (q * q.shape[-1] ** -0.5 @ k.mT).softmax(-1)
        x = functional.dropout(weights, self.attn_drop, self.training) @ v
        return self.proj_drop(self.proj(x.transpose(1, 2).flatten(2)))


def attention(repeats: int) -> list[dict[str, Any]]:
    rows = []
    for size, dim, heads in (((128, 64, 128), 128, 2), ((16, 256, 256), 256, 4)):
        for dtype in (torch.float32, torch.bfloat16):
            for drop in (0.1, 0.0):
                x = torch.randn(size, dtype=dtype)
                ways = {
                    name: partial(
                        back, kind(embed_dim=dim, num_heads=heads, attn_drop=drop, proj_drop=0.0).to(dtype), x
                    )
                    for name, kind in (("ours", Attention), ("SDPA", Sdpa), ("parts, nn.Dropout", Plain))
                }
                what = f"attention {size}, {str(dtype)[6:]}, dropout {drop}"
                rows.append({"what": what, **told(turns(ways, repeats))})
    return rows


class Skipping(Block):
    """Computes the branches for the samples that stay alone."""

    def _branch(self, x: Tensor, branch: Callable[[Tensor], Tensor]) -> Tensor:
        p = self.drop_path.p
        stay = (torch.rand(len(x)) >= p).nonzero()[:, 0]
        return x.index_add(0, stay, branch(x.index_select(0, stay)).to(x.dtype), alpha=1 / (1 - p))

    def forward(self, x: Tensor) -> Tensor:  # noqa: D102
        x = self._branch(x, lambda x: self.attn(self.norm1(x)))
        return self._branch(self.norm2(x), self.mlp)


def drop_path(repeats: int) -> list[dict[str, Any]]:
    rows = []
    for size, arch in (((128, 64, 128), parse_arch("cct_2_3x2")), ((16, 256, 256), parse_arch("cct_7_3x1"))):
        ways: dict[str, Callable[[], Any]] = {}
        for name, kind in (("ours", Block), ("skipping samples", Skipping)):
            block = kind(arch, drop_path=0.1).bfloat16()
            ways[name] = partial(back, block, torch.randn(size, dtype=torch.bfloat16))
        rows.append({"what": f"block {size}, bfloat16, drop path 0.1", **told(turns(ways, repeats))})
    return rows


def tokenizer(repeats: int) -> list[dict[str, Any]]:
    rows, pool = [], nn.MaxPool2d(3, 2, 1)
    for dtype in (torch.float32, torch.bfloat16):
        conv = nn.Conv2d(3, 64, 3, 1, 1, bias=False).to(dtype)
        images = torch.randn(128, 3, 32, 32, dtype=dtype)
        last = images.contiguous(memory_format=torch.channels_last)
        ways = {
            "ours": partial(back, nn.Sequential(conv, pool, nn.ReLU(inplace=True)), last),
            "ReLU first": partial(back, nn.Sequential(conv, nn.ReLU(inplace=True), pool), last),
            "ReLU first, channels first": partial(back, nn.Sequential(conv, nn.ReLU(inplace=True), pool), images),
        }
        rows.append({"what": f"first convolution block, {str(dtype)[6:]}", **told(turns(ways, repeats))})
    return rows


def optimizers(repeats: int) -> list[dict[str, Any]]:
    rows = []
    for arch in ("cct_2_3x2", "cct_7_3x1"):
        net = create_model(arch)
        for p in net.parameters():
            p.grad = torch.randn_like(p)
        ways: dict[str, Callable[[], Any]] = {
            "ours": build_optimizer(net, Optim(), global_batch_size=128).step,
            "AdamW, default": torch.optim.AdamW(net.parameters()).step,
        }
        rows.append({"what": f"AdamW, {arch}", **told(turns(ways, repeats))})
        names = muon_names(net)
        # torch's Muon takes no convolutions: they are AdamW's on its side.
        taken = [p for name, p in net.named_parameters() if name in names and p.ndim == 2]
        others = [p for name, p in net.named_parameters() if not (name in names and p.ndim == 2)]
        muon, adamw = torch.optim.Muon(taken), torch.optim.AdamW(others, fused=True)
        ways = {
            "ours": build_optimizer(net, Optim(optimizer="muon"), global_batch_size=128).step,
            "torch's Muon and AdamW, no convolutions": partial(step_both, muon, adamw),
        }
        rows.append({"what": f"Muon, {arch}", **told(turns(ways, repeats))})
    return rows


def child(keep: bool, precision: str) -> float:
    """Return the median milliseconds of a training step of CCT-2/3x2."""
    if keep:
        keep_freed_memory()
    net = create_model("cct_2_3x2")
    optimizer = build_optimizer(net, Optim(), global_batch_size=128)
    images, labels = torch.randn(128, 3, 32, 32), torch.randint(10, (128,))

    def step() -> None:
        optimizer.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16", cache_enabled=False):
            loss = functional.cross_entropy(net(images), labels)
        loss.backward()
        optimizer.step()

    return turns({"step": step}, 9)["step"]


def memory(repeats: int) -> list[dict[str, Any]]:
    rows = []
    for precision in ("float32", "bf16"):
        found: dict[str, list[float]] = {"ours": [], "glibc's default": []}
        for _ in range(max(3, repeats // 5)):
            for name, flag in (("ours", ["--keep"]), ("glibc's default", [])):
                command = [sys.executable, __file__, "--child", precision, *flag]
                done = subprocess.run(command, check=True, capture_output=True, text=True)
                found[name].append(float(done.stdout.split()[-1]))
        medians = {name: statistics.median(times) for name, times in found.items()}
        rows.append({"what": f"training step with freed memory kept, {precision}", **told(medians)})
    return rows


def told(medians: dict[str, float]) -> dict[str, Any]:
    """Return the columns of one row."""
    ours, *others = medians.items()
    return {
        "ours, ms": round(ours[1], 2),
        "without, ms": "; ".join(f"{name} {ms:.2f}" for name, ms in others),
        "times faster": "; ".join(f"{ms / ours[1]:.2f}" for _, ms in others),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=15, help="turns")
    parser.add_argument("--child", choices=("float32", "bf16"), help=argparse.SUPPRESS)
    parser.add_argument("--keep", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        print(child(args.keep, args.child))
        return
    conditions_before = conditions("torch")
    rows = memory(args.repeats)
    keep_freed_memory()
    for part in (attention, drop_path, tokenizer, optimizers):
        rows += part(args.repeats)
    notes = (
        f"Forward and backward, or one optimizer step; {torch.get_num_threads()} threads; medians of {args.repeats} "
        "turns in one process that keeps freed memory, but for the rows about that, which are fresh processes."
    )
    print(write("cpu_parts", "What each choice brings on a CPU", notes, rows, conditions_before))


if __name__ == "__main__":
    main()
