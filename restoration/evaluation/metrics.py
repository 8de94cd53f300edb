"""Image quality as plain callables on (1,3,H,W) float32 in [0,1].

Each agrees with a second implementation (tests/test_metrics.py: scikit-image, piq, torchmetrics, NumPy).
"""

from __future__ import annotations

import functools
import math
import urllib.request
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import torch
from safetensors.torch import load_file
from torch import Tensor

from restoration.files.errors import out_of_memory

WEIGHTS = Path(__file__).parents[1] / "weights" / "niqe" / "model.safetensors"
JUDGED = 1_000_000  # pixels of a picture's middle that NIQE reads: enough patches, and a time that is bounded
LEAST_SIDE = 192  # pixels below which NIQE has too few patches
ALEXNET = "https://download.pytorch.org/models/alexnet-owt-7be5be79.pth"  # lpips' trunk, of torchvision


class Metric(NamedTuple):
    """function(image, reference) -> float, or Unavailable; the better way; whether it needs the reference."""

    function: Callable[..., float]
    higher_is_better: bool
    needs_reference: bool = True


class Unavailable(ValueError):
    """Why a metric has no value here, in a few words."""


class Scores(dict[str, float]):
    """Figures by name; `missing` gives the reason, in a few words, for each one that has no value."""

    def __init__(
        self,
        values: Mapping[str, float] = MappingProxyType({}),
        missing: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        super().__init__(values)
        self.missing = dict(missing)

    def add(self, name: str, function: Callable[..., float], *args: Any) -> None:
        """Enter function(*args); where that fails or is not finite, the reason."""
        try:
            value = function(*args)
            if not math.isfinite(value):
                raise Unavailable("undefined here")
            self[name] = value
        except (
            Exception
        ) as error:  # whatever the library raises: an optional figure must not cost a finished result
            self.missing[name] = reason(error)


def reason(error: Exception) -> str:
    """Why an optional figure has no value, in a few words."""
    return (
        str(error)
        if isinstance(error, Unavailable)
        else "out of memory"
        if out_of_memory(error)
        else "undefined here"
    )


def luma(x: Tensor) -> Tensor:
    """Y of ITU-R BT.601 in studio swing, (B,1,H,W) float64 in [16/255, 235/255], as in super-resolution."""
    weights = (
        torch.tensor([65.481, 128.553, 24.966], dtype=torch.float64, device=x.device)[:, None, None] / 255
    )
    return (x.double() * weights).sum(1, keepdim=True) + 16 / 255


def psnr(x: Tensor, reference: Tensor) -> float:
    """10 log10(1/MSE) in dB, over all channels; 100 for equal pictures, where it would be infinite."""
    return -10 * torch.log10((x - reference).square().mean().clamp_min(1e-10)).item()


def ssim(x: Tensor, reference: Tensor) -> float:
    """SSIM with the 11×11 Gaussian window of std 1.5 (Wang et al. 2004).

    Mean over channels and where the window fits. Unavailable below 11 pixels a side.
    """
    from skimage.metrics import structural_similarity

    _check_side(x, 11)
    # float64: in float32 the variance of a flat picture is rounding, and SSIM above 1
    a, b = (picture[0].cpu().double().numpy() for picture in (x, reference))
    window = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False}
    return min(1.0, float(structural_similarity(a, b, channel_axis=0, data_range=1.0, **window)))


def haarpsi(x: Tensor, reference: Tensor) -> float:
    """HaarPSI (Reisenhofer et al. 2018) with C = 30 and α = 4.2, in [0,1]. Unavailable below 16 pixels."""
    from deepinv.loss.metric import HaarPSI

    _check_side(x, 16)
    if torch.equal(x, reference):
        return 1.0  # a mean weighted by coefficients, which two black pictures have none of
    return min(1.0, float(HaarPSI(C=30.0, alpha=4.2, norm_inputs="clip")(x, reference)))


def _check_side(x: Tensor, least: int) -> None:
    if min(x.shape[-2:]) < least:
        raise Unavailable(f"below {least} pixels")


@functools.lru_cache(maxsize=1)
def lpips_network() -> torch.nn.Module | None:
    import lpips

    cached = Path(torch.hub.get_dir(), "checkpoints", Path(ALEXNET).name)
    try:
        if not cached.is_file():
            # torch.hub's own download has no timeout, and a demo without network must not hang
            urllib.request.urlopen(urllib.request.Request(ALEXNET, method="HEAD"), timeout=3).close()
        return lpips.LPIPS(net="alex", verbose=False).eval()
    except OSError:
        return None


@torch.no_grad()
def lpips_alex(x: Tensor, reference: Tensor) -> float:
    """LPIPS with the AlexNet trunk (Zhang et al. 2018).

    Unavailable below 32 pixels a side and where its weights cannot be downloaded.
    """
    _check_side(x, 32)
    if (network := lpips_network()) is None:
        raise Unavailable("needs weights")
    return float(network(2 * x - 1, 2 * reference - 1))


def niqe_model() -> Any:
    """deepinv's NIQE (Mittal et al. 2013) without parameters; 64-pixel patches, half overlapping."""
    from deepinv.loss.metric import NIQE

    return NIQE(weights_path=None, denominator=1 / 255, patch_size=64, patch_overlap=32)


@functools.lru_cache(maxsize=1)
def _niqe_fitted() -> Any:
    model = niqe_model()
    parameters = load_file(WEIGHTS)
    model.mu_p, model.cov_p = parameters["mu"], parameters["cov"]
    return model


@torch.no_grad()
def niqe(x: Tensor, _reference: Tensor | None = None) -> float:
    """NIQE against statistics of our own training photographs, so not comparable with published figures.

    Fitted by `python -m restoration.training.niqe`; of a picture of more than JUDGED pixels, of its middle.
    Unavailable below LEAST_SIDE; flat and ruled pictures have no statistics, on which the library fails or
    gives nan.
    """
    _check_side(x, LEAST_SIDE)
    return float(_niqe_fitted()(_middle(x, JUDGED)))


def _middle(x: Tensor, most: int) -> Tensor:
    """The middle of x (1,3,H,W) in its ratio, of about `most` pixels but no side below LEAST_SIDE; x itself
    where it has no more.
    """
    share = min(1.0, math.sqrt(most / (x.shape[-2] * x.shape[-1])))
    kept = [min(side, max(LEAST_SIDE, round(side * share))) for side in x.shape[-2:]]
    top, left = ((side - part) // 2 for side, part in zip(x.shape[-2:], kept, strict=True))
    return x[..., top : top + kept[0], left : left + kept[1]]


METRICS: dict[str, Metric] = {
    "PSNR": Metric(psnr, True),
    "PSNR-Y": Metric(lambda x, r: psnr(luma(x), luma(r)), True),
    "SSIM": Metric(ssim, True),
    "SSIM-Y": Metric(lambda x, r: ssim(luma(x), luma(r)), True),
    "HaarPSI": Metric(haarpsi, True),
    "LPIPS": Metric(lpips_alex, False),
    "NIQE (own fit)": Metric(niqe, False, needs_reference=False),
}


def score(x: Tensor, reference: Tensor | None = None) -> Scores:
    """The METRICS that have a value; without a reference, those that need none. ValueError: unequal sizes."""
    if reference is not None and x.shape != reference.shape:
        raise ValueError(
            f"The reference is {reference.shape[-1]}×{reference.shape[-2]} but the result "
            f"{x.shape[-1]}×{x.shape[-2]}; they must be equal."
        )
    scores = Scores()
    for name, metric in METRICS.items():
        if reference is not None or not metric.needs_reference:
            scores.add(name, metric.function, x, reference)
    return scores
