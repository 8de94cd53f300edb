"""The prior: a frozen latent diffusion model as four verbs. The only file that knows diffusers and accelerate."""

from __future__ import annotations

import functools
import json
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

EMBEDDED = Path(__file__).parent / "weights" / "embedded"
PRIORS = {"embedded": str(EMBEDDED)}
# what model_index.json may name: nothing outside these is ever imported
LIBRARIES = {"diffusers", "transformers", "restoration.networks"}


class Denoised(NamedTuple):
    """z_t = √ᾱ z0 + √(1-ᾱ) eps holds to float32 accuracy."""

    z0: Tensor
    eps: Tensor


class LatentPrior:
    """p(x) through a latent diffusion model.

    x: image (B,3,H,W) in [0,1]. z: latent (B,C,⌈H/f⌉,⌈W/f⌉), scaled as the checkpoint says. Ranges change only here.
    Prediction types epsilon, sample and v_prediction. Latents are float32 whatever the precision of the networks.
    """

    def __init__(self, name: str, vae: Any, unet: Any, scheduler: Any, device: torch.device, tokenizer: Any = None, text_encoder: Any = None):
        self.name = name
        self.device = device
        self._tokenizer = tokenizer
        self._text_encoder = None if text_encoder is None else text_encoder.to(device).eval().requires_grad_(False)
        self._vae = vae.to(device).eval().requires_grad_(False)
        self._unet = unet.to(device, memory_format=torch.channels_last).eval().requires_grad_(False)
        # float64: at the lowest levels 1-ᾱ is a difference of nearly equal numbers
        self.alpha_bar = (1 - scheduler.betas.double()).cumprod(0).to(device)
        self.prediction_type: str = scheduler.config.prediction_type
        self.scale: float = vae.config.scaling_factor
        self.factor: int = _down_sampling(vae)
        self.channels: int = vae.config.latent_channels

    @property
    def sigmas(self) -> Tensor:
        """(T,) rising noise levels sqrt((1-ᾱ)/ᾱ)."""
        return ((1 - self.alpha_bar) / self.alpha_bar).sqrt()

    def timestep(self, sigma: float) -> int:
        """The timestep whose noise level is nearest to sigma (in ratio)."""
        return int((self.sigmas.log() - torch.tensor(sigma).log()).abs().argmin())

    def encode(self, x: Tensor) -> Tensor:
        """Image -> scaled latent (posterior mean); sides are replicated up to a multiple of the factor. Differentiable."""
        height, width = x.shape[-2:]
        x = F.pad(x, (0, -width % self.factor, 0, -height % self.factor), mode="replicate")
        out = self._vae.encode((2 * x - 1).to(self._vae.dtype))
        latent = out.latent if hasattr(out, "latent") else out.latent_dist.mode()
        return latent.float() * self.scale

    def decode(self, z: Tensor, size: tuple[int, int]) -> Tensor:
        """Scaled latent -> image (B,3,*size), unclamped. Differentiable."""
        x = self._vae.decode((z / self.scale).to(self._vae.dtype)).sample.float()
        return (x[..., : size[0], : size[1]] + 1) / 2

    @torch.no_grad()
    def preview(self, z: Tensor, size: tuple[int, int]) -> Tensor:
        """A picture of a latent for the eye, clamped to [0,1]."""
        return self.decode(z, size).clamp(0, 1)

    @torch.no_grad()
    def embed(self, prompt: str, negative: str = "") -> Tensor | None:
        """The text as the denoiser reads it: (2,L,D), first `negative`, then `prompt`; (1,L,D) where they are equal; None without text."""
        if self._text_encoder is None:
            return None
        texts = [prompt] if prompt == negative else [negative, prompt]
        tokens = self._tokenizer(texts, padding="max_length", max_length=self._tokenizer.model_max_length, truncation=True, return_tensors="pt")
        return self._text_encoder(tokens.input_ids.to(self.device))[0]

    @functools.cached_property
    def _no_text(self) -> Tensor | None:
        return self.embed("")

    @torch.no_grad()
    def denoise(self, z_t: Tensor, t: int, text: Tensor | None = None, guidance: float = 1.0) -> Denoised:
        """The clean estimate and the noise of z_t (B,C,h,w) at timestep t.

        text: of `embed`; None is the empty text. guidance: classifier-free, out = out₀ + guidance · (out_text - out₀) (arXiv 2207.12598);
        1, or a prompt equal to its negative, costs one run of the network instead of two.
        """
        a = self.alpha_bar[t]
        root_a, root_b = a.sqrt().float(), (1 - a).sqrt().float()
        text = self._no_text if text is None else text
        if text is None or len(text) == 1 or guidance == 1:
            out = self._predict(z_t, t, None if text is None else text[-1:])
        else:
            plain, worded = self._predict(torch.cat([z_t, z_t]), t, text).chunk(2)
            out = plain + guidance * (worded - plain)
        if self.prediction_type == "sample":
            return Denoised(out, (z_t - root_a * out) / root_b)
        if self.prediction_type == "v_prediction":
            return Denoised(root_a * z_t - root_b * out, root_a * out + root_b * z_t)
        return Denoised((z_t - root_b * out) / root_a, out)

    def _predict(self, z_t: Tensor, t: int, text: Tensor | None) -> Tensor:
        """The network's output; each row of text serves len(z_t) / len(text) rows of z_t."""
        z_t = z_t.to(self._unet.dtype)
        if text is None:
            return self._unet(z_t, t).sample.float()
        return self._unet(z_t, t, encoder_hidden_states=text.to(z_t).repeat_interleave(len(z_t) // len(text), 0)).sample.float()

    def denoise_at(self, s: Tensor, sigma: float) -> Tensor:
        """f_σ(s): the clean estimate of s = z0 + σ n, as RED's Gaussian denoiser (reld.md §1.4, eq. 13)."""
        t = self.timestep(sigma)
        return self.denoise(s * self.alpha_bar[t].sqrt().float(), t).z0


def _down_sampling(vae: Any) -> int:
    config = vae.config
    return config.patch_size if "patch_size" in config else 2 ** (len(config.block_out_channels) - 1)


@functools.lru_cache(maxsize=1)
def load_prior(name: str = "embedded", device: str | None = None) -> LatentPrior:
    """The prior `name`: one of PRIORS, or a local diffusers folder. Cached.

    The folder holds model_index.json, vae/, unet/, scheduler/, and tokenizer/ and text_encoder/ where the prior reads text.

    Raises ValueError when there is no such folder or it names a class that may not be loaded.
    """
    from accelerate import PartialState

    folder = Path(PRIORS.get(name, name))
    if not (folder / "model_index.json").is_file():
        raise ValueError(f"No prior {name!r}: known are {', '.join(PRIORS)} and local diffusers folders with a model_index.json.")
    index = json.loads((folder / "model_index.json").read_text())
    # a text prior names both; a null stands for a part that a pipeline was saved without
    names = [n for n in ("vae", "unet", "scheduler", "tokenizer", "text_encoder") if index.get(n, [None])[0]]
    parts = {part: _load_component(folder, part, *index[part]) for part in names}
    return LatentPrior(name, device=torch.device(device) if device else PartialState().default_device, **parts)


def _load_component(folder: Path, part: str, library: str, class_name: str) -> Any:
    import importlib

    if library not in LIBRARIES:
        raise ValueError(f"{folder}: {part} is of {library!r}; only classes of {', '.join(sorted(LIBRARIES))} are loaded.")
    component = getattr(importlib.import_module(library), class_name)
    if part in {"scheduler", "tokenizer"}:
        return component.from_pretrained(folder, subfolder=part)
    return component.from_pretrained(folder, subfolder=part, torch_dtype=torch.float32, use_safetensors=True)
