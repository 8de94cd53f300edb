"""Full-size architectures of published priors with random weights, on which time and memory do not depend."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, NamedTuple

import torch

from restoration.priors import placement, precision
from restoration.priors.latent import LatentPrior
from restoration.priors.parts import Parts
from restoration.priors.placement import Placement

LETTERS = "abcdefghijklmnopqrstuvwxyz"


class Architecture(NamedTuple):
    """Arguments of UNet2DConditionModel, of one or two CLIP text encoders, and of AutoencoderKL; as the
    published config.json files say.
    """

    unet: dict[str, Any]
    texts: list[dict[str, Any]]
    vae: dict[str, Any]


KL = {
    "down_block_types": ["DownEncoderBlock2D"] * 4, "up_block_types": ["UpDecoderBlock2D"] * 4,
    "block_out_channels": [128, 256, 512, 512],
    "layers_per_block": 2, "sample_size": 512, "scaling_factor": 0.18215,
}  # fmt: skip
CLIP_L = {
    "hidden_size": 768,
    "intermediate_size": 3072,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "projection_dim": 768,
}
CLIP_H = {
    "hidden_size": 1024,
    "intermediate_size": 4096,
    "num_hidden_layers": 23,
    "num_attention_heads": 16,
    "projection_dim": 512,
}
CLIP_G = {
    "hidden_size": 1280,
    "intermediate_size": 5120,
    "num_hidden_layers": 32,
    "num_attention_heads": 20,
    "projection_dim": 1280,
}
ARCHITECTURES = {
    "tiny": Architecture(
        {"down_block_types": ["CrossAttnDownBlock2D"], "up_block_types": ["CrossAttnUpBlock2D"],
         "block_out_channels": [8], "norm_num_groups": 4,
         "attention_head_dim": 8, "cross_attention_dim": 16, "layers_per_block": 1},
        [{"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2,
          "projection_dim": 16}],
        {"down_block_types": ["DownEncoderBlock2D"] * 2, "up_block_types": ["UpDecoderBlock2D"] * 2,
         "block_out_channels": [8, 8],
         "norm_num_groups": 4, "layers_per_block": 1},
    ),
    "sd-1.5": Architecture({"attention_head_dim": 8, "cross_attention_dim": 768}, [CLIP_L], KL),
    "sd-2.1-base": Architecture(
        {"attention_head_dim": [5, 10, 20, 20], "cross_attention_dim": 1024, "use_linear_projection": True},
        [CLIP_H], KL,
    ),
    "sdxl": Architecture(
        {"down_block_types": ["DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"],
         "up_block_types": ["CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"],
         "block_out_channels": [320, 640, 1280],
         "attention_head_dim": [5, 10, 20], "cross_attention_dim": 2048, "use_linear_projection": True,
         "transformer_layers_per_block": [1, 2, 10],
         "addition_embed_type": "text_time", "addition_time_embed_dim": 256,
         "projection_class_embeddings_input_dim": 2816},
        [CLIP_L, CLIP_G], KL | {"sample_size": 1024, "scaling_factor": 0.13025},
    ),
}  # fmt: skip


def networks(architecture: Architecture, dtype: torch.dtype) -> dict[str, Any]:
    """The networks with random weights on the default device, all but the VAE in dtype from the start."""
    from diffusers import AutoencoderKL, UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

    before = torch.get_default_dtype()
    parts: dict[str, Any] = {"vae": AutoencoderKL(**architecture.vae)}
    try:
        torch.set_default_dtype(dtype)
        parts["unet"] = UNet2DConditionModel(**architecture.unet)
        for name, kind, config in zip(
            ("text_encoder", "text_encoder_2"),
            (CLIPTextModel, CLIPTextModelWithProjection),
            architecture.texts,
            strict=False,
        ):
            parts[name] = kind(CLIPTextConfig(**config))
    finally:
        torch.set_default_dtype(before)
    return parts


def random_prior(
    name: str, side: int, device: str | None = None, dtype: torch.dtype | None = None
) -> LatentPrior:
    """The architecture `name` with random weights, placed by free memory for pictures of side×side pixels.

    ValueError where it does not fit.
    """
    with torch.device("meta"):
        counts = {
            part: sum(p.numel() for p in network.parameters())
            for part, network in networks(ARCHITECTURES[name], torch.float32).items()
        }
    where = placement.choose(counts, side, device)
    where = replace(where, dtype=dtype) if dtype else where
    # where networks take turns, even their first moment on the device would be too much
    with torch.device("cpu" if where.offload else where.device):
        parts = networks(ARCHITECTURES[name], where.dtype)
    return assembled(name, parts, where)  # draws on the host, wherever the networks are


def assembled(name: str, parts: dict[str, Any], where: Placement) -> LatentPrior:
    """A prior of the networks of an architecture, in the precision that `build` would give them."""
    from diffusers import DDIMScheduler
    from transformers import CLIPTokenizer

    vocabulary = ["<|startoftext|>", "<|endoftext|>", *LETTERS, *(letter + "</w>" for letter in LETTERS)]
    tokenizer = CLIPTokenizer(
        {word: number for number, word in enumerate(vocabulary)}, [], model_max_length=77
    )
    scheduler = DDIMScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", prediction_type="epsilon"
    )
    encoders = tuple(network for part, network in parts.items() if "text" in part)
    made = Parts(parts["vae"], parts["unet"], scheduler, (tokenizer,) * len(encoders), encoders)
    return LatentPrior(name, *precision.fitted(made, where))
