"""Blurs: circular convolution with a Gaussian, a hand-shake path or a kernel of a file."""

from __future__ import annotations

import functools
from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor

from restoration.degradations.base import LinearDegradation, noise_knob
from restoration.files.knob_files import read_kernel
from restoration.knobs import knob


@dataclass(frozen=True)
class Blur(LinearDegradation, ABC):
    """Circular convolution with `kernel()`, as scipy.ndimage.convolve(mode="wrap"): the kernel is how one
    bright point is drawn.

    Its centre is the pixel size // 2 of each side, counted from 0. Real photographs are parts of a larger
    scene: partial.whole_scene.
    """

    noise_std: float = noise_knob(2.55)

    @abstractmethod
    def kernel(self) -> Tensor:
        """(k,k), non-negative, of any sum."""

    @functools.cached_property
    def normalised(self) -> Tensor:
        """(k,k): `kernel()`, checked, with sum 1. ValueError where it is no kernel."""
        kernel = self.kernel()
        if kernel.ndim != 2 or not torch.isfinite(kernel).all() or kernel.min() < 0 or not kernel.sum() > 0:
            raise ValueError(
                "The blur kernel must be a grey picture of finite, non-negative values that are not all zero."
            )
        return kernel / kernel.sum()

    @property
    def margin(self) -> int:
        """Half of the kernel's longer side."""
        return max(self.normalised.shape) // 2

    @functools.cached_property
    def _spectra(self) -> dict[tuple[int, ...], Tensor]:
        return {}

    def spectrum(self, x: Tensor) -> Tensor:
        """Transfer function of the centred kernel on the half grid of x's size, (1,1,H,W//2+1) complex;
        computed once a size.
        """
        from deepinv.physics.functional import filter_fft

        size = tuple(x.shape[-2:])
        if min(size) < max(self.normalised.shape):
            raise ValueError(
                f"The blur kernel ({self.normalised.shape[1]}×{self.normalised.shape[0]}) is larger than the "
                f"picture ({size[1]}×{size[0]})."
            )
        if size not in self._spectra:
            self._spectra.clear()  # of one size: a folder holds pictures of many
            self._spectra[size] = filter_fft(
                self.normalised[None, None], (1, *size), dims=(-2, -1), real_fft=True
            )
        self._spectra[size] = self._spectra[size].to(x.device)  # and there it stays
        return self._spectra[size]

    def forward(self, x: Tensor) -> Tensor:
        return _irfft(self.spectrum(x) * torch.fft.rfft2(x), x)

    def adjoint(self, y: Tensor) -> Tensor:
        return _irfft(self.spectrum(y).conj() * torch.fft.rfft2(y), y)

    def solve(self, r: Tensor, rho: float) -> Tensor:
        return _irfft(torch.fft.rfft2(r) / (self.spectrum(r).abs().square() + rho), r)

    def prox(self, v: Tensor, y: Tensor, rho: float) -> Tensor:
        """As the base class has it, with three Fourier transforms instead of six."""
        k = self.spectrum(v)
        residual = torch.fft.rfft2(y) - k * torch.fft.rfft2(v)
        return v + _irfft(k.conj() * residual / (k.abs().square() + rho), v)


def _irfft(spectrum: Tensor, like: Tensor) -> Tensor:
    return torch.fft.irfft2(spectrum, s=like.shape[-2:])


@dataclass(frozen=True)
class GaussianBlur(Blur):
    """Gaussian blur."""

    std: float = knob(1.6, "Width of the blur: standard deviation in pixels", low=0.2, high=6.0)
    size: int = knob(
        25, "Side of the blur kernel in pixels; an even one counts as the next odd one", low=3, high=61
    )

    def kernel(self) -> Tensor:
        axis = torch.arange(self.size | 1) - self.size // 2
        line = torch.exp(-(axis**2) / (2 * self.std**2))
        return line[:, None] * line


@dataclass(frozen=True)
class MotionBlur(Blur):
    """A random hand-shake path (deepinv's MotionBlurGenerator), fixed by its seed."""

    size: int = knob(
        31, "Side of the blur kernel in pixels; an even one counts as the next odd one", low=3, high=61
    )
    path: int = knob(0, "Number of the random hand-shake path", low=0, high=10_000)

    def kernel(self) -> Tensor:
        from deepinv.physics.generator import MotionBlurGenerator

        size = self.size | 1
        generator = MotionBlurGenerator((size, size), rng=torch.Generator().manual_seed(self.path))
        return generator.step(batch_size=1)["filter"][0, 0]


@dataclass(frozen=True)
class UploadedBlur(Blur):
    """Blur with a kernel given as a file: a grey picture (bright = long exposure) or a .npy array."""

    file: str = knob(
        "", "Kernel: a small grey picture or a .npy array, as one bright point is drawn (convolution)"
    )

    def kernel(self) -> Tensor:
        if not self.file:
            raise ValueError("This task needs a blur kernel: a small grey picture or a .npy array.")
        return read_kernel(self.file)
