"""What was told about the damage and can hardly be: sentences for the user. Nothing is refused or changed."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from restoration.degradations.advice import noise_to_enlarge
from restoration.degradations.base import LinearDegradation
from restoration.degradations.blur import Blur, GaussianBlur
from restoration.degradations.estimate import noise_level
from restoration.degradations.inpaint import Inpaint
from restoration.degradations.meter import measure_damage
from restoration.degradations.resampling import SuperResolution
from restoration.files import images

MISSING = 0.9  # of the pixels: more than that is drawn rather than restored
TOLD_LESS = 2.0  # noise told as less than this part of what is in the picture
DETAIL = 1.0  # 1/255: as much as this of a picture's own detail looks like noise
STORED = 0.75 / 255  # misfit that the rounding of input and result to 8 bits explains
# of a result's misfit over the noise: 0.97 at most with the right kernel, 1.11 with one turned by 180°
TOLERATED = 1.05
# of the deconvolution by the kernel as it is told, whose gradients are sparse, over the turned one's: at most
# 1.003 with the right kernel, on 75 photographs of the training (9 to 31 pixels, noise up to 10/255)
TURNED, SPARSE, BALANCE = 1.01, 0.8, 0.01


def suspicions(y: Tensor, degradation: LinearDegradation) -> tuple[str, ...]:
    """Of the pictures y (B,3,h,w) in [0,1] alone, before they are restored."""
    if isinstance(degradation, Inpaint):
        return tuple(_of_holes(y, degradation.measured(y)))
    turned = (
        (
            "The kernel seems to be turned by 180°: turned back it gives the cleaner picture "
            "(one bright point is drawn as the kernel is).",
        )
        if isinstance(degradation, Blur) and sparseness(y, degradation) > TURNED
        else ()
    )
    return turned + _of_noise(y, degradation)


def _of_holes(y: Tensor, known: Tensor) -> Iterator[str]:
    """Of the pixels that a mask (1,1,h,w) of zeros and ones leaves."""
    missing = 1 - known.mean().item()
    if missing > MISSING:
        yield f"{missing:.0%} of the pixels are missing: most of the result is made up."
    left, rest = (y.movedim(1, -1)[(known[:, 0] == value).expand(len(y), -1, -1)] for value in (1, 0))
    if len(rest) and _of_one_colour(left) and not _of_one_colour(rest):
        yield "All that the mask calls known has one colour: it may be inverted, black marks what is missing."


def _of_one_colour(pixels: Tensor) -> bool:
    return bool((pixels.amax(0) - pixels.amin(0)).max() <= 1.001 / 255)


def sparseness(y: Tensor, blur: Blur) -> float:
    """How much larger the gradients of y (B,3,h,w), deconvolved by the kernel, are than by the kernel turned
    by 180°; 1 where y is too small to say.

    Either has the same spectrum but for its phases, and photographs have sparse gradients where phases are
    right: so many values between 0 and 1 sum to least.
    """
    edge = blur.margin
    if min(y.shape[-2:]) <= 2 * edge:
        return 1.0
    grey = images.edge_taper(y.mean(1, keepdim=True), edge)
    seen, kernel = torch.fft.rfft2(grey), _centred(blur, grey)
    sizes = []
    for spectrum in (kernel, kernel.conj()):
        clear = spectrum.conj() * seen / (spectrum.abs().square() + BALANCE)
        x = torch.fft.irfft2(clear, s=grey.shape[-2:])[..., 2 * edge : -2 * edge, 2 * edge : -2 * edge]
        sizes.append(sum(x.diff(dim=axis).abs().pow(SPARSE).mean().item() for axis in (-1, -2)))
    return sizes[0] / sizes[1] if sizes[1] > 0 else 1.0


def _centred(blur: Blur, like: Tensor) -> Tensor:
    """The kernel's spectrum with its centre of gravity in the middle, so that turning it moves nothing."""
    phase = torch.zeros((), device=like.device)
    for axis, frequencies in ((0, torch.fft.fftfreq), (1, torch.fft.rfftfreq)):
        line = blur.normalised.sum(1 - axis)
        off = (line * torch.arange(len(line))).sum() - len(line) // 2
        turn = off * frequencies(like.shape[axis - 2]).to(like)
        phase = phase + (turn[:, None] if axis == 0 else turn)
    return blur.spectrum(like) * torch.exp(2j * torch.pi * phase)


def _of_noise(y: Tensor, degradation: LinearDegradation) -> tuple[str, ...]:
    """Whether the level of noise that was told contradicts y (B,3,h,w)."""
    if isinstance(degradation, SuperResolution):
        return _of_small_pictures(y, degradation)
    level, measured = degradation.noise_std, 255 * noise_level(y)
    if measured <= TOLD_LESS * level + DETAIL:
        return ()
    if 0 < level < 1:
        return (
            f"noise_std is {level:g} in units of 1/255, but the picture looks as if it had noise of "
            f"{measured:.1f}; "
            f"where {level:g} is meant for values from 0 to 1, give {min(255 * level, 100):g}.",
        )
    return (
        f"noise_std is {level:g}, but the picture looks as if it had noise of {measured:.1f}; noise of which "
        "too little is told is amplified.",
    )


def _of_small_pictures(y: Tensor, degradation: SuperResolution) -> tuple[str, ...]:
    """Of y (B,3,h,w) that is to be enlarged, whose detail hides noise from all but the meter."""
    if min(y.shape[-2:]) < images.MIN_SIDE:
        return ()
    level, scale = degradation.noise_std, degradation.scale
    measured = [(noise_to_enlarge(damage, scale), damage) for damage in map(measure_damage, y.split(1))]
    right, damage = max(measured, key=lambda both: both[0])
    if right <= TOLD_LESS * level + DETAIL:
        return ()
    what = f"compressed as JPEG of quality {damage.jpeg.value:.0f}" if damage.jpeg.present else "noisy"
    return (
        f"noise_std is {level:g}, but the picture is {what}, which would be enlarged as if it were detail: "
        f"give {right:g}.",
    )


def contradictions(degradation: LinearDegradation, consistency: float) -> tuple[str, ...]:
    """Of a result that agrees with its picture to `consistency`, in dB."""
    misfit = 10 ** (-consistency / 20)
    if misfit**2 <= (TOLERATED * degradation.noise) ** 2 + STORED**2:
        return ()
    what = {
        GaussianBlur: "it may be blurred less than was told",
        Blur: "the kernel may be too wide or turned by 180° (one bright point is drawn as the kernel is)",
        SuperResolution: "the picture may have been reduced in another way, or compressed",
    }
    causes = [text for kind, text in what.items() if isinstance(degradation, kind)][:1]
    causes.append("there may be more noise")
    return (
        f"Damaged as was told, the result differs from the picture by {255 * misfit:.1f}/255, more than "
        f"noise_std {degradation.noise_std:g} "
        f"explains: {', or '.join(causes)}.",
    )
