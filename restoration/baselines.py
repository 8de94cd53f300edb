"""Classical blind restoration, the baselines of the benchmark. Every function: y (1,3,H,W) in [0,1] -> the same shape and range, nothing known."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor


def gamma_grey_world(y: Tensor) -> Tensor:
    """Channels scaled to a common mean, then the power that brings the mean to 0.45, that of the training photographs."""
    means = y.mean((-1, -2), keepdim=True).clamp_min(1e-3)
    balanced = (y * means.mean() / means).clamp(0, 1)
    low, high = 0.05, 2.0
    for _ in range(30):  # bisection: the mean falls as the power rises
        power = (low * high) ** 0.5
        low, high = (power, high) if (balanced**power).mean() > 0.45 else (low, power)
    return balanced**power


def dark_channel_prior(y: Tensor) -> Tensor:
    """He, Sun, Tang (CVPR 2009), ω = 0.95, 15×15 patches, t ≥ 0.1, transmission refined by a guided filter (radius 40, ε = 1e-3)."""
    from scipy.ndimage import minimum_filter, uniform_filter

    image = y[0].permute(1, 2, 0).double().numpy()
    dark = minimum_filter(image.min(-1), 15)
    brightest = np.argsort(dark, axis=None)[-max(1, dark.size // 1000) :]
    air = image.reshape(-1, 3)[brightest].mean(0)
    rough = 1 - 0.95 * minimum_filter((image / air).min(-1), 15)

    def box(a: np.ndarray) -> np.ndarray:
        return uniform_filter(a, 81, mode="reflect")

    guide = image.mean(-1)
    slope = (box(guide * rough) - box(guide) * box(rough)) / (box(guide**2) - box(guide) ** 2 + 1e-3)
    transmission = box(slope) * guide + box(box(rough) - slope * box(guide))
    clear = (image - air) / np.maximum(transmission, 0.1)[..., None] + air
    return torch.from_numpy(clear.clip(0, 1)).float().permute(2, 0, 1)[None]


def noise_level(y: Tensor) -> float:
    """Standard deviation of white noise in y, [0,1] units: the median of the finest diagonal Haar details over 0.6745 (Donoho 1994)."""
    height, width = (side // 2 * 2 for side in y.shape[-2:])
    a, b, c, d = (y[..., i:height:2, j:width:2] for i in (0, 1) for j in (0, 1))
    return ((a - b - c + d) / 2).abs().median().item() / 0.6745


def non_local_means(y: Tensor) -> Tensor:
    """scikit-image's fast non-local means at the estimated noise level."""
    from skimage.restoration import denoise_nl_means

    sigma = noise_level(y)
    if sigma == 0:
        return y
    image = y[0].double().numpy()
    out = denoise_nl_means(image, patch_size=5, patch_distance=6, h=0.8 * sigma, sigma=sigma, fast_mode=True, channel_axis=0)
    return torch.from_numpy(out).float()[None]


BASELINES = {
    "low-light": ("gamma + grey-world", gamma_grey_world),
    "haze": ("dark channel prior", dark_channel_prior),
    "noise": ("non-local means", non_local_means),
    "low-light+noise": ("gamma + grey-world", gamma_grey_world),
    "grey+noise": ("non-local means", non_local_means),
}
