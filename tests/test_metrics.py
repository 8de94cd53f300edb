from __future__ import annotations

import pytest
import torch
from skimage.data import coffee
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from restoration.evaluation import metrics


@pytest.fixture
def clean() -> torch.Tensor:
    return torch.from_numpy(coffee()[:256, 150:406].copy()).permute(2, 0, 1)[None].float() / 255


@pytest.fixture
def noisy(clean) -> torch.Tensor:
    return (clean + 0.1 * torch.randn(clean.shape, generator=torch.Generator().manual_seed(0))).clamp(0, 1)


@pytest.fixture
def without_network(monkeypatch, tmp_path):
    def refuse(*_args, **_kwargs):
        raise OSError("no network")

    monkeypatch.setattr(metrics.urllib.request, "urlopen", refuse)
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    metrics._lpips_network.cache_clear()
    yield tmp_path
    metrics._lpips_network.cache_clear()


def test_psnr_and_ssim_are_scikit_images(clean, noisy):
    a, b = clean[0].permute(1, 2, 0).numpy(), noisy[0].permute(1, 2, 0).numpy()
    assert metrics.psnr(noisy, clean) == pytest.approx(peak_signal_noise_ratio(a, b, data_range=1), abs=1e-3)
    expected = structural_similarity(a, b, data_range=1, channel_axis=-1, gaussian_weights=True, sigma=1.5, use_sample_covariance=False)
    assert metrics.ssim(noisy, clean) == pytest.approx(expected, abs=2e-3)


def test_every_metric_prefers_the_clean_picture(clean, noisy, without_network):
    perfect, worse = metrics.score(clean, clean), metrics.score(noisy, clean)
    assert perfect.keys() == worse.keys() == metrics.METRICS.keys() - {"LPIPS"}
    for name in perfect:
        assert (perfect[name] > worse[name]) == metrics.METRICS[name].higher_is_better


def test_without_reference_only_what_needs_none(noisy):
    assert metrics.score(noisy).keys() == {"NIQE (own fit)"}
    assert metrics.score(noisy[..., :100, :100]) == {}


def test_lpips_reads_the_trunk_where_torchvision_keeps_it(clean, noisy, without_network):
    from torchvision.models import alexnet

    (without_network / "checkpoints").mkdir()
    torch.save(alexnet().state_dict(), without_network / "checkpoints" / "alexnet-owt-7be5be79.pth")
    assert metrics.score(noisy, clean)["LPIPS"] > metrics.score(clean, clean)["LPIPS"] == 0
