from __future__ import annotations

import json

import pytest
import torch
from diffusers import DDIMScheduler

from restoration import diffusion
from restoration.evaluation import metrics
from restoration.priors.catalogue import EMBEDDED
from restoration.priors.latent import load_prior
from restoration.training import card


def test_committed_weights_fit_the_hub():
    files = [f for f in EMBEDDED.rglob("*") if f.is_file()]
    assert max(f.stat().st_size for f in files) < 15e6
    assert sum(f.stat().st_size for f in files) < 32e6


def test_encode_undoes_decode(embedded):
    z = embedded.encode(torch.rand(1, 3, 64, 48))
    again = embedded.encode(embedded.decode(z, (64, 48)))
    assert (again - z).abs().max() < 1e-4


def test_isometry(embedded):
    noise = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    z = embedded.encode(0.5 + 0.1 * noise) - embedded.encode(torch.full_like(noise, 0.5))
    assert abs(z.std().item() - 0.1) < 0.003


def test_round_trip_of_a_photograph(embedded, photo):
    image = embedded.decode(embedded.encode(photo), (96, 96))
    assert metrics.psnr(image.clamp(0, 1), photo) > 34


@pytest.mark.parametrize("size", [(17, 33), (40, 64), (50, 23)])
def test_any_size(embedded, size):
    x = torch.rand(1, 3, *size)
    z = embedded.encode(x)
    assert embedded.denoise(z, 100).z0.shape == z.shape
    assert embedded.decode(z, size).shape == x.shape


@pytest.mark.parametrize("t", [0, 300, 999])
def test_the_identity_of_estimate_and_noise(embedded, t):
    z_t = torch.randn(1, embedded.channels, 12, 12)
    out = embedded.denoise(z_t, t)
    again = diffusion.add_noise(out.z0, out.eps, embedded.alpha_bar[t])
    assert (again - z_t).abs().max() < 1e-4


def test_levels_of_network_and_scheduler_agree(embedded):
    levels = embedded.parts.unet.sigma(torch.arange(1000))
    assert ((embedded.sigmas.float() - levels).abs() / levels).max() < 1e-3
    assert embedded.timestep(levels[500].item()) == 500


def test_ddim_step_is_diffusers():
    scheduler = DDIMScheduler(num_train_timesteps=1000, clip_sample=False, set_alpha_to_one=True)
    scheduler.set_timesteps(10)
    z_t, eps = torch.randn(2, 1, 4, 8, 8)
    a, b = scheduler.alphas_cumprod[801], scheduler.alphas_cumprod[701]
    z0 = (z_t - (1 - a).sqrt() * eps) / a.sqrt()
    assert torch.allclose(
        diffusion.ddim_step(z0, eps, b), scheduler.step(eps, 801, z_t).prev_sample, atol=1e-5
    )


def test_the_denoiser_beats_the_wiener_filter(embedded, photo):
    sigma = 25 / 255
    z = embedded.encode(photo)
    s = z + sigma * torch.randn(z.shape, generator=torch.Generator().manual_seed(0))
    power = embedded.parts.unet.std**2
    learned, linear = (embedded.denoise_at(s, sigma), power / (power + sigma**2) * s)
    assert (learned - z).square().mean() < 0.7 * (linear - z).square().mean()


def test_unknown_and_unsafe_priors(tmp_path):
    with pytest.raises(ValueError, match="No prior"):
        load_prior("nonsense")
    (tmp_path / "model_index.json").write_text(
        json.dumps({"vae": ["os", "system"], "unet": ["os", "x"], "scheduler": ["os", "x"]})
    )
    with pytest.raises(ValueError, match="only classes of"):
        load_prior(str(tmp_path))


def test_text_guides_a_text_prior(text_prior):
    z = torch.randn(1, 4, 8, 8)
    text = text_prior.embed("red door")
    assert text.shape == (2, 12, 16) and text_prior.embed("").shape == (1, 12, 16)
    plain, worded = text_prior.denoise(z, 500), text_prior.denoise(z, 500, text, 1.0)
    strong = text_prior.denoise(z, 500, text, 3.0)
    assert torch.equal(plain.eps, text_prior.denoise(z, 500, text_prior.embed(""), 8.0).eps)
    assert (worded.eps - plain.eps).abs().max() > 1e-4
    assert torch.allclose(strong.eps, plain.eps + 3 * (worded.eps - plain.eps), atol=1e-5)


def test_an_empty_prompt_is_the_same_with_and_without_the_shortcut(text_prior):
    z = torch.randn(2, 4, 8, 8)
    empty = text_prior.embed("")
    short, literal = (
        text_prior.denoise(z, 500, empty, 8.0),
        text_prior.denoise(z, 500, torch.cat([empty, empty]), 8.0),
    )
    assert torch.allclose(short.z0, literal.z0, atol=1e-4)


def test_a_text_prior_is_what_its_pipeline_is(text_prior, text_folder):
    from diffusers import StableDiffusionPipeline

    pipe = StableDiffusionPipeline.from_pretrained(text_folder, use_safetensors=True)
    theirs = pipe.encode_prompt("red door", "cpu", 1, True, "")
    assert torch.allclose(text_prior.embed("red door"), torch.cat([theirs[1], theirs[0]]), atol=1e-6)
    a = pipe.scheduler.alphas_cumprod[[0, 1, 99, 449, 699, 899]]
    assert torch.allclose(text_prior.alpha_bar[[0, 1, 99, 449, 699, 899]].float(), a, atol=1e-6)
    x = torch.rand(1, 3, 16, 16)
    assert torch.allclose(
        text_prior.encode(x),
        pipe.vae.encode(2 * x - 1).latent_dist.mean * pipe.vae.config.scaling_factor,
        atol=1e-5,
    )


def test_the_embedded_prior_reads_no_text(embedded):
    assert embedded.embed("red door") is None


def test_clamp_quantile():
    z = torch.randn(2, 4, 32, 32) * torch.tensor([1.0, 3.0])[:, None, None, None]
    out = diffusion.clamp_quantile(z, 0.995)
    for before, after in zip(z, out, strict=True):
        changed = before != after
        assert 0 < changed.sum() <= 0.005 * before.numel() + 1
        assert torch.equal(before[~changed], after[~changed])  # never divided
        assert after[changed].abs().min() == after.abs().max()
    # s is never below 1
    assert torch.equal(diffusion.clamp_quantile(0.1 * z.clamp(-9, 9), 0.995), 0.1 * z.clamp(-9, 9))
    stock = DDIMScheduler(
        prediction_type="sample", thresholding=True, dynamic_thresholding_ratio=0.995, sample_max_value=100
    )
    stock.set_timesteps(1)
    assert not torch.allclose(stock.step(z, 0, z).pred_original_sample, out)  # diffusers' own divides


def test_the_card_measures_and_samples(tiny_prior, photo):
    """An untrained network is the Wiener filter where the deviations are right, and sampling ends with finite
    pictures.
    """
    rows = card.levels(tiny_prior, photo[..., :64, :64])
    assert [row[0] for row in rows] == list(card.LEVELS)
    assert all(a < b + 30 for _, a, b, _ in rows) and rows[0][1] > rows[-1][1]
    pictures = card.samples(tiny_prior, 2, 32, 5, 0)
    assert pictures.shape == (2, 3, 32, 32) and torch.isfinite(pictures).all()
