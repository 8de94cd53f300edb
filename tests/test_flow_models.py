"""Flow models and distilled ones as tiny random checkpoints of their own classes: what our prior computes is
what their pipelines compute.
"""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from tiny_models import LETTERS, letters_tokenizer, plain_vae, run_every_preset, save_pipeline, text_config
from torch import Tensor

from restoration import diffusion
from restoration.degradations.linear import TASKS
from restoration.priors import checkpoints
from restoration.priors.catalogue import PRIORS
from restoration.priors.denoisers import LCM_GUIDANCE
from restoration.priors.diffusers_folder import check
from restoration.priors.latent import LatentPrior, build
from restoration.priors.placement import Placement
from restoration.record import Run
from restoration.run import restore
from restoration.solvers.reld_fast import RELDFast

KINDS = ("sd3", "z-image")
SHIFT = 3.0
TIMES = [900, 600, 250, 20]


def small_vae(channels: int):
    from diffusers import AutoencoderKL

    return AutoencoderKL(
        down_block_types=["DownEncoderBlock2D"] * 2, up_block_types=["UpDecoderBlock2D"] * 2,
        block_out_channels=[8, 8], norm_num_groups=4,
        sample_size=16, latent_channels=channels, scaling_factor=1.5, shift_factor=0.06, use_quant_conv=False,
        use_post_quant_conv=False,
    )  # fmt: skip


def save_sd3(folder: Path) -> None:
    from diffusers import FlowMatchEulerDiscreteScheduler, SD3Transformer2DModel, StableDiffusion3Pipeline
    from transformers import CLIPTextModelWithProjection

    tokenizer = letters_tokenizer()
    transformer = SD3Transformer2DModel(
        sample_size=16, patch_size=2, in_channels=16, num_layers=2, attention_head_dim=8,
        num_attention_heads=2, joint_attention_dim=48,
        caption_projection_dim=16, pooled_projection_dim=40, out_channels=16, pos_embed_max_size=64,
        dual_attention_layers=(0,), qk_norm="rms_norm",
    )  # fmt: skip
    clips = [CLIPTextModelWithProjection(text_config(width)) for width in (16, 24)]
    StableDiffusion3Pipeline(
        transformer,
        FlowMatchEulerDiscreteScheduler(shift=SHIFT),
        small_vae(16),
        clips[0],
        tokenizer,
        clips[1],
        tokenizer,
        None,
        None,
    ).save_pretrained(folder)


def save_z_image(folder: Path) -> None:
    from diffusers import FlowMatchEulerDiscreteScheduler, ZImagePipeline, ZImageTransformer2DModel
    from transformers import Qwen2Tokenizer, Qwen3Config, Qwen3Model

    words = ["<|endoftext|>", *LETTERS, "Ġ", ":"]
    tokenizer = Qwen2Tokenizer(vocab={word: number for number, word in enumerate(words)}, merges=[])
    tokenizer.chat_template = "{{ messages[0]['role'] }}: {{ messages[0]['content'] }}"
    text = Qwen3Model(
        Qwen3Config(
            vocab_size=len(words) + 8, hidden_size=16, intermediate_size=16, num_hidden_layers=2,
            num_attention_heads=2, num_key_value_heads=2,
            head_dim=8, max_position_embeddings=512,
        )
    )  # fmt: skip
    transformer = ZImageTransformer2DModel(
        in_channels=16, dim=32, n_layers=2, n_refiner_layers=1, n_heads=2, n_kv_heads=2, cap_feat_dim=16,
        axes_dims=[8, 4, 4],
        axes_lens=[1024, 32, 32],
    )  # fmt: skip
    for token in (transformer.x_pad_token, transformer.cap_pad_token):  # left as memory was
        torch.nn.init.normal_(token)
    ZImagePipeline(
        FlowMatchEulerDiscreteScheduler(shift=SHIFT), small_vae(16), text, tokenizer, transformer
    ).save_pretrained(folder)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("flows")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        save_sd3(root / "sd3")
        save_z_image(root / "z-image")
    return {kind: root / kind for kind in KINDS}


def pipeline_of(folder: Path):
    from diffusers import DiffusionPipeline

    absent = {"text_encoder_3": None, "tokenizer_3": None} if folder.name == "sd3" else {}
    pipeline = DiffusionPipeline.from_pretrained(folder, use_safetensors=True, **absent)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def load(folder: Path, dtype: torch.dtype = torch.float32) -> LatentPrior:
    return build(folder.name, check(folder, folder.name), Placement("cpu", dtype))


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    return request.param


def trajectory(prior: LatentPrior, x: Tensor, times: list[int], words: str, guidance: float) -> Tensor:
    """Deterministic DDIM from the flow's x at the first time to the clean latent."""
    text = prior.embed(words)
    root_a, root_b = (
        (part**0.5).item() for part in (prior.alpha_bar[times[0]], 1 - prior.alpha_bar[times[0]])
    )
    z = x * (root_a + root_b)
    for t, t_next in zip(times, [*times[1:], None], strict=True):
        z0, eps = prior.denoise(z, t, text, guidance)
        z = z0 if t_next is None else diffusion.ddim_step(z0, eps, prior.alpha_bar[t_next])
    return z


@pytest.mark.parametrize("guidance", [1.0, 4.0])
def test_ddim_on_a_flow_is_the_pipelines_euler(folders, kind, guidance):
    prior, pipeline = load(folders[kind]), pipeline_of(folders[kind])
    sigmas = [prior.levels.sigma(t) for t in TIMES]
    # the scheduler shifts what it is given
    unshifted = [sigma / (SHIFT - (SHIFT - 1) * sigma) for sigma in sigmas]
    x = torch.randn(1, 16, 12, 8, generator=torch.Generator().manual_seed(0))
    theirs_scale = guidance - 1 if kind == "z-image" else guidance  # out + g (out - out₀)
    theirs = pipeline(
        "red door", height=24, width=16, sigmas=unshifted, num_inference_steps=4, guidance_scale=theirs_scale,
        latents=x.clone(), output_type="latent"
    ).images  # fmt: skip
    assert torch.allclose(trajectory(prior, x, TIMES, "red door", guidance), theirs, atol=5e-4)


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


def test_a_consistency_model_is_the_pipelines(tmp_path):
    """Its guidance is an input of the network; every step starts from fresh noise, as RELD's preset few-step
    does.
    """
    from diffusers import LatentConsistencyModelPipeline, LCMScheduler, UNet2DConditionModel
    from transformers import CLIPTextModel

    with torch.random.fork_rng():
        torch.manual_seed(0)
        unet = UNet2DConditionModel(
            8, down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"), up_block_types=("CrossAttnUpBlock2D",
            "UpBlock2D"), norm_num_groups=4,
            block_out_channels=(8, 16), layers_per_block=1, cross_attention_dim=16, attention_head_dim=8,
            time_cond_proj_dim=32,
        )  # fmt: skip
        vae = plain_vae()
        text = CLIPTextModel(text_config(16))
    tokenizer = letters_tokenizer()
    scheduler = LCMScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", clip_sample=False
    )
    LatentConsistencyModelPipeline(
        vae, text, tokenizer, unet, scheduler, None, None, requires_safety_checker=False
    ).save_pretrained(tmp_path / "lcm")
    few = dataclasses.replace(load(tmp_path / "lcm").parts, timesteps=PRIORS["lcm"].timesteps)
    prior, pipeline = LatentPrior("lcm", few, Placement("cpu")), pipeline_of(tmp_path / "lcm")
    z = torch.randn(1, 4, 12, 8, generator=torch.Generator().manual_seed(0))
    theirs = pipeline(
        "red door", height=24, width=16, num_inference_steps=4, guidance_scale=LCM_GUIDANCE + 1,
        latents=z.clone(), output_type="latent",
        generator=torch.Generator().manual_seed(1),
    ).images  # fmt: skip
    times, generator = pipeline.scheduler.timesteps.tolist(), torch.Generator().manual_seed(1)
    assert set(times) <= set(prior.timesteps)
    for t, t_next in zip(times, [*times[1:], None], strict=True):
        z0 = prior.denoise(z, t, prior.embed("red door"), 5.0).z0
        if t_next is not None:
            z = diffusion.add_noise(z0, torch.randn(z.shape, generator=generator), prior.alpha_bar[t_next])
    assert torch.allclose(z0, theirs, atol=5e-4)


def test_a_distilled_denoiser_over_a_base_is_the_pipelines(folders_of_sdxl, tmp_path, monkeypatch):
    """As SDXL-Lightning is published: the base with its UNet exchanged, Euler at trailing timesteps."""
    from diffusers import EulerDiscreteScheduler, UNet2DConditionModel

    base = tmp_path / "base"
    shutil.copytree(folders_of_sdxl, base)
    unet = UNet2DConditionModel.from_config(UNet2DConditionModel.load_config(base / "unet"))
    save_file(unet.state_dict(), tmp_path / "unet.safetensors")
    (base / "unet" / "diffusion_pytorch_model.safetensors").unlink()  # it is not downloaded
    entry = PRIORS["sdxl-lightning"]
    there = dataclasses.replace(entry, source=str(base), denoiser=(str(tmp_path), "unet.safetensors"))
    monkeypatch.setitem(PRIORS, "sdxl-lightning", there)
    checkpoint = checkpoints.fetch("sdxl-lightning")
    assert tmp_path / "unet.safetensors" in checkpoint.files
    prior, pipeline = build("sdxl-lightning", checkpoint, Placement("cpu")), pipeline_of(folders_of_sdxl)
    pipeline.unet = unet
    pipeline.scheduler = EulerDiscreteScheduler.from_config(
        pipeline.scheduler.config, timestep_spacing="trailing"
    )
    z = torch.randn(1, 4, 12, 8, generator=torch.Generator().manual_seed(0))
    options = {"height": 24, "width": 16, "num_inference_steps": 4, "guidance_scale": 0.0}
    theirs = pipeline("red door", latents=z.clone(), output_type="latent", **options).images
    times = [int(t) for t in pipeline.scheduler.timesteps]
    assert times == [*reversed(prior.timesteps)]
    z = z * pipeline.scheduler.init_noise_sigma * prior.alpha_bar[times[0]].sqrt().item()
    for t, t_next in zip(times, [*times[1:], None], strict=True):
        z0, eps = prior.denoise(z, t, prior.embed("red door"), 5.0)
        z = z0 if t_next is None else diffusion.ddim_step(z0, eps, prior.alpha_bar[t_next])
    assert torch.allclose(z, theirs, atol=5e-4)
    file = tmp_path / "unet.safetensors"
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(ValueError, match="is damaged"):
        checkpoints.fetch("sdxl-lightning")


@pytest.fixture(scope="module")
def folders_of_sdxl(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("base") / "sdxl"
    with torch.random.fork_rng():
        torch.manual_seed(0)
        save_pipeline("sdxl", folder)
    return folder


def test_every_preset_that_suits_a_prior_runs_on_it(folders, kind):
    name = {"sd3": "sd-3.5-medium", "z-image": "z-image-turbo"}[kind]
    done = run_every_preset(load(folders[kind]), name)
    assert ("reld few-step" in done) == (kind == "z-image") and "ld-rps-paper paper" in done
