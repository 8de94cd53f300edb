"""What LatentINDIGO does step by step, with networks whose degradation is known, and what the committed ones
achieve.
"""

from __future__ import annotations

import dataclasses
import re

import pytest
import torch
import torch.nn.functional as F
from diffusers import DDIMScheduler

from restoration.degradations import realistic
from restoration.diffusion import add_noise, churned_step, ddim_step
from restoration.evaluation import metrics
from restoration.files.images import enlarge
from restoration.priors import tiling
from restoration.record import Run
from restoration.run import restore
from restoration.solvers.base import Step
from restoration.solvers.inn import LiftingINN
from restoration.solvers.inn_weights import load_restorer
from restoration.solvers.latent_indigo import LatentINDIGO, levelled
from restoration.solvers.latent_indigo_camera import REFINE_RATES, Camera
from restoration.solvers.restorer import Restorer


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


def final(prior, y, solver, reference=None, **options):
    return list(restore(y, Run(solver, **options), prior, reference=reference))[-1].result


def camera_of(prior, y, **settings) -> Camera:
    solver = LatentINDIGO(**settings)
    return Camera(solver, prior, y, load_restorer(solver.scale)(y))


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
    clean = latent_network.measure(tiny_prior.encode(load_restorer(4)(y)), gamma)
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
    z_t = add_noise(tiny_prior.encode(load_restorer(4)(y)), noise, tiny_prior.alpha_bar[levels[0]])
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
    for step in restore(torch.rand(1, 3, 16, 16), Run(solver), tiny_prior):
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


@pytest.mark.parametrize("domain", ["latent", "pixel"])
def test_the_fidelity_weight_goes_from_the_clean_estimate_to_the_input(embedded, photo, domain):
    generator = torch.Generator().manual_seed(0)
    y = realistic.draw("light", 4, generator).degrade(photo, generator)
    runs = [
        list(restore(y, Run(LatentINDIGO(domain=domain, fidelity_weight=weight)), embedded))[-1]
        for weight in (0.0, 0.5, 1.0)
    ]
    unexplained = [step.scalars["residual"] for step in runs]
    assert unexplained[2] < unexplained[1] < unexplained[0]
    assert (runs[2].result.image - runs[0].result.image).square().mean().sqrt() > 1 / 255


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


def test_any_size_in_tiles(embedded, photo, monkeypatch):
    """A whole run in tiles: no network of the prior that is tiled sees more, and the result is that of a run
    without them, borders included.
    """
    y = F.interpolate(photo, (21, 33), mode="area")
    largest: dict[str, int] = {}

    def watch(verb: str) -> None:
        original = getattr(embedded, verb)

        def watched(z, *more):
            largest[verb] = max(largest.get(verb, 0), *z.shape[-2:])
            return original(z, *more)

        monkeypatch.setattr(embedded, verb, watched)

    watch("denoise")
    watch("decode")
    images = {}
    for tile in (16, 512):
        largest.clear()
        step = list(
            LatentINDIGO(steps=2, tile=tile).restore(
                embedded, y, None, generator=torch.Generator().manual_seed(0)
            )
        )[-1]
        images[tile] = step.image
        # of the picture and its surroundings, 8 latent pixels a side
        assert largest == dict.fromkeys(("denoise", "decode"), min(tile, 33 + 16))
    difference = images[16] - images[512]
    assert images[16].shape == (1, 3, 84, 132) and difference.square().mean().sqrt() < 0.3 / 255
    for length, axis in ((21, -2), (33, -1)):
        edges = [
            4 * (edge - 8) - 1
            for first in tiling.starts(length + 16, 16)
            for edge in (first, first + 16)
            if 8 < edge < length + 8
        ]
        jumps = [
            image.diff(dim=axis).abs().mean([d for d in range(-4, 0) if d != axis])[edges].mean()
            for image in images.values()
        ]
        assert jumps[0] < 1.05 * jumps[1]


def test_an_untrained_scale_or_prior_is_refused(tiny_prior):
    with pytest.raises(ValueError, match="no latent network for ×4 with the prior 'tiny'"):
        final(tiny_prior, torch.rand(1, 3, 16, 16), LatentINDIGO(domain="latent"))


@pytest.mark.parametrize("domain", ["latent", "pixel"])
def test_quality(embedded, photo, domain):
    """Over drawn cameras the blind ×4 result beats the bicubic enlargement."""
    gains = []
    for seed in range(4):
        generator = torch.Generator().manual_seed(seed)
        y = realistic.draw("light", 4, generator).degrade(photo, generator)
        result = final(embedded, y, LatentINDIGO(domain=domain), reference=photo)
        gains.append(result.scores["PSNR"] - metrics.psnr(enlarge(y, 4), photo))
    assert sum(gains) / len(gains) > 0.2


@pytest.mark.parametrize("scale", [1, 4])
def test_flat_colours_stay_what_they_are_to_the_border(embedded, scale):
    """Saturated ones most of all, which the networks seldom saw: the light is the input's, with no frame."""
    y = torch.tensor([[220.0, 20.0, 30.0], [0.0, 255.0, 0.0]])[..., None, None].expand(2, 3, 24, 28) / 255
    *_, last = LatentINDIGO(scale=scale, steps=2).restore(
        embedded, y, None, generator=torch.Generator().manual_seed(0)
    )
    off = 255 * (last.image.clamp(0, 1) - y[..., :1, :1])
    assert last.image.shape[-2:] == (24 * scale, 28 * scale)
    assert off.mean((-1, -2)).abs().max() < 1 and off.abs().max() < 5


def test_light_comes_from_the_input_and_detail_from_the_networks():
    y = torch.rand(2, 3, 70, 81, generator=torch.Generator().manual_seed(0))
    image = y.repeat_interleave(2, -1).repeat_interleave(2, -2)
    fine = 0.1 * (torch.arange(162) % 2 * 2 - 1).float()
    assert torch.allclose(levelled(image + fine, y, 2), image + fine, atol=1e-5)
    assert torch.allclose(levelled(image + 0.05, y, 2), image, atol=1e-5)


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


@pytest.mark.parametrize("scale", [1, 2, 4])
def test_the_first_estimate_keeps_the_colours_of_areas(scale):
    """Whatever its weights: a flat colour stays as it is, away from the border."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        restorer = Restorer(scale, width=8, cells=1).requires_grad_(False)
        torch.nn.init.normal_(restorer.leave.weight)
    y = torch.tensor([0.1, 0.8, 0.2])[None, :, None, None].expand(1, 3, 128 // scale, 128 // scale)
    change = (restorer(y) - enlarge(y, scale))[..., 48:80, 48:80]
    assert change.abs().max() > 0.01 and change.mean((2, 3)).abs().max() < 1e-4


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
