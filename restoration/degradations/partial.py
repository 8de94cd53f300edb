"""What a photograph shows of a blurred scene: its interior alone, and lights up to white.

Our own circular blur is a model of a whole torus. A real photograph y (B,3,h,w) is the part of a larger
blurred scene that the sensor covered. The scene here has `margin` unknown pixels more a side, so that the
circular blur of the larger picture is the true blur wherever y is known (unknown boundaries, Almeida and
Figueiredo, IEEE TIP 2013); with the mask M the least squares have no closed form, and conjugate gradients
solve them. Where the sensor clipped, the light was at least white: lights beyond white are estimated first
(Richardson-Lucy with saturation, Whyte et al., IJCV 2014), and their glare is taken from y.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from restoration.degradations.base import LinearDegradation
from restoration.degradations.blur import Blur
from restoration.degradations.linear import Denoise
from restoration.degradations.resampling import SuperResolution

LARGE = 512  # pixels a side from which on Fourier transforms take a share of the time that counts
SURROUNDINGS = 8  # pixels of y a side, since networks err at their own borders
CLIPPED = 253.5 / 255  # what is stored as 254 or 255 may have been any brighter
# of the conjugate gradients: at most, and the residual's norm over that of the right side
ITERATIONS, TOLERANCE = 12, 1e-2
LIGHT_ITERATIONS = 12  # ours: as good as 30 that are not accelerated; each takes four transforms


@dataclass(frozen=True, kw_only=True, eq=False)
class MaskedBlur(LinearDegradation):
    """y = M (h ∗ x) + n on the grid of the larger scene; known is M, (B,1,H,W) or (B,3,H,W) of zeros and
    ones.
    """

    blur: Blur
    known: Tensor

    def __post_init__(self) -> None:
        """Nothing to check: it is made here, of a checked blur."""

    def forward(self, x: Tensor) -> Tensor:
        return self.known * self.blur.forward(x)

    def adjoint(self, y: Tensor) -> Tensor:
        return self.blur.adjoint(self.known * y)

    def solve(self, r: Tensor, rho: float) -> Tensor:
        """(M h hᵀ M + ρ)⁻¹ r for r that is 0 where M is, to TOLERANCE."""
        return conjugate_gradients(
            lambda z: self.forward(self.adjoint(z)) + rho * z,
            lambda z: self.known * self.blur.solve(z, rho),
            self.known * r,
        )

    def measured(self, y: Tensor) -> Tensor:
        return self.known


def conjugate_gradients(
    operator: Callable[[Tensor], Tensor], precondition: Callable[[Tensor], Tensor], right: Tensor
) -> Tensor:
    """operator⁻¹ right, every row of the (B,3,H,W) a system of its own (Saad, Iterative Methods, algorithm
    9.1).
    """
    z, r = torch.zeros_like(right), right
    p = q = precondition(r)
    rq, goal = _dot(r, q), TOLERANCE**2 * _dot(right, right)
    going = torch.ones_like(goal)  # rows that are not solved yet; what is solved does not wait for the others
    for _ in range(ITERATIONS):
        applied = operator(p)
        step = going * rq / _dot(p, applied).clamp_min(1e-30)
        z, r = z + step * p, r - step * applied
        going = going * (_dot(r, r) > goal)
        if not bool(going.any()):
            break
        q = precondition(r)
        rq, before = _dot(r, q), rq
        p = q + rq / before.clamp_min(1e-30) * p
    return z


def _dot(a: Tensor, b: Tensor) -> Tensor:
    return (a * b).sum((1, 2, 3), keepdim=True)


class Scene(NamedTuple):
    """What a solver restores instead of a photograph: y and the degradation with surroundings, of `margin`
    pixels a side in the result, and `further` rows and columns after these.

    excess: (B,3,H,W), the light beyond white, which y lacks and the result gets back; 0 where there is none.
    """

    y: Tensor
    degradation: LinearDegradation | None
    margin: int
    excess: Tensor
    further: tuple[int, int] = (0, 0)

    def light(self, x: Tensor) -> Tensor:
        """The photograph's part of the scene x with the light beyond white, unclamped; sides are those of the
        restored photograph.
        """
        x = x + self.excess
        ends = (side - self.margin - more for side, more in zip(x.shape[-2:], self.further, strict=True))
        rows, columns = (slice(self.margin, end) for end in ends)
        return x[..., rows, columns]


def mirrored(y: Tensor, margin: int) -> Tensor:
    """y (B,C,h,w) with `margin` pixels more a side, its own, the outermost twice: so a reduction of the
    mirrored picture is the mirrored reduction.
    """
    for axis in (-1, -2):
        first, last = y.narrow(axis, 0, margin), y.narrow(axis, y.shape[axis] - margin, margin)
        y = torch.cat([first.flip(axis), y, last.flip(axis)], axis)
    return y


def whole_scene(y: Tensor, degradation: LinearDegradation | None, periodic: bool) -> Scene:
    """The scene behind a photograph y (B,3,h,w); where `periodic` says that our own blur made it, y itself.

    Where nothing but noise or a reduction is told, the picture goes on mirrored.
    """
    nothing = torch.zeros((), device=y.device)
    if isinstance(degradation, Denoise | SuperResolution) and min(y.shape[-2:]) > SURROUNDINGS:
        wide = mirrored(y, SURROUNDINGS)
        return Scene(wide, degradation, SURROUNDINGS * degradation.factor, nothing)
    if periodic or not isinstance(degradation, Blur):
        return Scene(y, degradation, 0, nothing)
    margin = degradation.margin
    below, right = (_until_fast(side + 2 * margin) for side in y.shape[-2:])
    padding = (margin, margin + right, margin, margin + below)
    known = F.pad(torch.ones_like(y[:1, :1]), padding)
    y = F.pad(y, padding, mode="replicate")
    scene = MaskedBlur(noise_std=degradation.noise_std, blur=degradation, known=known)
    clipped = known * (y > CLIPPED)
    if not clipped.any():
        return Scene(y, scene, margin, nothing, (below, right))
    y, excess = _without_glare(y, scene, clipped)
    return Scene(y, scene, margin, excess, (below, right))


def _until_fast(side: int) -> int:
    """How many pixels a large side lacks to where Fourier transforms are fast: 1680 rows take a quarter of
    the time of 1648.
    """
    if side <= LARGE:
        return 0
    from scipy.fft import next_fast_len  # a third of a second

    return next_fast_len(side) - side


def _without_glare(y: Tensor, scene: MaskedBlur, clipped: Tensor) -> tuple[Tensor, Tensor]:
    """(y of the scene clipped at white, the light beyond white) where y is clipped."""
    x = before = y.clamp_min(1e-3)
    change = change_before = torch.zeros_like(x)
    for _ in range(LIGHT_ITERATIONS):
        # Richardson-Lucy from where the last change leads (Biggs and Andrews, Applied Optics 1997)
        share = _dot(change, change_before) / _dot(change_before, change_before).clamp_min(1e-12)
        ahead = (x + share.clamp(0, 1) * (x - before)).clamp_min(0)
        seen = scene.blur.forward(ahead).clamp_min(1e-4)
        # brighter than white is no contradiction there
        ratio = torch.where(clipped > 0, (y / seen).clamp_min(1), y / seen)
        before, x = x, ahead * scene.blur.adjoint(torch.where(scene.known > 0, ratio, 1.0)).clamp_min(0)
        change, change_before = x - ahead, change
    reach = scene.blur.adjoint(clipped) > 1e-4  # of the light that y was clipped for
    excess = torch.where(reach, (x - 1).clamp_min(0), 0.0)
    light = torch.where(clipped > 0, torch.maximum(y, scene.blur.forward(x)), y)
    return light - scene.blur.forward(excess), excess
