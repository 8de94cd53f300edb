"""RELD's first image: what a small network makes of two proximal steps (docs/methods/reld.md (21))."""

from __future__ import annotations

import functools
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from restoration.degradations.base import LinearDegradation
from restoration.degradations.blur import GaussianBlur
from restoration.degradations.partial import MaskedBlur
from restoration.degradations.resampling import SuperResolution
from restoration.priors.tiling import local

if TYPE_CHECKING:
    from restoration.solvers.restorer import WarmStart

FOLDER = Path(__file__).parents[1] / "weights" / "warm-start"
TILE, HALO = 1728, 144  # pixels a side that it sees at a time, and more than it looks around a pixel
LARGE = 1_000_000  # pixels of a picture above which time counts more than its being the same everywhere

PENALTY = 0.5  # of the proximal steps, c in ρ = c σ²/s²; RELD's default
LEVELS = (49 / 255, 12 / 255)  # s: the first shows more detail, the second less noise


def suits(degradation: LinearDegradation | None) -> bool:
    """Whether the network was trained on damages of this kind, of whole scenes or of parts."""
    blur = degradation.blur if isinstance(degradation, MaskedBlur) else degradation
    return isinstance(blur, GaussianBlur | SuperResolution)


def proximal(degradation: LinearDegradation, y: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """What the network is shown of y (B,3,h,w) in [0,1]: two proximal steps from the damage's own start, both
    (B,3,h·factor,w·factor), and the noise's standard deviation, (B,).
    """
    sigma, start = degradation.brightness_noise(y), degradation.start(y)
    sharp, smooth = (degradation.prox(start, y, PENALTY * sigma**2 / s**2) for s in LEVELS)
    return sharp, smooth, torch.full((len(y),), sigma, device=y.device)


@functools.lru_cache(maxsize=2)
def load(device: str = "cpu") -> WarmStart:
    """The trained network, frozen, cached."""
    from restoration.solvers.restorer import WarmStart  # loads diffusers

    model = WarmStart.from_pretrained(FOLDER, torch_dtype=torch.float32, use_safetensors=True)
    return model.eval().requires_grad_(False).to(device)


@torch.no_grad()
def first_image(degradation: LinearDegradation, y: Tensor) -> Tensor:
    """Of y (B,3,h,w) in [0,1] with a damage that suits it, (B,3,h·factor,w·factor), unclamped."""
    sharp, smooth, sigma = proximal(degradation, y)
    model = load(str(y.device))
    with _precision(sharp):
        return local(lambda both: model(*both.chunk(2, 1), sigma), torch.cat([sharp, smooth], 1), TILE, HALO)


def _precision(x: Tensor) -> AbstractContextManager[None]:
    """bfloat16 for a large x (B,3,H,W) where the processor multiplies matrices of it (AMX): there it takes
    half the time, elsewhere more.
    """
    large = x.device.type == "cpu" and x.shape[-2] * x.shape[-1] > LARGE
    multiplies = torch.cpu.get_capabilities().get("amx_bf16", False)
    return torch.autocast("cpu", torch.bfloat16, enabled=large and multiplies)
