"""From a measured damage to the method and settings that restore it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from restoration.degradations.meter import Damage

# in 1/255: the noise that a deconvolution is told at the least, that of rounding and of the model
FLOOR = 1.0
# in 1/255 for each step of quality below 100 and each time that a side is enlarged: the noise that stands for
# what JPEG left; ours, on photographs of the training at ×2 and ×4
JPEG_NOISE = 0.125
ENLARGED = 2.5  # times from which `faithful` lowers LPIPS by a quarter at the same PSNR, on held-out pictures
SMALL = 2**16  # pixels worth enlarging where nothing else is wrong: to a megapixel, in 40 s (ours)
SURE = 0.9  # confidence in noise, of a small picture, whose detail looks like it


@dataclass(frozen=True)
class Suggestion:
    """A solver of SOLVERS, its preset of PRESETS, the task of TASKS that it is told ("" where it is blind),
    the settings of task or solver that the measurement fills in, and why, in one sentence."""

    solver: str
    preset: str
    task: str
    sentence: str
    settings: Mapping[str, Any] = field(default_factory=dict)


def suggest(damage: Damage) -> list[Suggestion]:
    """What may be done about it, the first thing first; empty where nothing seems wrong with a large one."""
    return [*_suggestions(damage)]


def noise_to_denoise(damage: Damage) -> float:
    """The noise_std, in 1/255, that a denoiser has to be told of a picture with this damage; 0 where there is
    neither noise nor JPEG.
    """
    noise = damage.noise.value if damage.noise.present else 0.0
    return round(min(255 * damage.as_white(noise), 100.0), 1)


def noise_to_enlarge(damage: Damage, scale: int) -> float:
    """The noise_std, in 1/255, that super-resolution by `scale` has to be told of a picture with this damage:
    blocks and rings of JPEG are no detail either. 0 where there is neither noise nor JPEG.
    """
    noise = 255 * damage.noise.value if damage.noise.confidence >= SURE else 0.0
    left = JPEG_NOISE * scale * (100 - damage.jpeg.value) if damage.jpeg.present else 0.0
    return round(min(math.hypot(noise, left), 100.0), 1)


def _suggestions(damage: Damage) -> Iterator[Suggestion]:
    noisy, level = damage.noise.present, round(min(255 * damage.noise.value, 100.0), 1)
    if damage.darkness.present or damage.backlight.present:
        where = "everywhere" if damage.darkness.present else "in its dark part"
        more = " and takes the noise out" if noisy else ""
        yield Suggestion("ld-rps", "low-light", "", f"Light is missing {where}: LD-RPS brightens it{more}.")
    if damage.veil.present:
        yield Suggestion(
            "ld-rps", "dehaze", "", f"It is hazy ({damage.veil.value:.0%}): LD-RPS takes the veil away."
        )
    if damage.colour.present:
        preset, more = ("colorize+denoise", ", and the noise is taken out") if noisy else ("colorize", "")
        yield Suggestion("ld-rps", preset, "", f"It has no colour: LD-RPS adds plausible ones{more}.")
    if damage.blur.present:
        std = round(min(max(damage.blur.value, 0.2), 6.0), 2)
        settings = {
            "std": std,
            "size": 2 * math.ceil(4 * std) + 1,
            "noise_std": max(FLOOR, level if noisy else 0.0),
        }
        yield Suggestion(
            "reld",
            "fast",
            "deblur",
            f"It is blurred by about {std:.1f} pixels: RELD is told so and sharpens it.",
            settings,
        )
    elif noisy:
        told = noise_to_denoise(damage)
        yield Suggestion(
            "reld",
            "fast",
            "denoise",
            f"It is noisy: RELD is told of white noise of {told:.0f}/255, which stands for it.",
            {"noise_std": told},
        )
        yield Suggestion("ld-rps", "denoise", "", "Or LD-RPS, which estimates the noise itself.")
    if damage.jpeg.present and not noisy:
        yield Suggestion(
            "ld-rps", "denoise", "", "It was compressed as JPEG: LD-RPS takes its blocks out like noise."
        )
    if damage.enlargement.present and damage.enlargement.value >= ENLARGED:
        yield Suggestion(
            "latent-indigo",
            "faithful",
            "",
            f"It was enlarged {damage.enlargement.value:.1f} times: LatentINDIGO cleans it at its size.",
            {"scale": 1},
        )
    elif small(damage):
        yield Suggestion(
            "latent-indigo", "vivid", "", "It is small: LatentINDIGO enlarges it four times.", {"scale": 4}
        )


def small(damage: Damage) -> bool:
    """Whether a picture is a small one, that shows more when it is enlarged."""
    return damage.pixels <= SMALL
