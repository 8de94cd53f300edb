"""The prior's verbs in tiles of a side that a solver sets."""

from __future__ import annotations

from torch import Tensor

from restoration.priors.latent import LatentPrior
from restoration.priors.tiling import tiled


def denoise(prior: LatentPrior, z_t: Tensor, t: int, tile: int) -> Tensor:
    """The clean estimate z0 of z_t (B,C,h,w) at timestep t, tile by tile. No gradient."""
    return tiled(lambda part: prior.denoise(part, t).z0, z_t, tile)


def decode(prior: LatentPrior, z: Tensor, size: tuple[int, int], tile: int) -> Tensor:
    """Image (B,3,*size), unclamped, of z, tile by tile. Differentiable."""
    f = prior.factor
    whole = tiled(lambda part: prior.decode(part, (part.shape[-2] * f, part.shape[-1] * f)), z, tile, f)
    return whole[..., : size[0], : size[1]]
