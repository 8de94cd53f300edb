"""The parts of a checked folder, loaded."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import torch

from restoration.files.errors import out_of_memory
from restoration.priors.diffusers_folder import Checkpoint
from restoration.priors.parts import Parts


def load_parts(checkpoint: Checkpoint, dtype: torch.dtype, timesteps: tuple[int, ...]) -> Parts:
    """What a checked folder holds, the VAE in float32 and all other networks in dtype.

    ValueError where its files do not fit.
    """
    loaded = {part: _load_component(checkpoint, part, dtype) for part in checkpoint.parts}
    return Parts(
        loaded["vae"],
        loaded["unet" if "unet" in loaded else "transformer"],
        loaded["scheduler"],
        tuple(loaded[part] for part in ("tokenizer", "tokenizer_2") if part in loaded),
        tuple(loaded[part] for part in ("text_encoder", "text_encoder_2") if part in loaded),
        checkpoint.empty_is_zero,
        timesteps,
        checkpoint.commit,
        checkpoint.weights,
    )


def _load_component(checkpoint: Checkpoint, part: str, dtype: torch.dtype) -> Any:
    library, class_name = checkpoint.parts[part]
    component = getattr(importlib.import_module(library), class_name)
    network = part in checkpoint.parameters
    options: dict[str, Any] = {}
    if network:
        options = {
            "torch_dtype": torch.float32 if part == "vae" else dtype,
            "use_safetensors": True,
            "variant": "fp16" if part in checkpoint.half else None,
            "output_loading_info": True,
        }
    try:
        if part in ("unet", "transformer") and checkpoint.denoiser:
            return _in_its_place(component, checkpoint.folder / part, checkpoint.denoiser).to(dtype)
        loaded = component.from_pretrained(checkpoint.folder, subfolder=part, **options)
    # libraries raise whatever damaged files lead them to, in many lines and with paths
    except Exception as error:
        if out_of_memory(error):
            raise
        raise ValueError(
            f"The prior's {part} cannot be loaded: {part}/ is damaged or not of one piece; load it again."
        ) from None
    if part == "scheduler" and not _usable(loaded):
        raise ValueError(
            "The prior's scheduler describes no diffusion: scheduler/ is damaged; load it again."
        )
    if not network:
        return loaded
    model, report = loaded
    if report["missing_keys"]:  # which the libraries fill with random numbers
        missing = len(report["missing_keys"])
        raise ValueError(
            f"The prior's {part} lacks {missing} of its weights: {part}/ is damaged or not of one piece; "
            "load it again."
        )
    if part == "unet" and checkpoint.lora:
        _add(model, checkpoint.lora)
    return model


def _add(unet: Any, lora: Path) -> None:
    """Add a low-rank change to the weights of Stable Diffusion's U-Net, as diffusers' pipeline does.

    ValueError where it is of another network.
    """
    from diffusers import StableDiffusionPipeline
    from peft.tuners.tuners_utils import BaseTunerLayer
    from safetensors.torch import load_file

    try:
        change, alphas = StableDiffusionPipeline.lora_state_dict(load_file(lora))
        StableDiffusionPipeline.load_lora_into_unet(change, alphas, unet)
    # libraries raise whatever such files lead them to, in many lines
    except Exception as error:
        if out_of_memory(error):
            raise
        change = {}
    # what finds no place is only logged; two matrices make a change
    if not change or len(change) != 2 * sum(isinstance(layer, BaseTunerLayer) for layer in unet.modules()):
        raise ValueError(f"{lora.name} is damaged or does not fit the prior's unet; load it again.")
    unet.fuse_lora()
    unet.unload_lora()


def _in_its_place(component: Any, folder: Path, weights: Path) -> Any:
    """The network that a folder's configuration describes, with the weights of another file."""
    from safetensors.torch import load_file

    with torch.device("meta"):
        model = component.from_config(component.load_config(folder))
    model.load_state_dict(load_file(weights), assign=True)
    return model


def _usable(scheduler: Any) -> bool:
    """Whether a scheduler has a noise level for each of its steps, and says what the network predicts in a
    way that is known here.
    """
    if not hasattr(scheduler, "betas"):  # of a flow, which needs none
        return True
    levels, config = scheduler.alphas_cumprod, scheduler.config
    kinds = {"epsilon", "sample", "v_prediction"}
    whole = len(levels) == config.num_train_timesteps > 1 and bool(((levels >= 0) & (levels <= 1)).all())
    return whole and config.get("prediction_type", "epsilon") in kinds
