"""Flow models as tiny random checkpoints of their own classes, and a distilled denoiser over a base.

Their trajectories: test_every_prior.py.
"""

from __future__ import annotations

import dataclasses
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_models import FLOWS, load, lora_of, pipeline_of

from restoration import diffusion
from restoration.degradations.linear import TASKS
from restoration.priors import checkpoints
from restoration.priors.catalogue import PRIORS, Lora
from restoration.priors.diffusers_folder import check
from restoration.priors.latent import build
from restoration.priors.placement import Placement
from restoration.record import Run
from restoration.run import restore
from restoration.solvers.reld_fast import RELDFast


@pytest.fixture(params=FLOWS)
def kind(request: pytest.FixtureRequest) -> str:
    return request.param


def test_latents_are_scaled_and_shifted_as_the_pipelines(folders, kind):
    prior, vae = load(folders[kind]), pipeline_of(folders[kind]).vae
    x = torch.rand(1, 3, 24, 16)
    latent = vae.encode(2 * x - 1).latent_dist.mean
    assert torch.allclose(prior.encode(x), (latent - 0.06) * 1.5, atol=1e-5)
    assert torch.allclose(
        prior.decode(prior.encode(x), (24, 16)), vae.decode(latent).sample / 2 + 0.5, atol=1e-5
    )


def test_odd_latents_levels_and_the_identity(folders, kind):
    """A picture of any size; timesteps mean Stable Diffusion's levels; estimate + noise is the latent."""
    prior = load(folders[kind])
    z = prior.encode(torch.rand(1, 3, 13, 10))
    assert z.shape == (1, 16, 7, 5)
    assert [round(prior.sigmas[t].item(), 2) for t in (899, 699, 449, 99)] == [8.3, 3.32, 1.37, 0.34]
    for t in (5, 500, 999):
        z_t = torch.randn(z.shape)
        out = prior.denoise(z_t, t)
        assert (diffusion.add_noise(out.z0, out.eps, prior.alpha_bar[t]) - z_t).abs().max() < 1e-4


def test_reld_runs_unchanged_and_costs_are_counted(folders, kind):
    prior, task = load(folders[kind]), TASKS["super-resolution"]()
    steps = list(restore(torch.rand(1, 3, 11, 8), Run(RELDFast(steps=3), task), prior))
    assert torch.isfinite(steps[-1].result.image).all()
    assert min(prior.costs) > 0 and prior.costs.gradient > prior.costs.checkpointed


def test_a_flow_with_a_unet_is_refused(folders, tmp_path):
    import json
    import shutil

    shutil.copytree(folders["sd3"], tmp_path / "mixed")
    index = tmp_path / "mixed" / "model_index.json"
    index.write_text(
        json.dumps(json.loads(index.read_text()) | {"scheduler": ["diffusers", "DDIMScheduler"]})
    )
    with pytest.raises(
        ValueError, match="scheduler is a DDIMScheduler, which does not fit its SD3Transformer2DModel"
    ):
        check(tmp_path / "mixed", "mixed")


def test_a_distilled_denoiser_takes_the_place_of_the_bases_own(folders, tmp_path, monkeypatch):
    """As SDXL-Lightning is published; test_every_prior.py compares what it computes."""
    from diffusers import UNet2DConditionModel

    base = tmp_path / "base"
    shutil.copytree(folders["sdxl"], base)
    unet = UNet2DConditionModel.from_config(UNet2DConditionModel.load_config(base / "unet"))
    file = tmp_path / "unet.safetensors"
    save_file(unet.state_dict(), file)
    (base / "unet" / "diffusion_pytorch_model.safetensors").unlink()  # it is not downloaded
    entry = PRIORS["sdxl-lightning"]
    there = dataclasses.replace(entry, source=str(base), denoiser=(str(tmp_path), file.name))
    monkeypatch.setitem(PRIORS, "sdxl-lightning", there)
    checkpoint = checkpoints.fetch("sdxl-lightning")
    assert file in checkpoint.files
    prior = build("sdxl-lightning", checkpoint, Placement("cpu"))
    assert prior.timesteps == list(entry.timesteps)
    loaded = prior.parts.unet.state_dict()
    assert all(torch.equal(loaded[name], values) for name, values in unet.state_dict().items())
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(ValueError, match="is damaged"):
        checkpoints.fetch("sdxl-lightning")


def test_a_low_rank_change_is_added_to_the_bases_weights(folders, tmp_path, monkeypatch):
    """As LCM-LoRA is published: W + (alpha / rank) up · down."""
    base, file, name = folders["sd1"], lora_of(folders["sd1"]), "lcm-lora"
    there = dataclasses.replace(PRIORS[name], source=str(base), lora=Lora(str(file.parent), file.name, 0.1))
    monkeypatch.setitem(PRIORS, name, there)
    checkpoint = checkpoints.fetch(name)
    assert file in checkpoint.files and checkpoint.weights != check(base, name).weights
    unet = build(name, checkpoint, Placement("cpu", torch.bfloat16)).parts.unet
    assert unet.dtype == torch.bfloat16 and {*unet.state_dict()} == {*load(base).parts.unet.state_dict()}
    layer, change = "mid_block.attentions.0.proj_in", load_file(file)
    key = f"lora_unet_{layer.replace('.', '_')}.lora"
    up, down = (change[f"{key}_{part}.weight"].flatten(1) for part in ("up", "down"))
    wanted, found = load(base).parts.unet.get_submodule(layer).weight, unet.get_submodule(layer).weight
    assert torch.allclose(found.float().flatten(1), wanted.flatten(1) + up @ down / 2, rtol=0.02, atol=0.01)


@pytest.mark.parametrize("kind", ["lcm", "sdxl"])
def test_a_low_rank_change_of_another_network_is_refused(folders, tmp_path, kind):
    file = tmp_path / "lora.safetensors"
    content = load_file(lora_of(folders["sd1"]))
    if kind == "lcm":  # a layer that the network does not have
        content |= {
            key.replace("mid_block", "down_blocks_7"): value.clone() for key, value in content.items()
        }
    save_file(content, file)
    with pytest.raises(ValueError, match=r"^lora.safetensors is damaged or does not fit the prior's unet"):
        load(folders[kind], lora=file)


def test_a_low_rank_change_needs_peft(monkeypatch):
    """Said before anything is downloaded."""
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"^lcm-lora needs the package peft: pip install peft"):
        checkpoints.fetch("lcm-lora")
