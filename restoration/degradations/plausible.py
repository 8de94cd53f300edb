"""What was told about the damage and can hardly be: sentences for the user. Nothing is refused or changed."""

from __future__ import annotations

from torch import Tensor

from restoration.degradations.base import LinearDegradation
from restoration.degradations.blur import Blur
from restoration.degradations.estimate import noise_level
from restoration.degradations.inpaint import Inpaint
from restoration.degradations.resampling import SuperResolution

MISSING = 0.9  # of the pixels: more than that is drawn rather than restored
TOLD_LESS = 2.0  # noise told as less than this part of what is in the picture
DETAIL: dict[type, float] = {
    SuperResolution: 8.0
}  # 1/255: as much as this of a picture's own detail looks like noise, 1 where the picture is blurred
STORED = 0.75 / 255  # misfit that the rounding of input and result to 8 bits explains
# of a result's misfit over the noise: 0.97 at most with the right kernel, 1.11 with one turned by 180°
TOLERATED = 1.05


def suspicions(y: Tensor, degradation: LinearDegradation) -> tuple[str, ...]:
    """Of the pictures y (B,3,h,w) in [0,1] alone, before they are restored."""
    if isinstance(degradation, Inpaint):
        missing = 1 - degradation.measured(y).mean().item()
        return (
            (f"{missing:.0%} of the pixels are missing: most of the result is made up.",)
            if missing > MISSING
            else ()
        )
    level, measured = degradation.noise_std, 255 * noise_level(y)
    if measured <= TOLD_LESS * level + DETAIL.get(type(degradation), 1.0):
        return ()
    if 0 < level < 1:
        return (
            f"noise_std is {level:g} in units of 1/255, but the picture looks as if it had noise of "
            f"{measured:.1f}; "
            f"where {level:g} is meant for values from 0 to 1, give {min(255 * level, 100):g}.",
        )
    if isinstance(degradation, SuperResolution):
        return ()
    return (
        f"noise_std is {level:g}, but the picture looks as if it had noise of {measured:.1f}; noise of which "
        "too little is told is amplified.",
    )


def contradictions(degradation: LinearDegradation, consistency: float) -> tuple[str, ...]:
    """Of a result that agrees with its picture to `consistency`, in dB."""
    misfit = 10 ** (-consistency / 20)
    if misfit**2 <= (TOLERATED * degradation.noise) ** 2 + STORED**2:
        return ()
    what = {
        Blur: "the kernel may be too wide or turned by 180° (one bright point is drawn as the kernel is)",
        SuperResolution: "the picture may have been reduced in another way, or compressed",
    }
    causes = [text for kind, text in what.items() if isinstance(degradation, kind)] + [
        "there may be more noise"
    ]
    return (
        f"Damaged as was told, the result differs from the picture by {255 * misfit:.1f}/255, more than "
        f"noise_std {degradation.noise_std:g} "
        f"explains: {', or '.join(causes)}.",
    )
