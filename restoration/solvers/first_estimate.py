"""LatentINDIGO's first estimate: a photograph without its noise, restored by the network of a scale."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Generator, Tensor

from restoration.degradations.advice import SURE
from restoration.degradations.linear import Denoise
from restoration.degradations.meter import Damage
from restoration.priors.latent import LatentPrior
from restoration.priors.tiling import tiled
from restoration.solvers import inn_weights
from restoration.solvers.reld_fast import RELDFast


def first_estimate(
    prior: LatentPrior, y: Tensor, scale: int, damages: Sequence[Damage], tile: int, generator: Generator
) -> Tensor:
    """Rest(y) of y (B,3,h,w) in [0,1], (B,3,h·scale,w·scale).

    damages: what was measured of each picture; tile: side of the denoiser's tiles, in latent pixels.
    ValueError where no restorer of this scale has been trained.
    """
    restorer, rows = inn_weights.load_restorer(scale, str(prior.device)), []
    for row, damage in zip(y.split(1), damages, strict=True):
        noisy = damage.noise.confidence >= SURE if scale > 1 else damage.noise.present
        rows.append(_without_noise(prior, row, damage, tile, generator) if noisy else row)
    return restorer(torch.cat(rows))


def _without_noise(prior: LatentPrior, y: Tensor, damage: Damage, tile: int, generator: Generator) -> Tensor:
    """y (1,3,h,w), denoised by RELD: the restorers have seen what resizing and JPEG leave of noise, seldom
    noise as strong and fine as a sensor's, which they keep.
    """
    told = Denoise(noise_std=min(255 * damage.as_white(damage.noise.value), 100.0))

    def denoised(part: Tensor) -> Tensor:
        *_, last = RELDFast().restore(prior, part, told, generator=generator)
        assert last.image is not None
        return last.image

    return tiled(denoised, y, tile * prior.factor).clamp(0, 1)
