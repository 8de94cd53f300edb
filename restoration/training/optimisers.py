"""AdamW, or Muon on the convolutions (Jordan et al., github.com/KellerJordan/Muon) and AdamW on the rest."""

from __future__ import annotations

from typing import Any, Protocol

import torch
from torch import nn

BETAS, DECAY = (0.9, 0.99), 1e-4


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


class ConvolutionMuon:
    """torch's Muon on every kernel as the matrix (out, in·k·k), or (in, out·k·k) of a transposed one.

    Its steps are scaled to the size of AdamW's, so that one rate suits both.
    """

    def __init__(self, model: nn.Module, rate: float) -> None:
        parameters = list(model.parameters())
        self.kernels = [p for p in parameters if p.ndim == 4]
        self.matrices = [nn.Parameter(kernel.detach().flatten(1).clone()) for kernel in self.kernels]
        self.muon = torch.optim.Muon(
            self.matrices, lr=rate, weight_decay=DECAY, adjust_lr_fn="match_rms_adamw"
        )
        self.adamw = _adamw([p for p in parameters if p.ndim != 4], rate)
        self.param_groups = self.muon.param_groups + self.adamw.param_groups

    def zero_grad(self, set_to_none: bool = True) -> None:
        for kernel in self.kernels:
            kernel.grad = None
        self.adamw.zero_grad(set_to_none)

    @torch.no_grad()
    def step(self) -> None:
        for kernel, matrix in zip(self.kernels, self.matrices, strict=True):
            matrix.copy_(kernel.flatten(1))
            matrix.grad = None if kernel.grad is None else kernel.grad.flatten(1)
        self.muon.step()
        self.adamw.step()
        for kernel, matrix in zip(self.kernels, self.matrices, strict=True):
            kernel.copy_(matrix.view(kernel.shape))

    def state_dict(self) -> dict[str, Any]:
        return {"muon": self.muon.state_dict(), "adamw": self.adamw.state_dict()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.muon.load_state_dict(state_dict["muon"])
        self.adamw.load_state_dict(state_dict["adamw"])
        self.param_groups = self.muon.param_groups + self.adamw.param_groups


OPTIMISERS = {"adamw": adamw, "muon": ConvolutionMuon}
