"""LatentINDIGO's trained networks in weights/inn, by domain, scale and the prior's codec, checked as they are
loaded.
"""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import torch

from restoration.priors.latent import LatentPrior
from restoration.solvers.inn import LiftingINN
from restoration.solvers.restorer import Restorer

INNS = Path(__file__).parents[1] / "weights" / "inn"
# relative difference of `codec` above which latents are another codec's; storage in half precision makes a
# hundredth
OTHER_CODEC = 0.05
ROUND_TRIP = 1e-3  # largest error, in deviations of x: a thousand times what float32 makes


def folder_name(domain: str, scale: int, prior: str) -> str:
    """first-x4 and pixel-x4 serve every prior; latent-<prior>-x4 the one it was trained with."""
    return f"latent-{Path(prior).name}-x{scale}" if domain == "latent" else f"{domain}-x{scale}"


@torch.no_grad()
def codec_of(prior: LatentPrior) -> tuple[float, ...]:
    """(C,): one latent pixel of a fixed picture of noise, which tells a prior's encoder and scaling from
    others; text and U-Net do not matter.
    """
    picture = torch.rand((1, 3, 64, 64), generator=torch.Generator().manual_seed(0)).to(prior.device)
    return tuple(round(value, 5) for value in prior.encode(picture)[0, :, 0, 0].tolist())


def missing(domain: str, scale: int, prior: str) -> str:
    """How to train the network of a domain, output scale and prior where there is none; "" where there is."""
    folder = folder_name(domain, scale, prior)
    if (INNS / folder / "config.json").is_file():
        return ""
    options = f"--domain {domain} --scale {scale} --out restoration/weights/inn --checkpoint {folder}.pt"
    if domain != "latent":
        return (
            f"There is no {domain} network for ×{scale}: train one with "
            f"`python -m restoration.training.inn SHARD... {options}`."
        )
    return (
        f"There is no latent network for ×{scale} with the prior {prior!r}: choose the pixel domain (preset "
        f"pixel), which works with every prior, or train one, in hours on a GPU, with "
        f"`python -m restoration.training.inn SHARD... {options} --prior {prior}`."
    )


def load_inn(domain: str, scale: int, prior: LatentPrior) -> LiftingINN:
    """The trained network of a domain ("latent" or "pixel") and output scale, frozen. Cached: copy it before
    changing it.

    ValueError, with what to do about it, where none has been trained, it is damaged, or it was trained with
    another codec than the prior's.
    """
    if domain == "pixel":
        return _load(LiftingINN, domain, scale, "", str(prior.device))
    inn = _load(LiftingINN, domain, scale, prior.name, str(prior.device))
    ours, its = torch.tensor(codec_of(prior)), torch.tensor(inn.config.codec)
    if ours.shape != its.shape or not (ours - its).abs().max() < OTHER_CODEC * its.abs().max():
        raise ValueError(
            f"{folder_name(domain, scale, prior.name)} was trained with another codec than that of the prior "
            f"{prior.name!r}: "
            f"train it anew, or choose the pixel domain, which works with every prior."
        )
    return inn


def load_restorer(scale: int, device: str = "cpu") -> Restorer:
    """The trained restorer of an output scale, frozen, cached. ValueError where none has been trained."""
    return _load(Restorer, "first", scale, "", device)


@functools.lru_cache(maxsize=8)
def _load(kind: type[Any], domain: str, scale: int, prior: str, device: str) -> Any:
    folder = INNS / folder_name(domain, scale, prior)
    if sentence := missing(domain, scale, prior):
        raise ValueError(sentence)
    model = (
        kind.from_pretrained(folder, torch_dtype=torch.float32, use_safetensors=True)
        .eval()
        .requires_grad_(False)
    )
    if kind is LiftingINN and not (error := _round_trip(model)) < ROUND_TRIP:
        raise ValueError(
            f"{folder.name} is damaged: forth and back it errs by {error:.1g} deviations, {ROUND_TRIP} at "
            "most are sound."
        )
    return model.to(device)


def _round_trip(inn: LiftingINN) -> float:
    """The largest error of inverse(forward(x)), in deviations of x."""
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn((1, len(inn.config.spread), 32, 32), generator=generator)
    x, gamma = (
        inn.config.offset + inn.unit * noise,
        inn.embed(torch.rand((1, 3, 32, 32), generator=generator)),
    )
    coarse, details = inn(x, gamma)
    return ((inn.inverse(coarse, details, gamma) - x) / inn.unit).abs().max().item()
