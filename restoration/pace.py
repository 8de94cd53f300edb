"""How long a run will take here: from runs of the same kind in this process; before the first one from what
is usual, and from how much faster or slower than that other runs here have been.
"""

from __future__ import annotations

import math
import statistics

from restoration.degradations.base import LinearDegradation
from restoration.priors import placement
from restoration.priors.catalogue import PRIORS
from restoration.solvers.base import Solver

# seconds per iteration and megapixel, of the last runs of each kind, by every key of `_keys`; kept small by
# its few kinds
PACES: dict[tuple[str, ...], tuple[float, ...]] = {}
REMEMBERED = 5  # runs of each kind
USUAL = 1.6  # the same on two CPU cores with the embedded prior, for a solver of effort 1
ACCELERATED = 0.01  # share of that on an accelerator; a guess, never measured
LOADING = 4.0  # seconds of loading a prior of this repository on two CPU cores, once in a process
# seconds beside the iterations on two CPU cores, of every run and per megapixel: reading, scores, files
FIXED, REST = 0.3, 4.0
STEPS = 2  # of RELD's fast form for a blurred picture, by which a prior's time is told
WORDS = ("prompt", "steps", "recurrences")  # settings on which the time of an iteration does not depend


def learn(solver: Solver, prior: str, device: str, pixels: float, steps: int, seconds: float) -> None:
    """Remember a finished run: pixels of its result, steps it yielded, device as of torch.device.type."""
    pace = seconds / steps / (pixels / 1e6)
    for key in _keys(solver, prior, device, pixels):
        _remember(key, pace)
    _remember(("speed", prior, device), pace / (_usual(prior, device) * solver.effort))


def learn_loading(prior: str, seconds: float) -> None:
    """Remember how long a prior took from the disk into memory."""
    _remember(("loading", prior), seconds)


def learn_rest(pixels: float, seconds: float) -> None:
    """Remember what a run on so many pixels took beside its iterations."""
    _remember(("rest",), max(0.0, seconds - FIXED) / (pixels / 1e6))


def estimate_seconds(
    solver: Solver, degradation: LinearDegradation | None, height: int, width: int, prior: str = "embedded"
) -> float:
    """About how long a run on an observation of this size will take here, once the models are loaded."""
    pixels, device = height * width * solver.factor(degradation) ** 2, this_device()
    usual = _usual(prior, device) * solver.effort * _learned(("speed", prior, device), 1.0)
    known = next((key for key in _keys(solver, prior, device, pixels) if key in PACES), ())
    pace = _learned(known, usual)
    return solver.iterations(degradation, pixels) * pixels / 1e6 * pace


def estimate_wait(run: float, prior: str, pixels: float, *, loaded: bool) -> float:
    """About how many seconds pass from a press to the result and its scores.

    run: those of the run itself, as of `estimate_seconds`, on so many pixels; loaded: whether the prior is in
    memory already.
    """
    usual = PRIORS[prior].loading or LOADING if prior in PRIORS else LOADING
    loading = 0.0 if loaded else _learned(("loading", prior), usual)
    return loading + run + FIXED + _learned(("rest",), REST) * pixels / 1e6


def before_download(prior: str) -> str:
    """How long a run with a large prior takes where there is no accelerator, in a sentence; else ""."""
    if prior not in PRIORS or not PRIORS[prior].download or this_device() != "cpu":
        return ""
    side = PRIORS[prior].side
    seconds = STEPS * side**2 / 1e6 * _usual(prior, "cpu") * _learned(("speed", prior, "cpu"), 1.0)
    return (
        f"There is no GPU here: {STEPS} steps on {side}×{side} pixels with {prior} take {about(seconds)}, "
        "longer than the embedded prior by as much as it is larger."
    )


def about(seconds: float) -> str:
    """A forecast in words, rather too long than too short: "about 7 s", "about 3 min"."""
    return f"about {rounded(seconds)}"


def rounded(seconds: float) -> str:
    """A time in words, rounded up: "7 s", "3 min"."""
    return f"{math.ceil(max(1, seconds))} s" if seconds < 100 else f"{math.ceil(seconds / 60)} min"


def this_device() -> str:
    """The kind of device that priors are placed on here."""
    return placement.names()[0].partition(":")[0]


def _remember(key: tuple[str, ...], figure: float) -> None:
    """Add what a run has taken to those of its kind."""
    PACES[key] = (*PACES.get(key, ()), figure)[-REMEMBERED:]


def _learned(key: tuple[str, ...], usual: float) -> float:
    """The median of what the last runs of a kind took, the lower of two: a run that a busy machine slowed
    down counts no more once another has been quick; what is usual before the first one.
    """
    return statistics.median_low(PACES[key]) if key in PACES else usual


def _keys(solver: Solver, prior: str, device: str, pixels: float) -> list[tuple[str, ...]]:
    """From the narrowest: with these settings at about this size, with these settings, with any."""
    settings = repr(sorted((name, value) for name, value in vars(solver).items() if name not in WORDS))
    kind = (solver.title, prior, device)
    return [(*kind, settings, f"2^{round(pixels).bit_length()} pixels"), (*kind, settings), kind]


def _usual(prior: str, device: str) -> float:
    """Seconds per iteration and megapixel before anything was measured."""
    return USUAL * _weight(prior) * (1 if device == "cpu" else ACCELERATED)


def _weight(prior: str) -> float:
    """How much more the prior's denoiser computes than the embedded one's: the quotient of their sizes."""
    return PRIORS[prior].unet / PRIORS["embedded"].unet if prior in PRIORS else 1.0
