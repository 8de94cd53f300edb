"""AdamW, or Muon on the convolutions (Jordan et al., github.com/KellerJordan/Muon) and AdamW on the rest."""

from __future__ import annotations

import itertools
from typing import Any, Protocol

import torch
from torch import Tensor, nn

BETAS, MOMENTUM, DECAY = (0.9, 0.99), 0.95, 1e-4


class Optimiser(Protocol):
    """What the training loop needs of torch's optimisers."""

    param_groups: list[dict[str, Any]]

    def zero_grad(self, set_to_none: bool = True) -> None: ...

    def step(self) -> Any: ...

    def state_dict(self) -> dict[str, Any]: ...

    def load_state_dict(self, state_dict: dict[str, Any]) -> None: ...


def adamw(model: nn.Module, rate: float) -> Optimiser:
    return _adamw(list(model.parameters()), rate)


def _adamw(parameters: list[nn.Parameter], rate: float) -> torch.optim.AdamW:
    return torch.optim.AdamW(parameters, lr=rate, betas=BETAS, weight_decay=DECAY, fused=True)


def orthogonal(matrices: Tensor) -> Tensor:
    """Newton and Schulz's iteration towards U Vᵀ of each U S Vᵀ of (N,a,b), as Muon's authors tuned it."""
    tall = matrices.shape[1] > matrices.shape[2]
    x = (matrices.mT if tall else matrices).bfloat16()
    x = x / x.norm(dim=(1, 2), keepdim=True).clamp_min(1e-7)
    for _ in range(5):
        square = x @ x.mT
        x = 3.4445 * x + (-4.775 * square + 2.0315 * square @ square) @ x
    return (x.mT if tall else x).to(matrices)


class ConvolutionMuon:
    """Muon on every kernel as the matrix (out, in·k·k), or (in, out·k·k) of a transposed one.

    torch's own takes one matrix after the other, most of a step on an accelerator; here those of one shape
    are one batch. Its steps are scaled to the size of AdamW's, so that one rate suits both.
    """

    def __init__(self, model: nn.Module, rate: float) -> None:
        parameters = list(model.parameters())
        groups: dict[torch.Size, list[Tensor]] = {}
        for kernel in parameters:
            if kernel.ndim == 4 and kernel.requires_grad:
                groups.setdefault(kernel.flatten(1).shape, []).append(kernel)
        self.kernels = list(groups.values())
        self.momenta = [torch.zeros(len(same), *shape) for shape, same in groups.items()]
        self.adamw = _adamw([p for p in parameters if p.ndim != 4], rate)
        self.muon: dict[str, Any] = {"lr": rate}
        self.param_groups = [self.muon, *self.adamw.param_groups]

    def zero_grad(self, set_to_none: bool = True) -> None:
        for kernel in itertools.chain(*self.kernels):
            kernel.grad = None
        self.adamw.zero_grad(set_to_none)

    @torch.no_grad()
    def step(self) -> None:
        self.momenta = [
            momentum.to(same[0]) for momentum, same in zip(self.momenta, self.kernels, strict=True)
        ]
        for same, momentum in zip(self.kernels, self.momenta, strict=True):
            gradients = [torch.zeros_like(k) if k.grad is None else k.grad for k in same]
            self._step(same, torch.stack([gradient.flatten(1) for gradient in gradients]), momentum)
        self.adamw.step()

    def _step(self, same: list[Tensor], gradient: Tensor, momentum: Tensor) -> None:
        momentum.lerp_(gradient, 1 - MOMENTUM)
        update = orthogonal(gradient.lerp(momentum, MOMENTUM))
        rate = self.muon["lr"]
        size = 0.2 * max(update.shape[1:]) ** 0.5
        torch._foreach_mul_(same, 1 - rate * DECAY)
        changes = [change.view(kernel.shape) for change, kernel in zip(update, same, strict=True)]
        torch._foreach_add_(same, changes, alpha=-rate * size)

    def state_dict(self) -> dict[str, Any]:
        return {"muon": self.muon | {"momenta": self.momenta}, "adamw": self.adamw.state_dict()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.muon["lr"], self.momenta = (state_dict["muon"][name] for name in ("lr", "momenta"))
        self.adamw.load_state_dict(state_dict["adamw"])
        self.param_groups = [self.muon, *self.adamw.param_groups]


OPTIMISERS = {"adamw": adamw, "muon": ConvolutionMuon}
