"""Every entry of PRIORS on a tiny random checkpoint of its own classes: it samples as diffusers' own pipeline
or scheduler does, to float precision, and runs all presets that it offers.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch
from tiny_models import FLOWS, SHIFT, load, lora_of, pipeline_of
from torch import Generator, Tensor

from restoration import diffusion
from restoration.degradations.linear import TASKS
from restoration.priors.catalogue import PRIORS
from restoration.priors.denoisers import LCM_GUIDANCE
from restoration.priors.latent import LatentPrior
from restoration.priors.levels import roots
from restoration.solvers import PRESETS, SOLVERS, preset_for

# the tiny checkpoint of each entry's classes; a new entry needs one
CHECKPOINTS = {
    "sd-1.5": "sd1",
    "sd-2.1-base": "sd2",
    "sdxl": "sdxl",
    "sd-turbo": "sd2",
    "sdxl-lightning": "sdxl",
    "lcm": "lcm",
    "lcm-lora": "sd1",
    "sd-3.5-medium": "sd3",
    "z-image-turbo": "z-image",
}
SIZE = {"height": 24, "width": 16}
FLOW_TIMES = [900, 600, 250, 20]
NUMBERS = {"output_type": "latent", **SIZE}


@pytest.fixture(params=PRIORS)
def name(request: pytest.FixtureRequest) -> str:
    return request.param


def entered(name: str, folders: dict[str, Path]) -> LatentPrior:
    """The entry's tiny prior, with what PRIORS says of it."""
    folder = folders[CHECKPOINTS[name]]
    prior = load(folder, lora=lora_of(folder) if PRIORS[name].lora else None)
    parts = dataclasses.replace(prior.parts, timesteps=PRIORS[name].timesteps)
    again = LatentPrior(name, parts, prior.placement)
    again.isometric, again.gain = prior.isometric, prior.gain
    return again


def noise(channels: int) -> Tensor:
    return torch.randn(1, channels, 12, 8, generator=Generator().manual_seed(0))


def ddim(prior: LatentPrior, z: Tensor, times: list[int], guidance: float, last: int | None) -> Tensor:
    """Deterministic DDIM; last: the timestep whose level it ends at, the clean latent for None."""
    text = prior.embed("red door")
    for t, t_next in zip(times, [*times[1:], last], strict=True):
        z0, eps = prior.denoise(z, t, text, guidance)
        z = z0 if t_next is None else diffusion.ddim_step(z0, eps, prior.alpha_bar[t_next])
    return z


def as_stable_diffusion(prior: LatentPrior, pipeline, guidance: float) -> tuple[Tensor, Tensor]:
    z = noise(4)
    options = {"num_inference_steps": 4, "guidance_scale": guidance, **NUMBERS}
    theirs = pipeline("red door", latents=z.clone(), **options).images
    # Stable Diffusion's schedulers end at the level of timestep 0
    return ddim(prior, z, pipeline.scheduler.timesteps.tolist(), guidance, 0), theirs


def as_four_step_distillation(prior: LatentPrior, pipeline, guidance: float) -> tuple[Tensor, Tensor]:
    """Euler at trailing timesteps, without guidance, as SD-Turbo and SDXL-Lightning are published."""
    from diffusers import EulerDiscreteScheduler

    trailing = {"timestep_spacing": "trailing"}
    pipeline.scheduler = EulerDiscreteScheduler.from_config(pipeline.scheduler.config, **trailing)
    z = noise(4)
    options = {"num_inference_steps": 4, "guidance_scale": 0.0, **NUMBERS}
    theirs = pipeline("red door", latents=z.clone(), **options).images
    times = [int(t) for t in pipeline.scheduler.timesteps]
    assert times == [*reversed(prior.timesteps)]
    z = z * pipeline.scheduler.init_noise_sigma * prior.alpha_bar[times[0]].sqrt().item()
    return ddim(prior, z, times, guidance, None), theirs


def as_consistency_model(
    prior: LatentPrior, pipeline, guidance: float, told: float = LCM_GUIDANCE + 1
) -> tuple[Tensor, Tensor]:
    """Its guidance is an input of the network; every step starts from fresh noise, as RELD's preset few-step
    does. told: to the pipeline.
    """
    z, again = noise(4), Generator().manual_seed(1)
    options = {"num_inference_steps": 4, "guidance_scale": told, **NUMBERS}
    theirs = pipeline("red door", latents=z.clone(), generator=again, **options).images
    times, again = pipeline.scheduler.timesteps.tolist(), Generator().manual_seed(1)
    assert {*times} <= {*prior.timesteps}
    for t, t_next in zip(times, [*times[1:], None], strict=True):
        z0 = prior.denoise(z, t, prior.embed("red door"), guidance).z0
        if t_next is not None:
            z = diffusion.add_noise(z0, torch.randn(z.shape, generator=again), prior.alpha_bar[t_next])
    return z0, theirs


def as_consistency_lora(prior: LatentPrior, pipeline, guidance: float) -> tuple[Tensor, Tensor]:
    """Stable Diffusion with a low-rank change fused into it, without guidance."""
    from diffusers import LCMScheduler

    file = lora_of(Path(pipeline.name_or_path))
    pipeline.load_lora_weights(file.parent, weight_name=file.name)
    pipeline.fuse_lora()
    pipeline.scheduler = LCMScheduler.from_config(pipeline.scheduler.config)
    return as_consistency_model(prior, pipeline, guidance, told=1.0)


def as_flow(prior: LatentPrior, pipeline, guidance: float) -> tuple[Tensor, Tensor]:
    """DDIM from the flow's x at the first time is its Euler."""
    distilled = bool(prior.parts.timesteps)
    times = [*reversed(prior.timesteps)] if distilled else FLOW_TIMES
    sigmas = [prior.levels.sigma(t) for t in times]
    # the scheduler shifts what it is given
    unshifted = [sigma / (SHIFT - (SHIFT - 1) * sigma) for sigma in sigmas]
    x = noise(16)
    options = {"num_inference_steps": len(times), "guidance_scale": 0.0 if distilled else guidance, **NUMBERS}
    theirs = pipeline("red door", sigmas=unshifted, latents=x.clone(), **options).images
    return ddim(prior, x * sum(roots(prior.alpha_bar[times[0]])), times, guidance, None), theirs


def as_scheduler(prior: LatentPrior) -> tuple[Tensor, Tensor]:
    """The embedded prior has no pipeline, but its networks are diffusers models and its scheduler is
    diffusers'.
    """
    scheduler = type(prior.parts.scheduler).from_config(prior.parts.scheduler.config)
    scheduler.set_timesteps(4)
    z = theirs = noise(prior.channels)
    times = scheduler.timesteps.tolist()
    for t in times:
        theirs = scheduler.step(prior.parts.unet(theirs, t).sample, t, theirs).prev_sample
    return ddim(prior, z, times, 1.0, None if scheduler.config.set_alpha_to_one else 0), theirs


@pytest.mark.parametrize("guidance", [1.0, 5.0])
def test_it_samples_as_diffusers_does(folders, embedded, name, guidance):
    if name == "embedded":
        ours, theirs = as_scheduler(embedded)
    else:
        kind = CHECKPOINTS[name]
        way = as_four_step_distillation if PRIORS[name].timesteps else as_stable_diffusion
        way = as_flow if kind in FLOWS else as_consistency_model if kind == "lcm" else way
        way = as_consistency_lora if PRIORS[name].lora else way
        ours, theirs = way(entered(name, folders), pipeline_of(folders[kind]), guidance)
    assert torch.isfinite(ours).all() and torch.allclose(ours, theirs, atol=5e-4)


def offered(name: str) -> list[tuple[str, str]]:
    """(method, preset) of all that suit the prior."""
    return [(method, preset) for method, presets in PRESETS.items() for preset in presets
            if preset_for(method, name, preset) == preset]  # fmt: skip


def test_what_is_offered():
    every = {name: {" ".join(pair) for pair in offered(name)} for name in PRIORS}
    for name, found in every.items():
        assert {"reld-paper faithful", "ld-rps-paper paper", "ld-rps auto", "latent-indigo pixel"} <= found
        assert ("reld few-step" in found) == PRIORS[name].few_step
        assert ("latent-indigo fast" in found) == (name == "embedded")


def test_it_runs_all_presets_that_it_offers(folders, embedded, name):
    """Two steps of each, on a picture of odd sides."""
    prior = embedded if name == "embedded" else entered(name, folders)
    y = torch.rand(1, 3, 16, 19, generator=Generator().manual_seed(0))
    short = {"steps": 2, "recurrences": 1, "width": 6, "features": "edges", "prompt": "red door"}
    for method, preset in offered(name):
        settings = PRESETS[method][preset] | ({"scale": 1} if method == "latent-indigo" else {})
        fields = SOLVERS[method].__dataclass_fields__
        less = {key: value for key, value in short.items() if key in fields}
        solver = SOLVERS[method](**settings | less)
        known = None if solver.blind else TASKS["deblur"](size=9)
        *_, last = solver.restore(prior, y, known, generator=Generator().manual_seed(0))
        assert torch.isfinite(last.image).all() and last.image.shape == y.shape, (method, preset)
