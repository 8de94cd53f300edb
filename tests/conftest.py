from __future__ import annotations

import pytest
import torch
from torch import Tensor

from restoration.networks import LatentUNet, PatchAutoencoder
from restoration.prior import LatentPrior, load_prior
from restoration.training.denoiser import geometric_betas


@pytest.fixture(autouse=True)
def two_threads() -> None:
    torch.set_num_threads(2)


@pytest.fixture(scope="session")
def embedded() -> LatentPrior:
    return load_prior("embedded", "cpu")


@pytest.fixture
def tiny_prior() -> LatentPrior:
    """A random codec and denoiser of the embedded classes."""
    from diffusers import DDIMScheduler

    torch.manual_seed(0)
    unet = LatentUNet(latent_std=(1.0,) * 16, widths=(8, 8), blocks=1, embedding=16)
    betas = geometric_betas(unet.config.sigma_min, unet.config.sigma_max, 1000)
    return LatentPrior(
        "tiny", PatchAutoencoder(width=8, depth=1), unet, DDIMScheduler(trained_betas=betas, prediction_type="sample"), torch.device("cpu")
    )


@pytest.fixture
def photo() -> Tensor:
    """(1,3,96,96): a real photograph, public domain (scikit-image's astronaut)."""
    from skimage.data import astronaut

    return torch.from_numpy(astronaut()[:192:2, 160:352:2].copy()).permute(2, 0, 1)[None].float() / 255
