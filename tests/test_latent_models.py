"""Stable Diffusion 1, 2 and XL as tiny random checkpoints of their own classes.

Their trajectories: test_every_prior.py.
"""

from __future__ import annotations

import dataclasses

import pytest
import torch
from tiny_models import load, pipeline_of

from restoration import diffusion
from restoration.degradations.blur import GaussianBlur
from restoration.degradations.linear import TASKS
from restoration.priors.diffusers_folder import CLASSES
from restoration.priors.latent import LatentPrior
from restoration.record import Run
from restoration.run import restore
from restoration.solvers import PRESETS
from restoration.solvers.reld_fast import RELDFast

SIZE = (16, 19)  # of a picture: small, and odd


def test_pictures_and_latents_are_the_pipelines(folders, kind):
    prior, vae = load(folders[kind]), pipeline_of(folders[kind]).vae
    x = torch.rand(2, 3, 18, 24)
    latent = vae.encode(2 * x - 1).latent_dist.mean
    shift = vae.config.shift_factor or 0.0
    assert torch.allclose(prior.encode(x), (latent - shift) * 0.13025, atol=1e-5)
    assert torch.allclose(
        prior.decode(prior.encode(x), (18, 24)), vae.decode(latent).sample / 2 + 0.5, atol=1e-5
    )


@pytest.mark.parametrize("name", sorted(CLASSES["scheduler"] - {"FlowMatchEulerDiscreteScheduler"}))
def test_every_scheduler_of_the_list_says_the_levels(folders, name):
    """The published checkpoints name different samplers; only their noise levels matter here."""
    import diffusers

    scheduler = getattr(diffusers, name)(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear")
    prior = load(folders["sd1"])
    again = LatentPrior("again", dataclasses.replace(prior.parts, scheduler=scheduler), prior.placement)
    assert torch.allclose(again.alpha_bar, prior.alpha_bar) and again.levels.prediction_type == "epsilon"


def test_a_schedule_that_ends_in_noise_alone(folders):
    from diffusers import DDIMScheduler

    prior = load(folders["sd2"])
    scheduler = DDIMScheduler(rescale_betas_zero_snr=True, prediction_type="v_prediction")
    last = LatentPrior("zero", dataclasses.replace(prior.parts, scheduler=scheduler), prior.placement)
    assert torch.isfinite(last.sigmas).all() and last.timestep(1e3) > 980
    assert all(torch.isfinite(part).all() for part in last.denoise(torch.randn(1, 4, 8, 8), 999))


def test_every_row_of_a_batch_is_what_it_is_alone(folders, kind):
    prior, z = load(folders[kind]), torch.randn(3, 4, 8, 8)
    text = prior.embed("red door")
    together = prior.denoise(z, 300, text, 4.0).z0
    assert torch.allclose(
        together, torch.cat([prior.denoise(row[None], 300, text, 4.0).z0 for row in z]), atol=1e-4
    )


@pytest.mark.parametrize(
    ("preset", "task"), [("fast", "denoise"), ("fast", "super-resolution"), ("few-step", "super-resolution")]
)
def test_reld_runs(folders, kind, preset, task):
    degradation = TASKS[task](**({"scale": 2} if task == "super-resolution" else {}))
    prior = load(folders[kind])
    steps = list(
        restore(torch.rand(1, 3, *SIZE), Run(RELDFast(**PRESETS["reld"][preset]), degradation), prior)
    )
    assert steps[-1].result.image.shape[-2:] == tuple(degradation.factor * side for side in SIZE)
    assert torch.isfinite(steps[-1].result.image).all()


def test_half_precision_networks_keep_float32_latents(folders, kind):
    prior, exact = load(folders[kind], torch.bfloat16), load(folders[kind])
    z = torch.randn(1, 4, 8, 8)
    text, other = prior.embed("red door"), exact.embed("red door")
    out, better = prior.denoise(z, 500, text, 3.0), exact.denoise(z, 500, other, 3.0)
    assert prior.parts.unet.dtype == torch.bfloat16 and prior.parts.vae.dtype == torch.float32
    assert out.z0.dtype == out.eps.dtype == text.dtype == torch.float32
    assert ((out.eps - better.eps).norm() / better.eps.norm()) < 0.05
    assert torch.equal(
        prior.encode(torch.full((1, 3, 8, 8), 0.3)), exact.encode(torch.full((1, 3, 8, 8), 0.3))
    )


def test_tiles(folders):
    """What fits one tile is untouched; larger pictures keep size and gradient.

    Random weights are no codec, so seams are not to be judged here.
    """
    whole, tiled = load(folders["sd1"]), load(folders["sd1"], tiled=True)
    z = torch.randn(2, 4, 8, 8)
    assert torch.allclose(whole.decode(z, (16, 16)), tiled.decode(z, (16, 16)), atol=1e-5)
    leaf = torch.randn(1, 4, 14, 9, requires_grad=True)
    x = tiled.decode(leaf, (27, 18))
    (gradient,) = torch.autograd.grad(x.square().sum(), leaf)
    assert x.shape == (1, 3, 27, 18) and torch.isfinite(gradient).all() and (gradient.abs().amax(1) > 0).all()
    assert tiled.encode(x.detach()).shape == leaf.shape


def leaves(hook) -> list:
    return [leaf for inner in hook.hooks for leaf in leaves(inner)] if hasattr(hook, "hooks") else [hook]


def test_networks_take_turns(folders, kind):
    """Where the only device is the host nothing moves, but the hooks run: results stay, and each network
    would send all others away.
    """
    prior = load(folders[kind], offload=True)
    z, text = torch.randn(1, 4, 8, 8), prior.embed("red door")
    assert torch.equal(prior.denoise(z, 500, text, 2.0).z0, load(folders[kind]).denoise(z, 500, text, 2.0).z0)
    for network in prior.parts.networks:
        sent = {id(hook.prev_module_hook.model) for hook in leaves(network._hf_hook)}
        assert sent == {id(other) for other in prior.parts.networks if other is not network}
    assert prior.decode(prior.encode(torch.rand(1, 3, 16, 16)), (16, 16)).shape == (1, 3, 16, 16)


def test_noise_gain(folders, embedded):
    """The embedded codec's is 1; another's is what noise on a grey ramp becomes, at any scale."""
    assert embedded.gain == 1 and embedded.isometric and not load(folders["sd1"]).isometric
    prior, other = load(folders["sd1"]), load(folders["sd1"])
    del other.gain  # it is measured again
    other.scale *= 3
    assert prior.gain > 0 and other.gain == pytest.approx(3 * prior.gain, rel=1e-4)


def test_the_pull_cancels_the_codecs_error(folders, embedded, photo):
    prior = load(folders["sd1"])
    z = torch.randn(1, 4, 16, 16)
    x = prior.decode(z, (32, 32))
    assert torch.allclose(prior.pull(z, x, x), z, atol=1e-6)
    target = torch.rand(1, 3, 32, 32)
    assert torch.allclose(
        prior.pull(z, x - 5, target + 5), z + prior.encode(target * 0 + 1) - prior.encode(x * 0), atol=1e-5
    )
    assert not torch.allclose(prior.encode(x), z, atol=1e-2)
    assert torch.equal(embedded.pull(z, photo, photo), embedded.encode(photo))


def test_the_levels_of_a_run_are_the_priors(folders, embedded):
    """No level below the lowest that the denoiser knows, where it would do the same again; the embedded prior
    knows all.
    """
    prior = load(folders["sd1"])
    levels = RELDFast().levels(prior, GaussianBlur(), 0.01)
    assert prior.lowest == pytest.approx(prior.sigmas[0].item() / prior.gain) and prior.lowest > 3 / 255
    assert levels[-1] == pytest.approx(prior.lowest) and len(levels) == RELDFast().steps
    assert RELDFast().levels(embedded, GaussianBlur(), 0.01)[-1] == pytest.approx(RELDFast().end_level / 255)


def test_a_distilled_prior_keeps_to_its_timesteps_and_has_no_guidance(folders):
    prior = load(folders["sd1"])
    few = LatentPrior(
        "few", dataclasses.replace(prior.parts, timesteps=(249, 499, 749, 999)), prior.placement
    )
    asked, predict = [], few.denoiser.predict

    def listening(z, t, text, pixels):
        asked.append((t, len(z)))
        return predict(z, t, text, pixels)

    few.denoiser.predict = listening
    z_t, text = torch.randn(1, 4, 8, 8), few.embed("red door")
    for t in (3, 249, 600, 980):
        out = few.denoise(z_t, t, text, 5.0)
        assert (diffusion.add_noise(out.z0, out.eps, few.alpha_bar[t]) - z_t).abs().max() < 1e-4
    assert asked == [(249, 1), (249, 1), (499, 1), (999, 1)]
    assert torch.equal(few.denoise(z_t, 499, text).z0, prior.denoise(z_t, 499, text).z0)
    assert [few.timestep(s) for s in (0.01, 1.6, 100.0)] == [249, 499, 999] and few.lowest > prior.lowest
