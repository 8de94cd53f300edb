"""The damages that a solver can be told, by name: TASKS. Each has a file of its kind, and base.py what all
have in common.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from restoration.degradations.base import LinearDegradation, noise_knob
from restoration.degradations.blur import GaussianBlur, MotionBlur, UploadedBlur
from restoration.degradations.inpaint import Inpaint
from restoration.degradations.resampling import SuperResolution


@dataclass(frozen=True)
class Denoise(LinearDegradation):
    """Additive white noise: A = 1."""

    noise_std: float = noise_knob(25.0)

    def forward(self, x: Tensor) -> Tensor:
        return x

    def adjoint(self, y: Tensor) -> Tensor:
        return y

    def solve(self, r: Tensor, rho: float) -> Tensor:
        return r / (1 + rho)


FILES = {"file", "mask"}  # knobs that are paths of files

TASKS: dict[str, type[LinearDegradation]] = {
    "denoise": Denoise,
    "deblur": GaussianBlur,
    "motion-deblur": MotionBlur,
    "kernel-deblur": UploadedBlur,
    "super-resolution": SuperResolution,
    "inpaint": Inpaint,
}
