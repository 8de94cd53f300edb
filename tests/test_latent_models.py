"""Stable Diffusion 1, 2 and XL as tiny random checkpoints of their own classes: what our prior computes is
what their pipelines compute.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from restoration import diffusion
from restoration.degradations.linear import TASKS
from restoration.priors.catalogue import PRIORS, Entry
from restoration.priors.diffusers_folder import CLASSES, check
from restoration.priors.latent import LatentPrior, build
from restoration.priors.placement import Placement
from restoration.record import Run
from restoration.run import restore
from restoration.solvers import PRESETS
from restoration.solvers.reld_fast import RELDFast

KINDS = ("sd1", "sd2", "sdxl")
SIZE = (16, 19)  # of a picture: small, and odd
LETTERS = "abcdefghijklmnopqrstuvwxyz"
WORDS = ["<|startoftext|>", "<|endoftext|>", *LETTERS, *(letter + "</w>" for letter in LETTERS)]


def text_config(width: int):
    from transformers import CLIPTextConfig

    return CLIPTextConfig(
        vocab_size=len(WORDS), hidden_size=width, intermediate_size=32, num_hidden_layers=2,
        num_attention_heads=2, max_position_embeddings=12,
        bos_token_id=0, eos_token_id=1, pad_token_id=1, projection_dim=width,
    )  # fmt: skip


def save_pipeline(kind: str, folder: Path) -> None:
    """A tiny random pipeline of the kind, saved as the real ones are.

    SD 1 predicts the noise, SD 2 here v, XL reads two texts.
    """
    from diffusers import (
        AutoencoderKL,
        DDIMScheduler,
        StableDiffusionPipeline,
        StableDiffusionXLPipeline,
        UNet2DConditionModel,
    )
    from transformers import CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

    tokenizer = CLIPTokenizer({word: number for number, word in enumerate(WORDS)}, [], model_max_length=12)
    more = {"use_linear_projection": True} if kind != "sd1" else {}
    if kind == "sdxl":
        more |= {
            "addition_embed_type": "text_time",
            "addition_time_embed_dim": 8,
            "projection_class_embeddings_input_dim": 6 * 8 + 24,
        }
        more |= {"transformer_layers_per_block": (1, 2)}
    unet = UNet2DConditionModel(
        8, down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"), up_block_types=("CrossAttnUpBlock2D",
        "UpBlock2D"), norm_num_groups=4,
        block_out_channels=(8, 16), layers_per_block=1, cross_attention_dim=40 if kind == "sdxl" else 16,
        attention_head_dim=8, **more,
    )  # fmt: skip
    vae = AutoencoderKL(
        down_block_types=["DownEncoderBlock2D"] * 2, up_block_types=["UpDecoderBlock2D"] * 2,
        block_out_channels=[8, 8], norm_num_groups=4,
        sample_size=16, scaling_factor=0.13025, shift_factor=0.1 if kind == "sd2" else None,
    )  # fmt: skip
    scheduler = DDIMScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", clip_sample=False,
        set_alpha_to_one=False, steps_offset=1,
        prediction_type="v_prediction" if kind == "sd2" else "epsilon",
    )  # fmt: skip
    if kind == "sdxl":
        encoders = CLIPTextModel(text_config(16)), CLIPTextModelWithProjection(text_config(24))
        StableDiffusionXLPipeline(vae, *encoders, tokenizer, tokenizer, unet, scheduler).save_pretrained(
            folder
        )
    else:
        pipeline = StableDiffusionPipeline(
            vae,
            CLIPTextModel(text_config(16)),
            tokenizer,
            unet,
            scheduler,
            None,
            None,
            requires_safety_checker=False,
        )
        pipeline.save_pretrained(folder)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("priors")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        for kind in KINDS:
            save_pipeline(kind, root / kind)
    return {kind: root / kind for kind in KINDS}


def load(folder: Path, dtype: torch.dtype = torch.float32, **more: bool) -> LatentPrior:
    return build(folder.name, check(folder, folder.name), Placement("cpu", dtype, **more))


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    return request.param


def pipeline_of(folder: Path):
    from diffusers import DiffusionPipeline

    pipeline = DiffusionPipeline.from_pretrained(folder, use_safetensors=True)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def sample(prior: LatentPrior, z: Tensor, times: list[int], words: str, guidance: float) -> Tensor:
    """Deterministic DDIM, to the level of timestep 0 as Stable Diffusion's schedulers end."""
    text = prior.embed(words)
    for t, t_next in zip(times, [*times[1:], 0], strict=True):
        z0, eps = prior.denoise(z, t, text, guidance)
        z = diffusion.ddim_step(z0, eps, prior.alpha_bar[t_next])
    return z


@pytest.mark.parametrize("guidance", [1.0, 5.0])
def test_samples_are_the_pipelines(folders, kind, guidance):
    prior, pipeline = load(folders[kind]), pipeline_of(folders[kind])
    z = torch.randn(1, 4, 12, 8, generator=torch.Generator().manual_seed(0))
    theirs = pipeline(
        "red door",
        height=24,
        width=16,
        num_inference_steps=4,
        guidance_scale=guidance,
        latents=z.clone(),
        output_type="latent",
    ).images
    ours = sample(prior, z, pipeline.scheduler.timesteps.tolist(), "red door", guidance)
    assert torch.allclose(ours, theirs, atol=2e-4)


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
    degradation, prior = TASKS[task](), load(folders[kind])
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


class Waits(TorchDispatchMode):
    """Counts how often the host asks for a number of the device: float32 or bool, for tables of levels are
    float64 and on the host.
    """

    count = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.count += function is torch.ops.aten._local_scalar_dense.default and args[0].dtype in (
            torch.float32,
            torch.bool,
        )
        return function(*args, **(kwargs or {}))


def test_a_step_waits_for_the_device_once(folders, photo):
    """For the residual; more would keep a GPU idle between its kernels."""
    prior, y, counts = load(folders["sd1"]), photo[..., :16, :16], []
    assert prior.gain > 0  # measured once
    for steps in (3, 6):
        with Waits() as waits:
            list(restore(y, Run(RELDFast(steps=steps), TASKS["inpaint"]()), prior))
        counts.append(waits.count)
    assert counts[1] - counts[0] == 3


def test_the_levels_of_a_run_are_the_priors(folders, embedded):
    """No level below the lowest that the denoiser knows, where it would do the same again; the embedded prior
    knows all.
    """
    prior = load(folders["sd1"])
    levels = RELDFast().levels(prior, False, 0.01)
    assert prior.lowest == pytest.approx(prior.sigmas[0].item() / prior.gain) and prior.lowest > 3 / 255
    assert levels[-1] == pytest.approx(prior.lowest) and len(levels) == RELDFast().steps
    assert RELDFast().levels(embedded, False, 0.01)[-1] == pytest.approx(3 / 255)


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


def breaking(prior: LatentPrior, times: int) -> None:
    """The prior's denoiser runs out of memory in the third call, so many runs long."""
    denoise, calls, left = prior.denoise, [0], [times]

    def broken(*args, **kwargs):
        calls[0] += 1
        if calls[0] == 3 and left[0]:
            calls[0], left[0] = 0, left[0] - 1
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return denoise(*args, **kwargs)

    prior.denoise = broken


def test_memory_that_runs_out_is_saved_and_said_and_taken_back(folders, photo):
    prior, task = load(folders["sd1"]), TASKS["inpaint"]()
    before, state = prior.placement, torch.random.get_rng_state()
    breaking(prior, 1)
    steps = list(restore(photo[..., :16, :19], Run(RELDFast(), task, seed=5), prior))
    assert [s.index for s in steps] == [1, 2, *range(1, RELDFast().steps + 1)]
    assert "VAE in tiles" in steps[-1].note and "again" in steps[-1].note and "again" not in steps[1].note
    assert prior.placement == before and not prior.parts.vae.decoder.gradient_checkpointing
    again = list(
        restore(photo[..., :16, :19], Run(RELDFast(), task, seed=5), load(folders["sd1"], tiled=True))
    )
    assert torch.equal(steps[-1].result.image, again[-1].result.image) and "again" not in again[-1].note
    assert torch.equal(state, torch.random.get_rng_state())


def test_a_rescue_is_taken_back_where_nobody_waits_for_the_end(folders, photo):
    prior = load(folders["sd1"])
    before = prior.placement
    breaking(prior, 1)
    steps = restore(photo[..., :16, :19], Run(RELDFast(), TASKS["inpaint"]()), prior)
    assert any("again" in next(steps).note for _ in range(5)) and prior.placement != before
    steps.close()
    assert prior.placement == before


def test_a_run_begins_in_tiles_then_lets_networks_take_turns(folders, monkeypatch):
    """On a device other than the host, which is where the networks stay here."""
    prior = load(folders["sd1"])
    prior.device = torch.device("meta")
    before, z = prior.placement, torch.randn(1, 4, 8, 8)
    with prior.borrowed():
        assert prior.save_memory() and prior.placement.tiled and not prior.placement.offload
        assert prior.save_memory() and prior.placement.offload and hasattr(prior.parts.unet, "_hf_hook")
        assert not prior.save_memory()
    assert prior.placement == before and not any(
        hasattr(network, "_hf_hook") for network in prior.parts.networks
    )
    prior.device = torch.device("cpu")
    assert torch.equal(prior.denoise(z, 5).z0, load(folders["sd1"]).denoise(z, 5).z0)


def test_memory_that_runs_out_twice_is_one_sentence(folders, tiny_prior, photo):
    for prior in (load(folders["sd1"]), tiny_prior):
        before = prior.placement
        breaking(prior, 2)
        with pytest.raises(ValueError, match="Memory ran out on cpu at"):
            list(restore(photo[..., :16, :19], Run(RELDFast(), TASKS["inpaint"]()), prior))
        assert prior.placement == before


def with_preview(folder: Path, small: Path, blocks: int, monkeypatch, **more: bool) -> LatentPrior:
    """A prior whose table names a small decoder, random too, that enlarges by 2 a block but the first."""
    from diffusers import AutoencoderTiny

    sides, depths = (
        ("encoder_block_out_channels", "decoder_block_out_channels"),
        ("num_encoder_blocks", "num_decoder_blocks"),
    )
    with torch.random.fork_rng():
        torch.manual_seed(1)
        AutoencoderTiny(
            **dict.fromkeys(sides, (8,) * blocks), **dict.fromkeys(depths, (1,) * blocks)
        ).save_pretrained(small)
    monkeypatch.setitem(
        PRIORS,
        folder.name,
        Entry(str(folder), "", 16, 1.0, 1.0, 1.0, preview=str(small)),
    )
    return load(folder, **more)


def test_previews_are_what_a_pipeline_with_the_small_decoder_shows(folders, kind, tmp_path, monkeypatch):
    from diffusers import AutoencoderTiny

    prior, pipeline = with_preview(folders[kind], tmp_path, 2, monkeypatch), pipeline_of(folders[kind])
    pipeline.vae = AutoencoderTiny.from_pretrained(tmp_path)
    options = {"height": 24, "width": 16, "num_inference_steps": 1, "latents": torch.randn(1, 4, 12, 8)}
    z = pipeline("red door", output_type="latent", **options).images
    theirs = pipeline("red door", output_type="pt", **options).images
    assert torch.allclose(prior.preview(z, (24, 16)), theirs, atol=1e-5)
    assert prior.preview(z, (23, 15)).shape == (1, 3, 23, 15)
    assert torch.equal(prior.picture(z, (24, 16)), load(folders[kind]).decode(z, (24, 16)).clamp(0, 1))


def test_previews_are_made_of_tiles_where_the_pictures_are(folders, tmp_path, monkeypatch):
    whole, tiled = (
        with_preview(folders["sd1"], tmp_path, 4, monkeypatch, tiled=short) for short in (False, True)
    )
    z = torch.linspace(-1, 1, 80).expand(1, 4, 70, 80)
    a, b = (prior.preview(z, (560, 640)) for prior in (whole, tiled))
    assert a.shape == b.shape == (1, 3, 560, 640) and not a.requires_grad
    assert 0 < (a - b).abs().mean() < 0.01


@pytest.mark.parametrize("preview", ["", "some/missing"])
def test_without_a_small_decoder_the_preview_is_the_picture(folders, monkeypatch, preview):
    monkeypatch.setattr("restoration.priors.download.reachable", lambda: False)
    monkeypatch.setitem(
        PRIORS,
        "sd1",
        Entry(str(folders["sd1"]), "", 16, 1.0, 1.0, 1.0, preview=preview),
    )
    prior, z = load(folders["sd1"]), torch.randn(1, 4, 8, 8)
    assert torch.equal(prior.preview(z, (16, 16)), prior.picture(z, (16, 16)))


def overflowing(folder: Path, factor: float) -> LatentPrior:
    """A prior in float16 whose first layer's values grow by the factor; the normalisation behind it takes it
    back where there is range.
    """
    prior = load(folder, torch.float16)
    prior.parts.unet.conv_in.weight *= factor
    return prior


def test_numbers_that_leave_half_precision_are_made_anew_and_said(folders, photo):
    prior, wide, task, y = (
        overflowing(folders["sd1"], 2e5),
        overflowing(folders["sd1"], 2e5),
        TASKS["inpaint"](),
        photo[..., :16, :19],
    )
    text = prior.embed("red door")
    assert torch.isfinite(text).all() and prior.denoise(torch.randn(1, 4, 8, 8), 500).z0.isnan().all()
    state, weights = torch.random.get_rng_state(), prior.parts.unet.conv_in.weight.clone()
    steps = list(restore(y, Run(RELDFast(), task, seed=5), prior))
    assert [s.index for s in steps[-RELDFast().steps :]] == list(range(1, RELDFast().steps + 1))
    assert "begun again in float32" in steps[-1].note and "float16" in steps[-1].note
    assert all(torch.isfinite(s.latent).all() for s in steps)
    assert prior.placement.dtype == prior.parts.unet.dtype == torch.float16 and torch.equal(
        weights, prior.parts.unet.conv_in.weight
    )
    with wide.borrowed():
        assert wide.save_range() and not wide.save_range()
        again = list(restore(y, Run(RELDFast(), task, seed=5), wide))
    assert torch.equal(steps[-1].result.image, again[-1].result.image) and "again" not in again[-1].note
    assert torch.equal(state, torch.random.get_rng_state())


def test_numbers_that_leave_float32_are_one_sentence(folders, photo):
    prior = load(folders["sd1"], torch.float16)
    prior.parts.unet.conv_out.bias += float("nan")
    with pytest.raises(ValueError, match=r"left the range of float32: .* sd1's weights are damaged"):
        list(restore(photo[..., :16, :19], Run(RELDFast(), TASKS["inpaint"]()), prior))


def test_short_range_and_short_memory_in_one_run(folders, photo):
    prior = overflowing(folders["sd1"], 2e5)
    breaking(prior, 1)
    steps = list(restore(photo[..., :16, :19], Run(RELDFast(), TASKS["inpaint"]()), prior))
    assert "in float32, the VAE in tiles" in steps[-1].note and torch.isfinite(steps[-1].result.image).all()


def test_other_errors_are_not_hidden(folders, photo):
    prior = load(folders["sd1"])
    prior.denoise = lambda *args: (_ for _ in ()).throw(RuntimeError("a bug"))
    with pytest.raises(RuntimeError, match="a bug"):
        list(restore(photo[..., :16, :19], Run(RELDFast(), TASKS["inpaint"]()), prior))
    assert dataclasses.replace(prior.placement) == Placement("cpu")
