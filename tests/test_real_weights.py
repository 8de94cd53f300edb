"""Every published prior with its real weights: gigabytes of download, so only on request, `python -m pytest
-m slow`.
"""

from __future__ import annotations

import pytest
import torch

from restoration.degradations.linear import TASKS
from restoration.evaluation import metrics
from restoration.priors import checkpoints
from restoration.priors.catalogue import PRIORS
from restoration.priors.latent import load_prior
from restoration.record import Run
from restoration.run import restore
from restoration.solvers import PRESETS
from restoration.solvers.reld_fast import RELDFast

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module", params=[name for name, entry in PRIORS.items() if entry.download])
def prior(request):
    return load_prior(request.param)


def test_the_table_is_right(prior):
    entry, checkpoint = PRIORS[prior.name], checkpoints.fetch(prior.name)
    sizes = checkpoint.parameters
    assert checkpoint.side == entry.side and prior.channels == 4 and prior.factor == 8
    assert sizes["unet"] / 1e6 == pytest.approx(entry.unet, abs=0.2) and sizes["vae"] / 1e6 == pytest.approx(
        entry.vae, abs=0.2
    )
    assert sum(size for part, size in sizes.items() if "text" in part) / 1e6 == pytest.approx(
        entry.text, rel=0.01
    )


@pytest.fixture
def clean() -> torch.Tensor:
    """(1,3,256,256): the astronaut's face and helmet."""
    from skimage.data import astronaut

    return torch.from_numpy(astronaut()[:256, 100:356].copy()).permute(2, 0, 1)[None].float() / 255


def test_the_codec_is_a_codec(prior, clean):
    """Model cards say 23 to 25 dB at 256×256 (reld.md §4.5)."""
    picture = prior.picture(prior.encode(clean.to(prior.device)), (256, 256)).cpu()
    assert metrics.psnr(picture, clean) > 20
    assert 0.3 < prior.encode(clean.to(prior.device)).std() < 3 and 0.2 < prior.gain < 10


def test_the_denoiser_denoises(prior, clean):
    z = prior.encode(clean.to(prior.device))
    noise = torch.randn(z.shape, generator=torch.Generator().manual_seed(0)).to(z)
    t = prior.timestep(0.5)
    a = prior.alpha_bar[t].float()
    z0 = prior.denoise(a.sqrt() * z + (1 - a).sqrt() * noise, t, prior.embed("a photo of an astronaut")).z0
    assert (z0 - z).square().mean() < 0.5 * 0.5**2


def test_reld_restores(prior, clean):
    task = TASKS["super-resolution"]()
    y = task.degrade(clean, torch.Generator().manual_seed(0))
    preset = "few-step" if PRIORS[prior.name].few_step else "fast"
    result = list(
        restore(y, Run(RELDFast(**PRESETS["reld"][preset]), task, periodic=True), prior, reference=clean)
    )[-1].result
    assert result.scores["PSNR"] > metrics.psnr(task.start(y).clamp(0, 1), clean) - 3
