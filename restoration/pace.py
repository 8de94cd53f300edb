"""How long a run will take here: from runs of the same kind in this process, before the first one from what
is usual.
"""

from __future__ import annotations

from restoration.degradations.base import LinearDegradation
from restoration.priors import placement
from restoration.priors.catalogue import PRIORS
from restoration.solvers.base import Solver

# seconds per iteration and megapixel, of the last run of each kind, by every key of `_keys`; kept small by
# its few kinds
PACES: dict[tuple[str, ...], float] = {}
USUAL = 1.6  # the same on two CPU cores with the embedded prior
ACCELERATED = 0.01  # share of that on an accelerator; a guess, never measured
WORDS = ("prompt", "steps", "recurrences")  # settings on which the time of an iteration does not depend


def learn(solver: Solver, prior: str, device: str, pixels: float, steps: int, seconds: float) -> None:
    """Remember a finished run: pixels of its result, steps it yielded, device as of torch.device.type."""
    for key in _keys(solver, prior, device, pixels):
        PACES[key] = seconds / steps / (pixels / 1e6)


def estimate_seconds(
    solver: Solver, degradation: LinearDegradation | None, height: int, width: int, prior: str = "embedded"
) -> float:
    """About how long a run on an observation of this size will take here, once the models are loaded."""
    pixels, device = height * width * solver.factor(degradation) ** 2, this_device()
    usual = USUAL * _weight(prior) * (1 if device == "cpu" else ACCELERATED)
    pace = next((PACES[key] for key in _keys(solver, prior, device, pixels) if key in PACES), usual)
    return solver.iterations(degradation) * pixels / 1e6 * pace


def this_device() -> str:
    """The kind of device that priors are placed on here."""
    return placement.names()[0].partition(":")[0]


def _keys(solver: Solver, prior: str, device: str, pixels: float) -> list[tuple[str, ...]]:
    """From the narrowest: with these settings at about this size, with these settings, with any."""
    settings = repr(sorted((name, value) for name, value in vars(solver).items() if name not in WORDS))
    kind = (solver.title, prior, device)
    return [(*kind, settings, f"2^{round(pixels).bit_length()} pixels"), (*kind, settings), kind]


def _weight(prior: str) -> float:
    """How much more the prior's denoiser computes than the embedded one's: the quotient of their sizes."""
    return PRIORS[prior].unet / PRIORS["embedded"].unet if prior in PRIORS else 1.0
