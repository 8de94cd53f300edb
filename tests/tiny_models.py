"""Tiny random checkpoints of the classes of the published priors, saved as their pipelines save them."""

from __future__ import annotations

import functools
from pathlib import Path

import torch

from restoration.priors.diffusers_folder import check
from restoration.priors.latent import LatentPrior, build
from restoration.priors.placement import Placement

KINDS = ("sd1", "sd2", "sdxl")
FLOWS = ("sd3", "z-image")
SHIFT = 3.0  # of the flows' schedulers
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
    """A tiny random pipeline of the kind, saved as the real ones are."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        {"sd3": save_sd3, "z-image": save_z_image, "lcm": save_lcm}.get(
            kind, functools.partial(save_stable_diffusion, kind)
        )(folder)


def save_stable_diffusion(kind: str, folder: Path) -> None:
    """SD 1 predicts the noise, SD 2 here v, XL reads two texts."""
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


def save_lcm(folder: Path) -> None:
    from diffusers import LatentConsistencyModelPipeline, LCMScheduler, UNet2DConditionModel
    from transformers import CLIPTextModel

    unet = UNet2DConditionModel(
        8, down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"), up_block_types=("CrossAttnUpBlock2D",
        "UpBlock2D"), norm_num_groups=4,
        block_out_channels=(8, 16), layers_per_block=1, cross_attention_dim=16, attention_head_dim=8,
        time_cond_proj_dim=32,
    )  # fmt: skip
    scheduler = LCMScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", clip_sample=False
    )
    text, tokenizer = CLIPTextModel(text_config(16)), letters_tokenizer()
    LatentConsistencyModelPipeline(
        plain_vae(), text, tokenizer, unet, scheduler, None, None, requires_safety_checker=False
    ).save_pretrained(folder)


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


@functools.cache
def lora_of(folder: Path) -> Path:
    """A random change of rank 2 of a pipeline's U-Net, of the layers and with the names of LCM-LoRA's."""
    from diffusers import UNet2DConditionModel
    from safetensors.torch import save_file

    unet, generator = UNet2DConditionModel.from_pretrained(folder / "unet"), torch.Generator().manual_seed(0)
    content = {}
    for name, layer in unet.named_modules():
        if "block" in name and isinstance(layer, torch.nn.Linear | torch.nn.Conv2d):
            out, *rest = layer.weight.shape
            key = f"lora_unet_{name.replace('.', '_')}"
            content[f"{key}.alpha"] = torch.tensor(1.0)
            content[f"{key}.lora_down.weight"] = torch.randn(2, *rest, generator=generator) / 4
            content[f"{key}.lora_up.weight"] = (
                torch.randn(out, 2, *[1] * (len(rest) - 1), generator=generator) / 4
            )
    file = folder.parent / f"{folder.name}-lora.safetensors"
    save_file(content, file)
    return file


def load(
    folder: Path, dtype: torch.dtype = torch.float32, lora: Path | None = None, **more: bool
) -> LatentPrior:
    checkpoint = check(folder, folder.name)._replace(lora=lora)
    prior = build(folder.name, checkpoint, Placement("cpu", dtype, **more))
    prior.isometric, prior.gain = measured(folder)
    return prior


@functools.cache
def measured(folder: Path) -> tuple[bool, float]:
    """What a prior measures of its codec, once: it takes longer than a run of a tiny one."""
    prior = build(folder.name, check(folder, folder.name), Placement("cpu"))
    return prior.isometric, prior.gain


def pipeline_of(folder: Path):
    from diffusers import DiffusionPipeline

    absent = {"text_encoder_3": None, "tokenizer_3": None} if folder.name == "sd3" else {}
    pipeline = DiffusionPipeline.from_pretrained(folder, use_safetensors=True, **absent)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline
