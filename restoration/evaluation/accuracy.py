"""How well the damage meter measures: clean photographs are damaged with known strength, and what it tells is
compared.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from statistics import median

import torch
from torch import Tensor

from restoration.degradations import camera
from restoration.degradations.blind import CORRUPTIONS
from restoration.degradations.blur import GaussianBlur
from restoration.degradations.linear import Denoise
from restoration.degradations.meter import Damage, measure_damage
from restoration.degradations.realistic import jpeg
from restoration.files.images import quantise

NOISES, BLURS, QUALITIES = (3.0, 5.0, 10.0, 20.0, 35.0, 50.0), (0.8, 1.2, 2.0, 3.0), (15, 30, 50, 70, 80)
# a clean picture -> (the damaged one, the true value)
Make = Callable[[Tensor, torch.Generator], tuple[Tensor, float]]


def _white(level: float) -> Make:
    def make(x: Tensor, generator: torch.Generator) -> tuple[Tensor, float]:
        y = quantise(Denoise(level).degrade(x, generator))
        return y, (y - x).square().mean().sqrt().item()

    return make


def _camera(iso: str) -> Make:
    def make(x: Tensor, generator: torch.Generator) -> tuple[Tensor, float]:
        y, clean = camera.CameraNoise(iso).expose(x, generator)
        return y, (y - clean).square().mean().sqrt().item()

    return make


def _blur(std: float) -> Make:
    return lambda x, generator: (quantise(GaussianBlur(std=std, noise_std=0.0).forward(x)), std)


def _jpeg(quality: int) -> Make:
    return lambda x, generator: (jpeg(x, quality), float(quality))


def _enlarge(factor: int) -> Make:
    def make(x: Tensor, generator: torch.Generator) -> tuple[Tensor, float]:
        size = [side // factor for side in x.shape[-2:]]
        small = torch.nn.functional.interpolate(x, size, mode="bicubic", antialias=True)
        return quantise(torch.nn.functional.interpolate(small, scale_factor=factor, mode="bicubic")), float(
            factor
        )

    return make


def accuracy(photographs: Sequence[Tensor], seed: int) -> Iterator[str]:
    """Lines of Markdown. photographs: clean ones, (1,3,H,W) in [0,1]; picture k is damaged with seed + k."""
    yield "| damage | value | measured, median | error, median | in bounds | called present |"
    yield "|---|---|---|---|---|---|"
    for level in NOISES:
        yield _row(f"white noise {level:g}/255", "noise", 255, _white(level), photographs, seed)
    for iso in camera.SHOT:
        yield _row(f"camera noise, {iso}", "noise", 255, _camera(iso), photographs, seed)
    for std in BLURS:
        yield _row(f"Gaussian blur {std:g} px", "blur", 1, _blur(std), photographs, seed)
    for quality in QUALITIES:
        yield _row(f"JPEG, quality {quality}", "jpeg", 1, _jpeg(quality), photographs, seed)
    for factor in (2, 3, 4):
        yield _row(f"enlarged ×{factor}", "enlargement", 1, _enlarge(factor), photographs, seed)
    yield ""
    yield "| damage | called so | other names for it |"
    yield "|---|---|---|"
    for name, kind in {
        "camera-low-light": "darkness",
        "camera-backlit": "backlight",
        "fog": "veil",
        "haze": "veil",
        "grey": "colour",
    }.items():
        corruption = CORRUPTIONS[name]
        measured = [
            measure_damage(corruption.degrade(x, _generator(seed + k))) for k, x in enumerate(photographs)
        ]
        yield f"| {name} | {_share(measured, kind)} | {_others(measured, kind)} |"
    clean = [measure_damage(x) for x in photographs]
    alarms = sum(any(e.present for e in damage.estimates().values()) for damage in clean)
    yield f"| none (false alarms) | {alarms} of {len(clean)} | {_others(clean, '')} |"


def _generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


# the error that counts as in bounds: relative for noise and enlargement, absolute for the others
BOUNDS = {"noise": 0.2, "blur": 0.3, "jpeg": 10.0, "enlargement": 0.2}


def _row(title: str, kind: str, unit: int, make: Make, photographs: Sequence[Tensor], seed: int) -> str:
    truths, measured = [], []
    for k, x in enumerate(photographs):
        y, truth = make(x, _generator(seed + k))
        truths.append(truth)
        measured.append(measure_damage(y))
    values = [damage.estimates()[kind].value for damage in measured]
    relative = kind in {"noise", "enlargement"}
    errors = [
        abs(value - truth) / (truth if relative else 1) for value, truth in zip(values, truths, strict=True)
    ]
    inside = sum(error <= BOUNDS[kind] for error in errors)
    usual = f"{median(errors):.0%}" if relative else f"{median(errors):.2f}"
    value, estimate = (f"{unit * median(numbers):.3g}" for numbers in (truths, values))
    return (
        f"| {title} | {value} | {estimate} | {usual} | {inside} of {len(errors)} | {_share(measured, kind)} |"
    )


def _share(measured: Sequence[Damage], kind: str) -> str:
    return f"{sum(damage.estimates()[kind].present for damage in measured)} of {len(measured)}"


def _others(measured: Sequence[Damage], kind: str) -> str:
    counts = Counter(
        name
        for damage in measured
        for name, estimate in damage.estimates().items()
        if estimate.present and name != kind
    )
    return ", ".join(f"{name} {count}" for name, count in counts.most_common()) or "none"
