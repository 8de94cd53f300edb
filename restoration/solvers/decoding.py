"""Decoding with a way back."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from restoration.priors.latent import LatentPrior


def decode(
    prior: LatentPrior, z: Tensor, size: tuple[int, int], *, twice: bool = False
) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
    """(D(z) (B,3,*size), r -> J_D(z)ᵀ r), both detached; the second may be asked once.

    twice: the decoder's graph, which is most of what a large prior needs, is not kept between the two but
    made when it is asked for, by decoding again.
    """
    leaf = z.detach().requires_grad_()

    def with_graph() -> Tensor:
        with torch.enable_grad():
            return prior.decode(leaf, size)

    if twice:
        with torch.no_grad():
            x = prior.decode(z, size)
        return x, lambda r: torch.autograd.grad(with_graph(), leaf, r)[0]
    graph = [with_graph()]
    return graph[0].detach(), lambda r: torch.autograd.grad(graph.pop(), leaf, r)[0]
