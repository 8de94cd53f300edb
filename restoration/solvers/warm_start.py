"""RELD's first image: what a small network makes of two proximal steps (docs/methods/reld.md (21)), or SPAN's
of a picture that was reduced and nothing else.
"""

from __future__ import annotations

import functools
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

from restoration.degradations.base import LinearDegradation
from restoration.degradations.blur import GaussianBlur
from restoration.degradations.partial import MaskedBlur
from restoration.degradations.resampling import SuperResolution
from restoration.priors.tiling import local

if TYPE_CHECKING:
    from restoration.priors.span import SPAN
    from restoration.solvers.restorer import WarmStart

FOLDER = Path(__file__).parents[1] / "weights" / "warm-start"
QUICK = FOLDER.with_name("warm-start-quick")  # a quarter of the work
LARGE = 400_000  # pixels above which time counts: the quick one sees it, in bfloat16 where that helps
TILE, HALO = 1728, 160  # pixels a side that it sees at a time, and more than it looks around a pixel

ENLARGING = {scale: FOLDER.with_name("span") / f"span-x{scale}" for scale in (2, 4)}
QUIET = 1 / 255  # told noise up to which SPAN, which knows none, is the better one; a clean photograph has it
SMALL_TILE, SMALL_HALO = 640, 24  # the same of SPAN, in pixels of the reduced picture

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


def networks(degradation: LinearDegradation | None) -> list[Path]:
    """The folders of the networks for a damage that suits, of pictures of any size."""
    scale = _reduced_alone(degradation)
    return [ENLARGING[scale]] if scale else [FOLDER, QUICK]


def _reduced_alone(degradation: LinearDegradation | None) -> int:
    """The scale of a bicubic reduction with hardly any noise where SPAN knows it, else 0."""
    if not isinstance(degradation, SuperResolution) or degradation.reduction != "bicubic":
        return 0
    return degradation.scale if degradation.scale in ENLARGING and degradation.noise <= QUIET else 0


@functools.lru_cache(maxsize=4)  # of both sizes, on the processor and on a device
def load(device: str = "cpu", large: bool = False) -> WarmStart:
    """The trained network, of large pictures the quick one, frozen, cached."""
    from restoration.priors import eight_bits  # loads diffusers
    from restoration.solvers.restorer import WarmStart

    model = eight_bits.read(WarmStart, QUICK if large else FOLDER)
    return model.eval().requires_grad_(False).to(device)


@functools.lru_cache(maxsize=4)
def load_span(scale: int, device: str = "cpu") -> SPAN:
    """SPAN for a scale, frozen, cached."""
    from restoration.priors import eight_bits
    from restoration.priors.span import SPAN

    return eight_bits.read(SPAN, ENLARGING[scale]).eval().requires_grad_(False).to(device)


@torch.no_grad()
def first_image(degradation: LinearDegradation, y: Tensor) -> Tensor:
    """Of y (B,3,h,w) in [0,1] with a damage that suits it, (B,3,h·factor,w·factor), unclamped."""
    if scale := _reduced_alone(degradation):
        return _enlarged(y, scale)
    sharp, smooth, sigma = proximal(degradation, y)
    large = sharp.shape[-2] * sharp.shape[-1] > LARGE
    model = load(str(y.device), large)
    with _precision(y.device, large):
        return local(lambda both: model(*both.chunk(2, 1), sigma), torch.cat([sharp, smooth], 1), TILE, HALO)


def _enlarged(y: Tensor, scale: int) -> Tensor:
    """SPAN's image of y (B,3,h,w), of a small result the mean over four turns."""
    model, seen = load_span(scale, str(y.device)), y.clamp(0, 1)  # beyond white, where it never was, it errs
    large = y.shape[-2] * y.shape[-1] * scale**2 > LARGE

    def image(y: Tensor) -> Tensor:
        # as cells, pixels of y keep their place and can be seen in tiles
        cells = local(lambda part: F.pixel_unshuffle(model(part), scale), y, SMALL_TILE, SMALL_HALO)
        return F.pixel_shuffle(cells, scale).float()

    with _precision(y.device, large):
        turned = [image(seen.rot90(k, (2, 3))).rot90(-k, (2, 3)) for k in range(1 if large else 4)]
    return torch.stack(turned).mean(0)


def _precision(device: torch.device, large: bool) -> AbstractContextManager[None]:
    """bfloat16 for a large picture where the processor multiplies matrices of it (AMX): there it takes half
    the time, elsewhere more.
    """
    multiplies = torch.cpu.get_capabilities().get("amx_bf16", False)
    return torch.autocast("cpu", torch.bfloat16, enabled=large and device.type == "cpu" and multiplies)
