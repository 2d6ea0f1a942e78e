"""Muon for matrices and AdamW for all else, as one optimizer.

Source: Jordan et al., "Muon: An optimizer for hidden layers in neural networks" (2024); the size of the update after
Liu et al., "Muon is Scalable for LLM Training", arXiv 2502.16982. The arithmetic is that of `torch.optim.Muon`, which
takes 2-D matrices alone, one at a time; here same-shaped matrices go through the iteration as one batch, and AdamW for
what is no matrix is in the same object, so that a Trainer steps, clips, saves and resumes one optimizer.

Letters: K matrices of one shape, R rows, C columns, R <= C.
"""

import functools
import math
from collections import defaultdict
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.adamw import adamw

from cct_lightning.compat import foreach
from cct_lightning.errors import InputError
from cct_lightning.training.optim.groups import Groups, named_parameters
from cct_lightning.training.optim.options import Optim
from cct_lightning.training.precision import has_bf16


@functools.cache
def _dtype(device_type: str) -> torch.dtype:
    """Return the type of the iterations: asking a driver for it in every step would take as long as some kernels."""
    return torch.bfloat16 if has_bf16(device_type) else torch.float32


def orthogonalize(matrices: Tensor, *, dtype: torch.dtype) -> Tensor:
    """Bring the singular values of matrices (K, R, C) near 1 (0.7 to 1.2) by five Newton-Schulz iterations.

    The arithmetic and the result, (K, R, C), are of type `dtype`; the iterations are stable in bfloat16.
    """
    a, b, c = 3.4445, -4.7750, 2.0315  # of the quintic, chosen for its slope at zero; as in `torch.optim.Muon`
    x = matrices.to(dtype)
    # The Frobenius norm bounds the spectral norm, which must start below 1.
    x = x / x.norm(dim=(1, 2), keepdim=True).clamp(min=1e-7)
    for _ in range(5):
        gram = x @ x.mT  # (K, R, R)
        update = torch.baddbmm(gram, gram, gram, beta=b, alpha=c)
        x = torch.baddbmm(x, update, x, beta=a)
    return x


class MuonAdamW(Optimizer):
    """Muon for the groups marked `muon`, AdamW for the others.

    Args:
        params: Parameter groups. Those with `muon: True` hold matrices, or convolution kernels, which are taken as
            matrices (out, in * height * width). `lr` and decoupled `weight_decay` are those of groups that bring none.
        betas: Decay rates of AdamW's moments; `eps` is added to its denominator.
        momentum: Muon's Nesterov momentum.
    """

    def __init__(
        self,
        params: list[dict[str, Any]],
        *,
        lr: float,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        momentum: float = 0.95,
    ) -> None:
        defaults = {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay, "momentum": momentum}
        # `fused` tells torch that a restored `step` belongs to the parameters' device, as the fused AdamW takes it.
        super().__init__(params, {**defaults, "muon": False, "fused": True})

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore a state, also one of a checkpoint whose groups do not say that they are fused."""
        groups = [{**group, "fused": True} for group in state_dict["param_groups"]]
        super().load_state_dict({**state_dict, "param_groups": groups})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """Update every parameter that has a gradient, after a closure (Lightning's) that computes the gradients."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            params = [p for p in group["params"] if p.grad is not None]
            if params and group["muon"]:
                self._muon(params, group)
            elif params:
                self._adamw(params, group)
        return loss

    def _muon(self, params: list[Tensor], group: dict[str, Any]) -> None:
        for p in params:
            if not self.state[p]:
                self.state[p]["momentum_buffer"] = torch.zeros_like(p)
        grads = [p.grad for p in params if p.grad is not None]
        buffers = [self.state[p]["momentum_buffer"] for p in params]
        foreach("lerp_")(buffers, grads, 1 - group["momentum"])
        updates = foreach("lerp")(grads, buffers, group["momentum"])
        foreach("mul_")(params, 1 - group["lr"] * group["weight_decay"])

        shapes: dict[torch.Size, list[tuple[Tensor, Tensor]]] = defaultdict(list)
        for p, update in zip(params, updates, strict=True):
            matrix = update.flatten(1)
            matrix = matrix if matrix.shape[0] <= matrix.shape[1] else matrix.mT
            shapes[matrix.shape].append((p, matrix))
        dtype = _dtype(params[0].device.type)
        for shape, members in shapes.items():
            scale = 0.2 * math.sqrt(shape[1])  # the root mean square of AdamW's updates
            stacked = orthogonalize(torch.stack([matrix for _, matrix in members]), dtype=dtype)  # (K, R, C)
            # One kernel adds to all of them where they have the type and the strides of the parameters.
            wide = tall = stacked.to(params[0].dtype)
            if any(p.shape[0] != shape[0] for p, _ in members):
                tall = wide.mT.contiguous()
            added = [(wide if p.shape[0] == shape[0] else tall)[i].view(p.shape) for i, (p, _) in enumerate(members)]
            foreach("add_")([p for p, _ in members], added, alpha=-group["lr"] * scale)

    def _adamw(self, params: list[Tensor], group: dict[str, Any]) -> None:
        for p in params:
            if not self.state[p]:
                self.state[p]["step"] = torch.zeros((), dtype=torch.float32, device=p.device)
                self.state[p]["exp_avg"] = torch.zeros_like(p)
                self.state[p]["exp_avg_sq"] = torch.zeros_like(p)
        states = [self.state[p] for p in params]
        grads = [p.grad for p in params if p.grad is not None]
        means, squares, steps = ([state[key] for state in states] for key in ("exp_avg", "exp_avg_sq", "step"))
        beta1, beta2 = group["betas"]
        options: dict[str, Any] = {key: group[key] for key in ("lr", "weight_decay", "eps")}
        options |= {"beta1": beta1, "beta2": beta2, "fused": group["fused"], "amsgrad": False, "maximize": False}
        adamw(params, grads, means, squares, [], steps, **options)


def muon_names(net: nn.Module) -> set[str]:
    """Return the names of the parameters that Muon trains: hidden matrices and convolutions.

    The head and everything that is not a matrix are AdamW's, as Muon's authors advise. Convolutions count as matrices,
    the tokenizer's first one included, which they would leave to AdamW (CCT-2/3x2, 3 epochs of CIFAR-10, one seed, on
    held-out images: 80.5 % with it, 79.8 % without). The head is the last linear layer of the net; a single row or
    column (SeqPool's scores) is a vector.
    """
    linear = [f"{name}.weight" for name, module in net.named_modules() if isinstance(module, nn.Linear)]
    return {
        name
        for name, parameter, decays in named_parameters(net)
        if decays and parameter.ndim >= 2 and min(parameter.flatten(1).shape) > 1 and name not in linear[-1:]
    }


def split_off_matrices(groups: Groups, net: nn.Module, optim: Optim) -> Groups:
    """Return the groups with one more, `muon`, of what Muon trains.

    Raises:
        InputError: There is no such matrix.
    """
    names = muon_names(net)
    matrices = [(name, p) for group in groups for name, p in group["params"] if name in names]
    if not matrices:
        raise InputError("Muon trains hidden matrices and this model has none: use --model.optim.optimizer adamw.")
    for group in groups:
        group["params"] = [(name, p) for name, p in group["params"] if name not in names]
    lr = optim.lr if optim.muon_lr is None else optim.muon_lr
    muon = {"name": "muon", "params": matrices, "weight_decay": optim.weight_decay, "muon": True, "lr": lr}
    return [muon, *(group for group in groups if group["params"])]
