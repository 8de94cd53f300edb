"""Image quality as plain callables on (1,3,H,W) float32 in [0,1]."""

from __future__ import annotations

import functools
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors.torch import load_file
from torch import Tensor

WEIGHTS = Path(__file__).parents[1] / "weights" / "niqe" / "model.safetensors"
ALEXNET = "https://download.pytorch.org/models/alexnet-owt-7be5be79.pth"  # the trunk that lpips takes from torchvision


class Metric(NamedTuple):
    """function(image, reference) -> float, or None where it cannot be had; which way is better; whether it looks at the reference."""

    function: Callable[[Tensor, Tensor], float | None]
    higher_is_better: bool
    needs_reference: bool = True


def luma(x: Tensor) -> Tensor:
    """Y of ITU-R BT.601 in studio swing, (B,1,H,W) in [16/255, 235/255]: the Y of the super-resolution literature."""
    weights = torch.tensor([65.481, 128.553, 24.966], device=x.device)[:, None, None] / 255
    return (x * weights).sum(1, keepdim=True) + 16 / 255


def psnr(x: Tensor, reference: Tensor) -> float:
    """10 log10(1/MSE) in dB, over all channels."""
    return -10 * torch.log10((x - reference).square().mean().clamp_min(1e-10)).item()


def ssim(x: Tensor, reference: Tensor) -> float:
    """SSIM with the 11×11 Gaussian window of std 1.5 (Wang et al. 2004), mean over channels and where the window fits."""
    from torchmetrics.functional.image import structural_similarity_index_measure

    _, full = structural_similarity_index_measure(x, reference, data_range=1.0, return_full_image=True)
    return float(full[..., 5:-5, 5:-5].mean())  # torchmetrics' own mean includes the padded border


def haarpsi(x: Tensor, reference: Tensor) -> float:
    """HaarPSI (Reisenhofer et al. 2018) through deepinv."""
    from deepinv.loss.metric import HaarPSI

    return float(HaarPSI(norm_inputs="clip")(x, reference))


@functools.lru_cache(maxsize=1)
def _lpips_network() -> torch.nn.Module | None:
    import lpips

    cached = Path(torch.hub.get_dir(), "checkpoints", Path(ALEXNET).name)
    try:
        if not cached.is_file():
            # torch.hub's own download has no timeout, and a demo without network must not hang on its first click
            urllib.request.urlopen(urllib.request.Request(ALEXNET, method="HEAD"), timeout=3).close()
        return lpips.LPIPS(net="alex", verbose=False).eval()
    except OSError:
        return None


@torch.no_grad()
def lpips_alex(x: Tensor, reference: Tensor) -> float | None:
    """LPIPS with the AlexNet trunk (Zhang et al. 2018); None where its weights cannot be had, or below 32 pixels a side."""
    network = _lpips_network()
    return None if network is None or min(x.shape[-2:]) < 32 else float(network(2 * x - 1, 2 * reference - 1))


def niqe_model() -> Any:
    """deepinv's NIQE (Mittal et al. 2013) without parameters: 64-pixel patches, half overlapping, for pictures as small as ours."""
    from deepinv.loss.metric import NIQE

    return NIQE(weights_path=None, denominator=1 / 255, patch_size=64, patch_overlap=32)


@functools.lru_cache(maxsize=1)
def _niqe_fitted() -> Any:
    model = niqe_model()
    parameters = load_file(WEIGHTS)
    model.mu_p, model.cov_p = parameters["mu"], parameters["cov"]
    return model


@torch.no_grad()
def niqe(x: Tensor, _reference: Tensor | None = None) -> float | None:
    """NIQE against statistics of our own training photographs, so not comparable with published figures; None below 192×192.

    Fitted by `python -m restoration.training.niqe`.
    """
    return None if min(x.shape[-2:]) < 192 else float(_niqe_fitted()(x))


METRICS: dict[str, Metric] = {
    "PSNR": Metric(psnr, True),
    "PSNR-Y": Metric(lambda x, r: psnr(luma(x), luma(r)), True),
    "SSIM": Metric(ssim, True),
    "SSIM-Y": Metric(lambda x, r: ssim(luma(x), luma(r)), True),
    "HaarPSI": Metric(haarpsi, True),
    "LPIPS": Metric(lpips_alex, False),
    "NIQE (own fit)": Metric(niqe, False, needs_reference=False),
}


def score(x: Tensor, reference: Tensor | None = None) -> dict[str, float]:
    """The METRICS that can be had: without a reference, those that need none. ValueError when the sizes differ."""
    if reference is not None and x.shape != reference.shape:
        raise ValueError(
            f"The reference is {reference.shape[-1]}×{reference.shape[-2]} but the result {x.shape[-1]}×{x.shape[-2]}; they must be equal."
        )
    values = {name: m.function(x, reference) for name, m in METRICS.items() if reference is not None or not m.needs_reference}  # type: ignore[arg-type]
    return {name: value for name, value in values.items() if value is not None}
