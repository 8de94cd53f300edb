"""Classical restoration, to stand beside ours.

Every function takes y (1,3,H,W) in [0,1] and gives a picture in that range.
"""

from __future__ import annotations

import functools
import importlib.util
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from restoration.degradations.base import LinearDegradation
from restoration.degradations.blur import Blur
from restoration.degradations.estimate import noise_level
from restoration.degradations.light import guided_filter
from restoration.degradations.linear import Denoise
from restoration.degradations.resampling import SuperResolution
from restoration.files import images

# a method with such a name stands there at several values of one setting, of which the best on a set counts
TUNED = ("Wiener ", "total variation ")
WIENER_BALANCES = (0.0003, 0.001, 0.003, 0.01, 0.03, 0.1)
VARIATIONS = (0.02, 0.04, 0.06, 0.09, 0.13, 0.2)


def gamma_grey_world(y: Tensor) -> Tensor:
    """Channels scaled to a common mean, then the power that brings the mean to 0.45, that of the training
    photographs.
    """
    means = y.mean((-1, -2), keepdim=True).clamp_min(1e-3)
    balanced = (y * means.mean() / means).clamp(0, 1)
    low, high = 0.05, 2.0
    for _ in range(30):  # bisection: the mean falls as the power rises
        power = (low * high) ** 0.5
        low, high = (power, high) if (balanced**power).mean() > 0.45 else (low, power)
    return balanced**power


def dark_channel_prior(y: Tensor) -> Tensor:
    """He, Sun, Tang (CVPR 2009), ω = 0.95, 15×15 patches, t ≥ 0.1, transmission refined by a guided filter
    (radius 40, ε = 1e-3).
    """
    from scipy.ndimage import minimum_filter

    image = y[0].permute(1, 2, 0).double().numpy()
    dark = minimum_filter(image.min(-1), 15)
    brightest = np.argsort(dark, axis=None)[-max(1, dark.size // 1000) :]
    air = image.reshape(-1, 3)[brightest].mean(0)
    rough = 1 - 0.95 * minimum_filter((image / air).min(-1), 15)

    transmission = guided_filter(image.mean(-1), rough, 40, 1e-3)
    clear = (image - air) / np.maximum(transmission, 0.1)[..., None] + air
    return torch.from_numpy(clear.clip(0, 1)).float().permute(2, 0, 1)[None]


def lime(y: Tensor) -> Tensor:
    """LIME (Guo, Li and Ling, IEEE TIP 2017): y over its illumination to the power 0.8, the strongest channel
    smoothed but for y's edges; by a guided filter (radius 15, ε = 1e-3) in place of its solver, without its
    denoising.
    """
    image = y[0].permute(1, 2, 0).double().numpy()
    strongest = image.max(-1)
    illumination = guided_filter(strongest, strongest, 15, 1e-3).clip(0.02, 1)
    return _tensor((image / illumination[..., None] ** 0.8).clip(0, 1))


def non_local_means(y: Tensor, sigma: float | None = None) -> Tensor:
    """scikit-image's fast non-local means at the noise level sigma, estimated where it is not told."""
    from skimage.restoration import denoise_nl_means

    sigma = noise_level(y) if sigma is None else sigma
    if sigma == 0:
        return y
    out = denoise_nl_means(
        _array(y), patch_size=5, patch_distance=6, h=0.8 * sigma, sigma=sigma, fast_mode=True, channel_axis=-1
    )
    return _tensor(out)


def total_variation(y: Tensor, weight: float) -> Tensor:
    """scikit-image's Chambolle (2004): min_x ‖x - y‖² / 2 + weight ‖∇x‖₁, over all channels together."""
    from skimage.restoration import denoise_tv_chambolle

    return _tensor(denoise_tv_chambolle(_array(y), weight, channel_axis=-1))


def bm3d(y: Tensor, sigma: float) -> Tensor:
    """Its authors' colour BM3D. Not among our requirements: its licence forbids commercial use."""
    from bm3d import bm3d_rgb

    return _tensor(bm3d_rgb(_array(y), sigma))


def wiener(y: Tensor, blur: Blur, balance: float) -> Tensor:
    """scikit-image's Wiener-Hunt deconvolution, channel by channel."""
    from skimage.restoration import wiener as skimage_wiener

    kernel = blur.normalised.numpy()
    return _tensor(
        np.stack([skimage_wiener(c, kernel, balance, clip=False) for c in _array(y).transpose(2, 0, 1)], -1)
    )


def _array(x: Tensor) -> np.ndarray:
    return x[0].permute(1, 2, 0).double().numpy()


def _tensor(a: np.ndarray) -> Tensor:
    return torch.from_numpy(a).float().permute(2, 0, 1)[None]


BRIGHTENED: dict[str, Callable[[Tensor], Tensor]] = {"gamma + grey-world": gamma_grey_world, "LIME": lime}
DEHAZED: dict[str, Callable[[Tensor], Tensor]] = {"dark channel prior": dark_channel_prior}
DENOISED: dict[str, Callable[[Tensor], Tensor]] = {
    "non-local means": non_local_means,
    **{
        f"total variation {weight}": functools.partial(total_variation, weight=weight)
        for weight in VARIATIONS
    },
}
BLIND = {
    **dict.fromkeys(("low-light", "low-light+noise", "camera-low-light", "camera-backlit"), BRIGHTENED),
    **dict.fromkeys(("haze", "fog"), DEHAZED),
    **dict.fromkeys(("noise", "grey+noise", "camera-noise"), DENOISED),
}


def baselines(
    degradation: LinearDegradation | None, task: str | None, factor: int
) -> dict[str, Callable[[Tensor], Tensor]]:
    """The classical methods to beat, by name.

    They are told the degradation, or nothing where it is None; of those that are TUNED the best counts.
    """
    if isinstance(degradation, Denoise):
        sigma, named = degradation.noise, f"(noise {degradation.noise_std:g})"
        methods: dict[str, Callable[[Tensor], Tensor]] = {
            f"non-local means {named}": lambda y: non_local_means(y, sigma)
        }
        return methods | (
            {f"BM3D {named}": lambda y: bm3d(y, sigma)} if importlib.util.find_spec("bm3d") else {}
        )
    if isinstance(degradation, Blur):
        return {f"Wiener {b}": lambda y, b=b: wiener(y, degradation, b) for b in WIENER_BALANCES}  # type: ignore[misc]
    if degradation is None:
        blind = BLIND.get(task or "", {})
        return blind | ({"bicubic": lambda y: images.enlarge(y, factor)} if factor > 1 else {})
    return {"bicubic" if isinstance(degradation, SuperResolution) else "fill": degradation.start}
