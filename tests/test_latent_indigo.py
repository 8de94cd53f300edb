"""What LatentINDIGO does step by step, with networks whose degradation is known."""

from __future__ import annotations

import dataclasses
import re

import pytest
import torch
import torch.nn.functional as F
from diffusers import DDIMScheduler

from restoration.degradations.meter import measure_damage
from restoration.diffusion import add_noise, churned_step, ddim_step
from restoration.files.images import enlarge
from restoration.record import Run
from restoration.run import restore
from restoration.solvers.base import Step
from restoration.solvers.first_estimate import first_estimate
from restoration.solvers.inn import LiftingINN
from restoration.solvers.latent_indigo import LatentINDIGO
from restoration.solvers.latent_indigo_camera import REFINE_RATES, Camera, unexplained


@pytest.fixture
def mean_of_blocks(monkeypatch) -> LiftingINN:
    """The untrained network: exactly the reduction to means of 4×4 blocks."""
    inn = LiftingINN().eval().requires_grad_(False)
    monkeypatch.setattr("restoration.solvers.inn_weights.load_inn", lambda *_: inn)
    monkeypatch.setattr("restoration.solvers.inn_weights.missing", lambda *_: "")
    return inn


@pytest.fixture
def latent_network(monkeypatch) -> LiftingINN:
    torch.manual_seed(0)
    inn = (
        LiftingINN(scale=1, patch=1, offset=0.0, spread=(1.0,) * 16, width=8, pairs=1)
        .eval()
        .requires_grad_(False)
    )
    for lift in (*inn.predictors, *inn.updaters):
        torch.nn.init.normal_(lift.leave.weight, std=0.05)
        torch.nn.init.normal_(lift.cells[0].second.weight, std=0.05)
    monkeypatch.setattr("restoration.solvers.inn_weights.load_inn", lambda *_: inn)
    monkeypatch.setattr("restoration.solvers.inn_weights.missing", lambda *_: "")
    return inn


def final(prior, y, solver):
    return list(restore(y, Run(solver), prior))[-1].result


def first(prior, y, scale: int = 4) -> torch.Tensor:
    """The first estimate of y (1,3,h,w)."""
    return first_estimate(prior, y, scale, [measure_damage(y)], 64, torch.Generator().manual_seed(0))


def camera_of(prior, y, **settings) -> Camera:
    solver = LatentINDIGO(**settings)
    return Camera(solver, prior, y, first(prior, y, solver.scale), [measure_damage(y)])


def loop(prior, y, **settings) -> list[Step]:
    """The solver's own loop, of a picture without surroundings."""
    return list(LatentINDIGO(**settings).sample(prior, y, torch.Generator().manual_seed(0)))


@pytest.fixture
def one_step(tiny_prior, latent_network):
    """Settings -> the latent (1,16,16,16) after the only step, from 25/255."""
    y = torch.rand(1, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    return lambda **settings: (
        loop(tiny_prior, y, **{"steps": 1, "start_level": 25.0, "end_level": 25.0} | settings)[-1].latent
    )


@pytest.mark.parametrize("weight", [0.0, 0.4, 1.0])
def test_the_loop_aims_between_the_first_estimates_coarse_part_and_the_input(
    tiny_prior, latent_network, one_step, weight
):
    y = torch.rand(1, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    gamma = latent_network.embed(y)
    clean = latent_network.measure(tiny_prior.encode(first(tiny_prior, y)), gamma)
    aim = clean.lerp(tiny_prior.encode(enlarge(y, 4)), weight)
    z0 = one_step(guidance="none")
    assert (latent_network.measure(z0, gamma) - aim).abs().max() > 0.1  # else there is nothing to guide to
    assert torch.allclose(one_step(fidelity_weight=weight), latent_network.swap(z0, aim, gamma)[0], atol=1e-5)


def test_the_closed_form_is_a_gradient_step(tiny_prior, latent_network):
    """(24) with η = 1: one step of length 1 down |z_inv - z|²/2 with z_inv held."""
    camera = camera_of(tiny_prior, torch.rand(1, 3, 16, 16))
    z = tiny_prior.encode(torch.rand(1, 3, 64, 64)).requires_grad_()
    swapped, _ = latent_network.swap(z, camera.target, camera.gamma)
    (slope,) = torch.autograd.grad((swapped.detach() - z).square().sum() / 2, z)
    assert torch.allclose(camera.swap(z)[0], z - slope, atol=1e-6)


def test_without_guidance_it_is_ddim_and_needs_no_network_of_the_cameras(tiny_prior):
    y = torch.rand(1, 3, 16, 16)
    levels = [tiny_prior.timestep(tiny_prior.gain * level / 255) for level in (5.0, 15**0.5, 3.0)]
    noise = torch.randn((1, 16, 16, 16), generator=torch.Generator().manual_seed(0))
    z_t = add_noise(tiny_prior.encode(first(tiny_prior, y)), noise, tiny_prior.alpha_bar[levels[0]])
    steps = loop(tiny_prior, y, guidance="none", steps=3)
    assert not steps[-1].views and "found" not in steps[-1].note
    for step, t, following in zip(steps, levels, [*levels[1:], levels[-1]], strict=True):
        z0, eps = tiny_prior.denoise(z_t, t)
        assert torch.allclose(step.latent, z0, atol=1e-5)
        z_t = ddim_step(z0, eps, tiny_prior.alpha_bar[following])


def test_guidance_changes_the_default_at_every_step(tiny_prior, latent_network):
    y = torch.rand(1, 3, 16, 16)
    for guidance in ("direct", "gradient"):
        for free, guided in zip(
            loop(tiny_prior, y, guidance="none"), loop(tiny_prior, y, guidance=guidance), strict=True
        ):
            assert (free.latent - guided.latent).square().mean().sqrt() > 0.005


@pytest.mark.parametrize("refine", ["gamma", "full"])
def test_refinement_in_the_loop_lowers_its_last_residual(tiny_prior, latent_network, refine, monkeypatch):
    monkeypatch.setitem(REFINE_RATES, "full", 1e-3)
    y = torch.rand(1, 3, 16, 16)
    plain, refined = (
        [step.scalars["residual"] for step in loop(tiny_prior, y, steps=20, refine=form)]
        for form in ("none", refine)
    )
    assert refined[0] == plain[0] and refined[-1] < 0.999 * plain[-1]


def test_pull_is_r1(one_step):
    free, guided = one_step(guidance="none"), one_step()
    pulled = one_step(regularise="pull", strength=0.5)
    assert (
        torch.allclose(pulled, (guided + 0.5 * free) / 1.5, atol=1e-5)
        and (pulled - guided).abs().max() > 0.01
    )


def test_resample_is_r2(tiny_prior, one_step):
    guided = one_step()
    generator, t = torch.Generator().manual_seed(0), tiny_prior.timestep(tiny_prior.gain * 25 / 255)
    _, noise = (torch.randn(guided.shape, generator=generator) for _ in range(2))
    again = tiny_prior.denoise(add_noise(guided, noise, tiny_prior.alpha_bar[t]), t).z0
    assert torch.allclose(one_step(regularise="resample", strength=0.5), (guided + again) / 2, atol=1e-5)
    assert (again - guided).abs().max() > 0.01


def test_statistics_is_r5(one_step):
    free, guided, matched = (
        one_step(guidance="none"),
        one_step(),
        one_step(regularise="statistics", strength=1.0),
    )
    for figure in (torch.mean, torch.std):
        assert torch.allclose(figure(matched, (2, 3)), figure(free, (2, 3)), atol=1e-4)
        assert not torch.allclose(figure(guided, (2, 3)), figure(free, (2, 3)), atol=1e-3)


@pytest.mark.parametrize("guidance", ["direct", "gradient"])
@pytest.mark.parametrize("refine", ["none", "gamma", "full"])
def test_the_latent_network_never_decodes_before_the_end(
    tiny_prior, latent_network, monkeypatch, guidance, refine
):
    calls, decode = [], tiny_prior.decode
    monkeypatch.setattr(tiny_prior, "decode", lambda z, size: calls.append(size) or decode(z, size))
    solver = LatentINDIGO(domain="latent", steps=4, guidance=guidance, refine=refine)
    smooth = F.interpolate(
        torch.rand(1, 3, 4, 4), (16, 16), mode="bilinear"
    )  # no noise to be taken out first
    for step in restore(smooth, Run(solver), tiny_prior):
        assert bool(calls) == (step.index == step.total)


@pytest.mark.parametrize("guidance", ["direct", "gradient"])
def test_guidance_by_the_true_degradation_makes_the_result_agree_with_it(
    embedded, photo, mean_of_blocks, guidance
):
    y = F.avg_pool2d(photo, 4)
    solver = LatentINDIGO(domain="pixel", start="enlarged", start_level=25.0, steps=4, fidelity_weight=1.0)
    mismatch = {}
    for form in ("none", guidance):
        image = final(embedded, y, dataclasses.replace(solver, guidance=form)).image
        mismatch[form] = (F.avg_pool2d(image, 4) - y).square().mean().sqrt()
    assert mismatch[guidance] < 0.5 * mismatch["none"]


def test_one_full_swap_agrees_with_the_measurement(embedded, photo, mean_of_blocks):
    y = F.avg_pool2d(photo, 4)
    camera = camera_of(embedded, y, domain="pixel", fidelity_weight=1.0)
    z, before = camera.swap(embedded.encode(torch.full_like(photo, 0.5)))
    assert camera.swap(z)[1] < 0.05 * before


@pytest.mark.parametrize("refine", ["gamma", "full"])
def test_refinement_explains_this_photograph_better_and_is_forgotten(tiny_prior, latent_network, refine):
    weights = {k: v.clone() for k, v in latent_network.state_dict().items()}
    y = torch.rand(1, 3, 16, 16)
    camera = camera_of(tiny_prior, y, start="enlarged", refine=refine)
    gamma = camera.gamma.clone()
    z = tiny_prior.encode(torch.rand(1, 3, 64, 64))
    before = camera.swap(z)[1]
    for _ in range(20):
        camera.refine(z)
    assert camera.swap(z)[1] < before
    assert torch.equal(camera.gamma, gamma) == (refine == "full")
    assert all(torch.equal(v, weights[k]) for k, v in latent_network.state_dict().items())
    assert torch.equal(camera_of(tiny_prior, y, start="enlarged", refine=refine).gamma, gamma)


def test_a_gradient_step_lowers_the_mismatch(tiny_prior, latent_network):
    camera = camera_of(tiny_prior, torch.rand(1, 3, 16, 16), guidance="gradient", fidelity_weight=1.0)
    z = tiny_prior.encode(torch.rand(1, 3, 64, 64))
    z, before = camera.gradient(z)
    assert camera.gradient(z)[1] < before


def test_what_noise_explains_does_not_guide_and_structure_does():
    generator = torch.Generator().manual_seed(0)
    difference = 5 / 255 * torch.randn((2, 3, 64, 80), generator=generator)
    difference[..., 20:36, 30:46] += 30 / 255 * torch.sin(torch.arange(16.0))
    weight = unexplained(difference, torch.tensor([0.0, 40 / 255])[:, None, None, None])
    assert weight[0, :, 24:32, 34:42].min() > 0.8 and weight[0, :, :, 60:].max() < 0.1
    assert weight[1].max() < 0.1  # where the noise is known to be so strong


@pytest.mark.parametrize("churn", [0.0, 0.7])
def test_ddim_is_diffusers(tiny_prior, churn):
    scheduler = DDIMScheduler(trained_betas=_betas(tiny_prior), clip_sample=False, set_alpha_to_one=True)
    scheduler.set_timesteps(10)
    z0, eps = torch.randn(2, 1, 16, 8, 8)
    z_t = add_noise(z0, eps, tiny_prior.alpha_bar[600])
    noise = torch.randn(z_t.shape) if churn else None
    ours = churned_step(z_t, z0, tiny_prior.alpha_bar[600], tiny_prior.alpha_bar[500], churn, noise)
    theirs = scheduler.step(eps, 600, z_t, eta=churn, variance_noise=noise).prev_sample
    assert torch.allclose(ours, theirs, atol=1e-4)


def _betas(prior):
    alpha_bar = torch.cat([torch.ones(1).double(), prior.alpha_bar])
    return (1 - alpha_bar[1:] / alpha_bar[:-1]).tolist()


def test_an_untrained_scale_or_prior_is_refused(tiny_prior):
    with pytest.raises(ValueError, match="no latent network for ×4 with the prior 'tiny'"):
        final(tiny_prior, torch.rand(1, 3, 16, 16), LatentINDIGO(domain="latent"))


def test_what_surrounds_a_picture_is_cut_away_to_the_pixel(tiny_prior, latent_network):
    """Results, latents and views are of the picture alone, whatever its sides."""
    y = torch.rand(1, 3, 19, 26, generator=torch.Generator().manual_seed(0))
    for scale in (1, 2, 4):
        *_, last = LatentINDIGO(scale=scale, steps=1).restore(
            tiny_prior, y, None, generator=torch.Generator().manual_seed(0)
        )
        assert last.image.shape == (1, 3, 19 * scale, 26 * scale)
        assert last.latent.shape[-2:] == (-(-19 * scale // 4), -(-26 * scale // 4))
        assert all(view.shape == last.image.shape for view in last.views.values())


def test_what_a_prior_lacks_is_said_before_its_download(monkeypatch):
    """With the command that trains it, complete."""
    from restoration.training import inn as training

    with pytest.raises(
        ValueError, match=r"no latent network for ×4 with the prior 'sdxl': choose .* pixel"
    ) as error:
        Run(LatentINDIGO(), prior="sdxl")
    assert Run(LatentINDIGO(domain="pixel"), prior="sdxl") and not LatentINDIGO(guidance="none").lacks("sdxl")
    command = re.search("`python -m restoration.training.inn (.*)`", str(error.value))[1]
    given = training.parser("train").parse_args(command.split())
    assert (given.domain, given.scale, given.prior) == ("latent", 4, "sdxl")
