"""What LatentINDIGO does step by step, with networks whose degradation is known, and what the committed ones achieve."""

from __future__ import annotations

import dataclasses
import time

import pytest
import torch
import torch.nn.functional as F
from diffusers import DDIMScheduler

from restoration import metrics, realistic
from restoration.diffusion import add_noise
from restoration.inn import LiftingINN, enlarge
from restoration.run import restore
from restoration.solvers.latent_indigo import LatentINDIGO, _Camera


@pytest.fixture
def mean_of_blocks(monkeypatch) -> LiftingINN:
    """The untrained network: exactly the reduction to means of 4×4 blocks."""
    inn = LiftingINN().eval().requires_grad_(False)
    monkeypatch.setattr("restoration.inn.load_inn", lambda *_: inn)
    return inn


@pytest.fixture
def latent_network(monkeypatch) -> LiftingINN:
    torch.manual_seed(0)
    inn = LiftingINN(scale=1, patch=1, offset=0.0, spread=(1.0,) * 16, width=8, pairs=1).eval().requires_grad_(False)
    for lift in (*inn.predictors, *inn.updaters):
        torch.nn.init.normal_(lift.leave.weight, std=0.05)
        torch.nn.init.normal_(lift.cells[0].second.weight, std=0.05)
    monkeypatch.setattr("restoration.inn.load_inn", lambda *_: inn)
    return inn


def final(prior, y, solver, **options):
    return list(restore(y, solver, prior, **options))[-1].result


@pytest.mark.parametrize("guidance", ["direct", "gradient"])
@pytest.mark.parametrize("refine", ["none", "gamma", "full"])
def test_the_latent_network_never_decodes_before_the_end(tiny_prior, latent_network, monkeypatch, guidance, refine):
    calls, decode = [], tiny_prior.decode
    monkeypatch.setattr(tiny_prior, "decode", lambda z, size: calls.append(size) or decode(z, size))
    solver = LatentINDIGO(domain="latent", steps=4, guidance=guidance, refine=refine)
    for step in restore(torch.rand(1, 3, 16, 16), solver, tiny_prior):
        assert bool(calls) == (step.index == step.total)


@pytest.mark.parametrize("guidance", ["direct", "gradient"])
def test_guidance_by_the_true_degradation_makes_the_result_agree_with_it(embedded, photo, mean_of_blocks, guidance):
    y = F.avg_pool2d(photo, 4)
    solver = LatentINDIGO(domain="pixel", start="enlarged", start_level=25.0, steps=4, guidance=guidance, fidelity=1.0)
    mismatch = {}
    for fidelity in (0.0, 1.0):
        image = final(embedded, y, dataclasses.replace(solver, fidelity=fidelity)).image
        mismatch[fidelity] = (F.avg_pool2d(image, 4) - y).square().mean().sqrt()
    assert mismatch[1.0] < 0.5 * mismatch[0.0]


def test_one_full_swap_agrees_with_the_measurement(embedded, photo, mean_of_blocks):
    y = F.avg_pool2d(photo, 4)
    camera = _Camera(LatentINDIGO(domain="pixel", start="enlarged"), embedded, y)
    z, before = camera.swap(embedded.encode(torch.full_like(photo, 0.5)), 1.0)
    assert camera.swap(z, 1.0)[1] < 0.05 * before


@pytest.mark.parametrize("refine", ["gamma", "full"])
def test_refinement_explains_this_photograph_better_and_is_forgotten(tiny_prior, latent_network, refine):
    weights = {k: v.clone() for k, v in latent_network.state_dict().items()}
    y = torch.rand(1, 3, 16, 16)
    camera = _Camera(LatentINDIGO(start="enlarged", refine=refine), tiny_prior, y)
    gamma = camera.gamma.clone()
    z = tiny_prior.encode(torch.rand(1, 3, 64, 64))
    before = camera.swap(z, 0.0)[1]
    for _ in range(20):
        camera.refine(z)
    assert camera.swap(z, 0.0)[1] < before
    assert torch.equal(camera.gamma, gamma) == (refine == "full")
    assert all(torch.equal(v, weights[k]) for k, v in latent_network.state_dict().items())
    assert torch.equal(_Camera(LatentINDIGO(start="enlarged", refine=refine), tiny_prior, y).gamma, gamma)


def test_a_gradient_step_lowers_the_mismatch(tiny_prior, latent_network):
    camera = _Camera(LatentINDIGO(start="enlarged", guidance="gradient", fidelity=0.5), tiny_prior, torch.rand(1, 3, 16, 16))
    z = tiny_prior.encode(torch.rand(1, 3, 64, 64))
    z, before = camera.gradient(z)
    assert camera.gradient(z)[1] < before


def cost_of_a_gradient(prior, domain: str, z: torch.Tensor) -> tuple[float, int]:
    """(seconds, bytes kept between the forward and the backward pass) of one guidance step of the gradient form at 512×512."""
    camera = _Camera(LatentINDIGO(domain=domain, start="enlarged"), prior, torch.rand(1, 3, 128, 128))
    kept: dict[int, int] = {}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    began = time.process_time()
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        camera.gradient(z)
    return time.process_time() - began, sum(kept.values())


def test_the_latent_gradient_takes_a_quarter_of_the_time_and_half_the_memory(embedded):
    z = torch.randn(1, 16, 128, 128)
    (latent_time, latent_bytes), (pixel_time, pixel_bytes) = (cost_of_a_gradient(embedded, domain, z) for domain in ("latent", "pixel"))
    print(f"latent {latent_time:.2f} s {latent_bytes / 1e6:.0f} MB, pixel {pixel_time:.2f} s {pixel_bytes / 1e6:.0f} MB")
    assert 0 < latent_time < pixel_time / 4 and 0 < latent_bytes < pixel_bytes / 2


@pytest.mark.parametrize("churn", [0.0, 0.7])
def test_ddim_is_diffusers(tiny_prior, churn):
    scheduler = DDIMScheduler(trained_betas=_betas(tiny_prior), clip_sample=False, set_alpha_to_one=True)
    scheduler.set_timesteps(10)
    z0, eps = torch.randn(2, 1, 16, 8, 8)
    z_t = add_noise(z0, eps, tiny_prior.alpha_bar[600])
    ours = LatentINDIGO(churn=churn)._ddim(tiny_prior, z_t, z0, 600, 500, torch.Generator().manual_seed(0))
    noise = torch.randn(z_t.shape, generator=torch.Generator().manual_seed(0))
    theirs = scheduler.step(eps, 600, z_t, eta=churn, variance_noise=noise if churn else None).prev_sample
    assert torch.allclose(ours, theirs, atol=1e-4)


def _betas(prior):
    alpha_bar = torch.cat([torch.ones(1).double(), prior.alpha_bar])
    return (1 - alpha_bar[1:] / alpha_bar[:-1]).tolist()


def test_any_size_in_tiles(embedded, mean_of_blocks):
    y = torch.rand(1, 3, 21, 33)
    image = final(embedded, y, LatentINDIGO(domain="pixel", start="enlarged", steps=2, tile=16)).image
    assert image.shape == (1, 3, 84, 132)


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
