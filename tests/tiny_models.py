"""Tiny random Stable Diffusion 1, 2 and XL, saved as their pipelines save them."""

from __future__ import annotations

import dataclasses
import functools
from pathlib import Path

import torch

from restoration.degradations.linear import TASKS
from restoration.priors.catalogue import PRIORS
from restoration.priors.diffusers_folder import check
from restoration.priors.latent import LatentPrior, build
from restoration.priors.placement import Placement
from restoration.solvers import PRESETS, SOLVERS, preset_for

KINDS = ("sd1", "sd2", "sdxl")
LETTERS = "abcdefghijklmnopqrstuvwxyz"
WORDS = ["<|startoftext|>", "<|endoftext|>", *LETTERS, *(letter + "</w>" for letter in LETTERS)]


def letters_tokenizer():
    """CLIP's tokenizer that knows single letters."""
    from transformers import CLIPTokenizer

    return CLIPTokenizer({word: number for number, word in enumerate(WORDS)}, [], model_max_length=12)


def plain_vae():
    """A random codec that halves the sides, 4 channels."""
    from diffusers import AutoencoderKL

    return AutoencoderKL(
        down_block_types=["DownEncoderBlock2D"] * 2,
        up_block_types=["UpDecoderBlock2D"] * 2,
        block_out_channels=[8, 8],
        norm_num_groups=4,
    )


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
    from transformers import CLIPTextModel, CLIPTextModelWithProjection

    tokenizer = letters_tokenizer()
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


def load(folder: Path, dtype: torch.dtype = torch.float32, **more: bool) -> LatentPrior:
    prior = build(folder.name, check(folder, folder.name), Placement("cpu", dtype, **more))
    prior.isometric, prior.gain = measured(folder)
    return prior


@functools.cache
def measured(folder: Path) -> tuple[bool, float]:
    """What a prior measures of its codec, once: it takes longer than a run of a tiny one."""
    prior = build(folder.name, check(folder, folder.name), Placement("cpu"))
    return prior.isometric, prior.gain


def pipeline_of(folder: Path):
    from diffusers import DiffusionPipeline

    pipeline = DiffusionPipeline.from_pretrained(folder, use_safetensors=True)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def run_every_preset(prior: LatentPrior, name: str) -> list[str]:
    """Two steps of every preset that suits `name` of PRIORS, on a tiny prior of its class; those that ran."""
    few = dataclasses.replace(prior.parts, timesteps=PRIORS[name].timesteps)
    again, done = LatentPrior(name, few, prior.placement), []
    again.gain = prior.gain
    y = torch.rand(1, 3, 16, 19, generator=torch.Generator().manual_seed(0))
    short = {"steps": 2, "recurrences": 1, "width": 6, "features": "edges", "scale": 1, "prompt": "red door"}
    for method, presets in PRESETS.items():
        fields = SOLVERS[method].__dataclass_fields__
        less = {key: value for key, value in short.items() if key in fields}
        if "ld-rps" in method:
            less.pop("scale")  # of the guidance
        for preset, settings in presets.items():
            if preset_for(method, name, preset) == preset:
                solver = SOLVERS[method](**settings | less)
                known = None if solver.blind else TASKS["deblur"](size=9)
                *_, last = solver.restore(again, y, known, generator=torch.Generator().manual_seed(0))
                assert torch.isfinite(last.image).all() and last.image.shape == y.shape
                done.append(f"{method} {preset}")
    return done
