"""Degradations y = A(x) + n with knobs, after deepinv's physics: exact adjoints, closed-form proximal steps.

x, y: (B,3,H,W) float32 in [0,1]. `noise_std` is the measurement noise in the same units. Objects are
immutable.
"""

from __future__ import annotations

import functools
import math
from abc import ABC, abstractmethod
from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from restoration.files.knobs import read_kernel, read_mask

NOISE_FLOOR = 0.5 / 255  # measurements are never better than their 8-bit rounding


def knob(
    default: Any,
    help: str,
    *,
    low: float | None = None,
    high: float | None = None,
    choices: tuple[Any, ...] = (),
) -> Any:
    """A dataclass field that the page shows as a slider or drop-down and that is checked on construction."""
    return field(default=default, metadata={"help": help, "low": low, "high": high, "choices": choices})


# of a knob's default: what it takes
KINDS = {int: ((int,), "a whole number"), float: ((int, float), "a number"), str: ((str,), "text")}


class Checked:
    """Dataclass base: every knob of its default's kind and within its bounds, or ValueError naming the
    numbers.
    """

    def __post_init__(self) -> None:
        for info in fields(self):  # type: ignore[arg-type]
            name, value, meta = info.name, getattr(self, info.name), info.metadata
            kinds, words = KINDS[type(info.default)]
            if type(value) not in kinds:  # not isinstance: True is an int
                raise ValueError(f"{name} is {value!r}; it must be {words}.")
            if meta.get("choices") and value not in meta["choices"]:
                raise ValueError(
                    f"{name} is {value!r}; it must be one of {', '.join(map(str, meta['choices']))}."
                )
            low, high = meta.get("low"), meta.get("high")
            if low is not None and not low <= value <= high:
                raise ValueError(f"{name} is {value}; it must lie between {low} and {high}.")


def is_grey(x: Tensor) -> bool:
    """Whether the channels of x (B,3,H,W) differ nowhere by more than the rounding to 8 bits."""
    return bool((x.amax(1) - x.amin(1)).max() <= 1.001 / 255)


def _noise(default: float) -> Any:
    return knob(default, "Standard deviation of the noise, in units of 1/255", low=0.0, high=100.0)


@dataclass(frozen=True)
class LinearDegradation(Checked, ABC):
    """y = A x + n with A linear. Adding a task is one subclass and one line in TASKS."""

    noise_std: float = _noise(0.0)  # in 1/255 where the user sees it; `noise` is the same in [0,1] units

    @property
    def noise(self) -> float:
        """Noise standard deviation in [0,1] units."""
        return self.noise_std / 255

    @property
    def factor(self) -> int:
        """Output side over input side of the restoration."""
        return 1

    @property
    def margin(self) -> int:
        """Pixels that the surroundings of a picture reach into it."""
        return 0

    @abstractmethod
    def forward(self, x: Tensor) -> Tensor:
        """A x, noise-free and differentiable."""

    @abstractmethod
    def adjoint(self, y: Tensor) -> Tensor:
        """Aᵀ y, exact."""

    @abstractmethod
    def solve(self, r: Tensor, rho: float) -> Tensor:
        """(A Aᵀ + ρ)⁻¹ r in measurement space."""

    def start(self, y: Tensor) -> Tensor:
        """A first image of the restored size."""
        return y

    def prox(self, v: Tensor, y: Tensor, rho: float) -> Tensor:
        """argmin_x ½|Ax-y|² + ρ/2|x-v|² = v + Aᵀ(AAᵀ+ρ)⁻¹(y-Av), which never divides by ρ:
        docs/methods/reld.md (6).
        """
        return v + self.adjoint(self.solve(y - self.forward(v), rho))

    def agreeing(self, x: Tensor, y: Tensor) -> Tensor:
        """x with the pixels that y tells without any noise."""
        return x

    def degrade(self, x: Tensor, generator: torch.Generator) -> Tensor:
        """A x + n with n from the (CPU) generator, equal in all channels of a grey picture."""
        clean = self.forward(x)
        shape = (len(clean), 1, *clean.shape[2:]) if is_grey(x) else clean.shape
        return clean + self.noise * torch.randn(shape, generator=generator).to(clean)

    def measured(self, y: Tensor) -> Tensor:
        """Ones where y is a measurement, zeros where it is not; its shape is y's or broadcasts to it."""
        return torch.ones_like(y[:1, :1])

    def misfit(self, x: Tensor, y: Tensor) -> float:
        """Root mean square of A x - y over what was measured."""
        weight = self.measured(y).expand_as(y)
        return ((weight * (self.forward(x) - y)).square().sum() / weight.sum()).sqrt().item()

    def brightness_noise(self, y: Tensor) -> float:
        """Standard deviation of independent channel noise that is as strong along the brightness of y as its
        own is, [0,1] units.

        Equal noise in three channels has √3 the amplitude there, and a latent prior sees no more of it than
        the brightness. It is never less than the rounding to 8 bits.
        """
        return max(self.noise, NOISE_FLOOR) * (3**0.5 if is_grey(y) else 1.0)


@dataclass(frozen=True)
class Denoise(LinearDegradation):
    """Additive white noise: A = 1."""

    noise_std: float = _noise(25.0)

    def forward(self, x: Tensor) -> Tensor:
        return x

    def adjoint(self, y: Tensor) -> Tensor:
        return y

    def solve(self, r: Tensor, rho: float) -> Tensor:
        return r / (1 + rho)


@dataclass(frozen=True)
class Blur(LinearDegradation, ABC):
    """Circular convolution with `kernel()`, as scipy.ndimage.convolve(mode="wrap"): the kernel is how one
    bright point is drawn.

    Its centre is the pixel size // 2 of each side, counted from 0. Real photographs are parts of a larger
    scene: partial.whole_scene.
    """

    noise_std: float = _noise(2.55)

    @abstractmethod
    def kernel(self) -> Tensor:
        """(k,k), non-negative, sum 1."""

    @functools.cached_property
    def _kernel(self) -> Tensor:
        kernel = self.kernel()
        if kernel.ndim != 2 or not torch.isfinite(kernel).all() or kernel.min() < 0 or not kernel.sum() > 0:
            raise ValueError(
                "The blur kernel must be a grey picture of finite, non-negative values that are not all zero."
            )
        return kernel / kernel.sum()

    @property
    def margin(self) -> int:
        """Half of the kernel's longer side."""
        return max(self._kernel.shape) // 2

    @functools.cached_property
    def _spectra(self) -> dict[tuple[int, ...], Tensor]:
        return {}

    def _spectrum(self, x: Tensor) -> Tensor:
        """Transfer function of the centred kernel on the half grid of x's size, (1,1,H,W//2+1) complex;
        computed once a size.
        """
        from deepinv.physics.functional import filter_fft

        size = tuple(x.shape[-2:])
        if min(size) < max(self._kernel.shape):
            raise ValueError(
                f"The blur kernel ({self._kernel.shape[1]}×{self._kernel.shape[0]}) is larger than the "
                f"picture ({size[1]}×{size[0]})."
            )
        if size not in self._spectra:
            self._spectra.clear()  # of one size: a folder holds pictures of many
            self._spectra[size] = filter_fft(
                self._kernel[None, None], (1, *size), dims=(-2, -1), real_fft=True
            )
        return self._spectra[size].to(x.device)

    def forward(self, x: Tensor) -> Tensor:
        return _irfft(self._spectrum(x) * torch.fft.rfft2(x), x)

    def adjoint(self, y: Tensor) -> Tensor:
        return _irfft(self._spectrum(y).conj() * torch.fft.rfft2(y), y)

    def solve(self, r: Tensor, rho: float) -> Tensor:
        return _irfft(torch.fft.rfft2(r) / (self._spectrum(r).abs().square() + rho), r)

    def prox(self, v: Tensor, y: Tensor, rho: float) -> Tensor:
        """As the base class has it, with three Fourier transforms instead of six."""
        k = self._spectrum(v)
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


@dataclass(frozen=True)
class SuperResolution(LinearDegradation):
    """Reduction by `scale` as an exact separable operator: Pillow's anti-aliased bicubic, or Gaussian blur
    and decimation.

    A = R_h ⊗ R_w with the resampling matrices R; (AAᵀ+ρ)⁻¹ is closed-form in the eigenbases of R Rᵀ of both
    sides. No periodicity is assumed, where deepinv's Downsampling has circular borders. Bicubic reduction
    keeps the centre of every scale×scale cell; Gaussian blur either that or the top left pixel, as in DPIR,
    which lies (scale-1)/2 pixels off.
    """

    scale: int = knob(4, "How many times larger the result is", choices=(2, 3, 4))
    reduction: str = knob("bicubic", "How the small picture was made", choices=("bicubic", "blur-decimate"))
    blur: float = knob(
        1.6,
        "Width of the Gaussian of blur-decimate: standard deviation in pixels of the result",
        low=0.2,
        high=6.0,
    )

    keep: str = knob(
        "centre",
        "What blur-decimate keeps of every cell: its centre, or its top left pixel",
        choices=("centre", "top-left"),
    )

    @property
    def factor(self) -> int:
        return self.scale

    def _sides(self, height: int, width: int, like: Tensor) -> tuple[Tensor, Tensor]:
        """Resampling matrices of the low-resolution height and width."""
        return _resampling(height, *self._way).to(like), _resampling(width, *self._way).to(like)

    @property
    def _way(self) -> tuple[int, float, float]:
        """(scale, standard deviation of the Gaussian or 0 for bicubic, position in a cell in pixels of the
        result).
        """
        if self.reduction == "bicubic":
            return self.scale, 0.0, (self.scale - 1) / 2
        return self.scale, self.blur, 0.0 if self.keep == "top-left" else (self.scale - 1) / 2

    def forward(self, x: Tensor) -> Tensor:
        if x.shape[-1] % self.scale or x.shape[-2] % self.scale:
            raise ValueError(
                f"A picture of {x.shape[-1]}×{x.shape[-2]} cannot be reduced {self.scale} times exactly; "
                "crop it first."
            )
        rows, columns = self._sides(x.shape[-2] // self.scale, x.shape[-1] // self.scale, x)
        return rows @ x @ columns.T

    def adjoint(self, y: Tensor) -> Tensor:
        rows, columns = self._sides(y.shape[-2], y.shape[-1], y)
        return rows.T @ y @ columns

    def solve(self, r: Tensor, rho: float) -> Tensor:
        (la, ua), (lb, ub) = (_eigen(n, *self._way, r.device) for n in r.shape[-2:])
        return ua @ ((ua.T @ r @ ub) / (la[:, None] * lb + rho)) @ ub.T

    def start(self, y: Tensor) -> Tensor:
        """Pillow's bicubic enlargement, each channel in float, shifted to where the pixels of y were kept."""
        height, width = y.shape[-2:]
        size, shift = (width * self.scale, height * self.scale), 0.5 - (self._way[2] + 0.5) / self.scale
        box = (
            (1 + shift, 1 + shift, 1 + shift + width, 1 + shift + height) if shift else (0, 0, width, height)
        )
        planes = (F.pad(y, (1,) * 4, mode="replicate") if shift else y).flatten(0, 1).cpu().numpy()
        large = [
            np.asarray(Image.fromarray(p).resize(size, Image.Resampling.BICUBIC, box=box)) for p in planes
        ]
        return torch.from_numpy(np.stack(large)).reshape(*y.shape[:2], size[1], size[0]).to(y)


# two sides of one picture: up to 70 MB each at 4 megapixels
@functools.lru_cache(maxsize=2)
def _resampling(low: int, scale: int, std: float, position: float) -> Tensor:
    """(low, low·scale) reduction of one side: Pillow's bicubic read off Pillow itself on unit vectors, or a
    Gaussian of `std` > 0.
    """
    high = low * scale
    if not std:
        unit = np.eye(high, dtype=np.float32)  # column j is the j-th unit vector
        return torch.from_numpy(np.array(Image.fromarray(unit).resize((high, low), Image.Resampling.BICUBIC)))
    centre = torch.arange(low) * scale + position
    weights = torch.exp(-((torch.arange(high) - centre[:, None]) ** 2) / (2 * std**2))
    return weights / weights.sum(1, keepdim=True)


@functools.lru_cache(maxsize=2)
def _eigen(low: int, scale: int, std: float, position: float, device: torch.device) -> tuple[Tensor, Tensor]:
    """Eigenvalues and -vectors of R Rᵀ, float32 from float64."""
    matrix = _resampling(low, scale, std, position).double()
    values, vectors = torch.linalg.eigh(matrix @ matrix.T)
    return values.clamp_min(0).float().to(device), vectors.float().to(device)


@dataclass(frozen=True)
class Inpaint(LinearDegradation):
    """Missing pixels: `missing` of them at random, or those that are black in the picture `mask`."""

    missing: float = knob(
        0.5, "Share of random pixels that are missing (without a mask file)", low=0.0, high=0.95
    )
    mask: str = knob("", "Mask: a picture of the same size, black where pixels are missing")

    @functools.cached_property
    def _masks(self) -> dict[tuple[int, int], Tensor]:
        return {}

    def _keep(self, x: Tensor) -> Tensor:
        """(1,1,h,w) of x's size, ones where pixels are known.

        ValueError, one sentence, for a mask file that cannot be of this picture.
        """
        size = (x.shape[-2], x.shape[-1])
        if size not in self._masks:
            random = torch.rand(size, generator=torch.Generator().manual_seed(0))
            known = read_mask(self.mask, *size) if self.mask else random >= self.missing
            if not known.any():
                raise ValueError(
                    "The mask leaves no pixel of the picture: it is black where pixels are missing, and all "
                    "of it is black."
                )
            self._masks.clear()  # of one size: a folder holds pictures of many
            self._masks[size] = known[None, None]
        return self._masks[size].to(x)

    def forward(self, x: Tensor) -> Tensor:
        return self._keep(x) * x

    def adjoint(self, y: Tensor) -> Tensor:
        return self._keep(y) * y

    def solve(self, r: Tensor, rho: float) -> Tensor:
        return r / (self._keep(r) + rho)

    def degrade(self, x: Tensor, generator: torch.Generator) -> Tensor:
        return self._keep(x) * super().degrade(x, generator)

    def measured(self, y: Tensor) -> Tensor:
        return self._keep(y)

    def agreeing(self, x: Tensor, y: Tensor) -> Tensor:
        return x if self.noise_std else torch.where(self._keep(y) > 0, y, x)

    def start(self, y: Tensor) -> Tensor:
        """Holes filled with a normalised Gaussian average of their surroundings, at growing widths."""
        keep, filled = self._keep(y), self._keep(y) * y
        known = keep.clone()
        for std in (1.0, 2.0, 4.0, 8.0, 16.0):
            weight = _smooth(keep, std)
            average = _smooth(keep * y, std) / weight.clamp_min(1e-6)
            new = (known == 0) & (weight > 1e-3)
            filled, known = torch.where(new, average, filled), torch.where(new, 1.0, known)
        return torch.where(
            known == 0, (keep * y).sum((-1, -2), keepdim=True) / keep.sum().clamp_min(1), filled
        )


def _smooth(x: Tensor, std: float) -> Tensor:
    """Separable Gaussian average with zero borders."""
    radius = math.ceil(3 * std)
    line = torch.exp(-(torch.arange(-radius, radius + 1).to(x) ** 2) / (2 * std**2))
    line = (line / line.sum()).expand(x.shape[1], 1, -1)
    x = F.conv2d(x, line[:, :, None], padding=(0, radius), groups=x.shape[1])
    return F.conv2d(x, line[..., None], padding=(radius, 0), groups=x.shape[1])


FILES = {"file", "mask"}  # knobs that are paths of files

TASKS: dict[str, type[LinearDegradation]] = {
    "denoise": Denoise,
    "deblur": GaussianBlur,
    "motion-deblur": MotionBlur,
    "kernel-deblur": UploadedBlur,
    "super-resolution": SuperResolution,
    "inpaint": Inpaint,
}
