"""Image quality as plain callables on (1,3,H,W) float32 in [0,1]."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor


class Metric(NamedTuple):
    """function(image, reference) -> float, and which way is better."""

    function: Callable[[Tensor, Tensor], float]
    higher_is_better: bool


def luma(x: Tensor) -> Tensor:
    """Y of ITU-R BT.601 in studio swing, (B,1,H,W) in [16/255, 235/255]: the Y of the super-resolution literature."""
    weights = torch.tensor([65.481, 128.553, 24.966], device=x.device)[:, None, None] / 255
    return (x * weights).sum(1, keepdim=True) + 16 / 255


def psnr(x: Tensor, reference: Tensor) -> float:
    """10 log10(1/MSE) in dB, over all channels."""
    return -10 * torch.log10((x - reference).square().mean().clamp_min(1e-10)).item()


def ssim(x: Tensor, reference: Tensor) -> float:
    """SSIM with the 11×11 Gaussian window of std 1.5 (Wang et al. 2004), mean over channels."""
    from torchmetrics.functional.image import structural_similarity_index_measure

    return float(structural_similarity_index_measure(x, reference, data_range=1.0))


def haarpsi(x: Tensor, reference: Tensor) -> float:
    """HaarPSI (Reisenhofer et al. 2018) through deepinv."""
    from deepinv.loss.metric import HaarPSI

    return float(HaarPSI(norm_inputs="clip")(x, reference))


@functools.lru_cache(maxsize=1)
def _lpips_network() -> torch.nn.Module:
    import lpips

    return lpips.LPIPS(net="alex", verbose=False).eval()


def lpips_alex(x: Tensor, reference: Tensor) -> float:
    """LPIPS with the AlexNet trunk (Zhang et al. 2018); OSError or URLError where its weights cannot be had."""
    with torch.no_grad():
        return float(_lpips_network()(2 * x - 1, 2 * reference - 1))


METRICS: dict[str, Metric] = {
    "PSNR": Metric(psnr, True),
    "PSNR-Y": Metric(lambda x, r: psnr(luma(x), luma(r)), True),
    "SSIM": Metric(ssim, True),
    "SSIM-Y": Metric(lambda x, r: ssim(luma(x), luma(r)), True),
    "HaarPSI": Metric(haarpsi, True),
}


def score(x: Tensor, reference: Tensor) -> dict[str, float]:
    """Every metric of METRICS. ValueError when the sizes differ."""
    if x.shape != reference.shape:
        raise ValueError(
            f"The reference is {reference.shape[-1]}×{reference.shape[-2]} but the result {x.shape[-1]}×{x.shape[-2]}; they must be equal."
        )
    return {name: metric.function(x, reference) for name, metric in METRICS.items()}
