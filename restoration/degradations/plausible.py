"""What was told about the damage and can hardly be: sentences for the user. Nothing is refused or changed."""

from __future__ import annotations

from torch import Tensor

from restoration.degradations.linear import Blur, Denoise, Inpaint, LinearDegradation, SuperResolution
from restoration.evaluation.baselines import noise_level

MISSING = 0.9  # of the pixels: more than that is drawn rather than restored
LESS = 2.0  # noise told as less than this part of what is in the picture
ROUNDING = 0.5 / 255  # of a picture stored in 8 bits
TOLERATED = 1.2  # of a result's misfit over the noise told


def suspicions(y: Tensor, degradation: LinearDegradation) -> tuple[str, ...]:
    """Of the pictures y (B,3,h,w) in [0,1] alone, before they are restored."""
    if isinstance(degradation, Inpaint):
        missing = 1 - degradation.measured(y).mean().item()
        return (f"{missing:.0%} of the pixels are missing: most of the result is made up.",) if missing > MISSING else ()
    told, seen = degradation.noise_std, 255 * noise_level(y)
    if isinstance(degradation, SuperResolution) or seen <= LESS * told + 1:  # the detail of a reduced picture looks like noise
        return ()
    if 0 < told < 1:
        return (f"noise_std is {told:g} in units of 1/255, but there is noise of about {seen:.1f}; for {told:g} of white give {255 * told:.3g}.",)
    return (f"noise_std is {told:g}, but there is noise of about {seen:.1f} in the picture; told too little, it is amplified.",)


def contradictions(y: Tensor, degradation: LinearDegradation, misfit: float) -> tuple[str, ...]:
    """Of a result whose degradation differs from y (1,3,h,w) by `misfit`, a root mean square in [0,1] units."""
    return ()
