"""The prior: a frozen latent diffusion model as four verbs. Only here diffusers' models and accelerate's hooks are known."""

from __future__ import annotations

import dataclasses
import functools
import threading
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from restoration.priors import placement
from restoration.priors.checkpoints import EMBEDDED, PRIORS, Checkpoint, fetch, fetch_preview
from restoration.priors.placement import Placement

__all__ = ["EMBEDDED", "PRIORS", "Denoised", "LatentPrior", "load_prior"]


class Denoised(NamedTuple):
    """z_t = √ᾱ z0 + √(1-ᾱ) eps holds to float32 accuracy."""

    z0: Tensor
    eps: Tensor


class LatentPrior:
    """p(x) through a latent diffusion model.

    x: image (B,3,H,W) in [0,1]. z: latent (B,C,⌈H/f⌉,⌈W/f⌉), scaled as the checkpoint says. Ranges change only here.
    Prediction types epsilon, sample and v_prediction; one text encoder as in Stable Diffusion 1 and 2, or two as in SDXL.
    Latents are float32 whatever the precision of the networks.
    """

    def __init__(
        self,
        name: str,
        vae: Any,
        unet: Any,
        scheduler: Any,
        device: torch.device,
        tokenizer: Any = None,
        text_encoder: Any = None,
        tokenizer_2: Any = None,
        text_encoder_2: Any = None,
        placement: Placement | None = None,
        empty_is_zero: bool = False,
        commit: str = "",
        weights: str = "",
    ):
        """empty_is_zero: the empty text is all zeros instead of its encoding, as SDXL was trained.

        commit: of the Hub, where it is from there; weights: the digest of the files it was loaded from, empty where there are none.
        """
        self.name, self.commit, self.weights = name, commit, weights
        self.device = device
        self.placement = placement or Placement(str(device))
        self._readers = [(t, e) for t, e in ((tokenizer, text_encoder), (tokenizer_2, text_encoder_2)) if e is not None]
        self._empty_is_zero = empty_is_zero
        self._vae, self._unet = vae, unet
        for network in self._networks:
            network.eval().requires_grad_(False)
        self._arrange()
        # float64: at the lowest levels 1-ᾱ is a difference of nearly equal numbers; on the host, so that looking up a level never waits for
        # the device. The bound is for schedules that end in noise alone, where the estimate would divide by zero: EulerDiscreteScheduler's
        self.alpha_bar = (1 - scheduler.betas.double().cpu()).cumprod(0).clamp_min(2**-24)
        self.prediction_type: str = scheduler.config.prediction_type
        self.scale: float = vae.config.scaling_factor
        self.shift: float = vae.config.get("shift_factor") or 0.0
        self.factor: int = _down_sampling(vae)
        self.channels: int = vae.config.latent_channels

    @property
    def _networks(self) -> list[Any]:
        return [*(encoder for _, encoder in self._readers), self._unet, self._vae]

    def _arrange(self) -> None:
        """Bring the networks to where, and into the form that, self.placement says."""
        if self.placement.tiled:
            self._vae.enable_tiling()
            self._vae.enable_slicing()
            self._vae.enable_gradient_checkpointing()
            side = min(placement.TILE, self._vae.tile_sample_min_size)
            self._vae.tile_sample_min_size, self._vae.tile_latent_min_size = side, side // _down_sampling(self._vae)
        self._unet.to(memory_format=torch.channels_last)
        if self.placement.offload:
            _take_turns(self._networks, self.device)
            return
        for network in self._networks:
            network.to(self.device)

    def save_memory(self) -> bool:
        """From now on tile the VAE and let the networks take turns on the device; False when that is already so or cannot be."""
        better = dataclasses.replace(self.placement, tiled=True, offload=self.device.type != "cpu", reason="memory ran out")
        if not hasattr(self._vae, "enable_tiling") or (better.tiled, better.offload) == (self.placement.tiled, self.placement.offload):
            return False
        self.placement = better
        self._arrange()
        placement.release()
        return True

    def save_range(self) -> bool:
        """From now on compute in float32; False unless it was float16: bfloat16 has float32's range already."""
        if self.placement.dtype != torch.float16:
            return False
        self.placement = dataclasses.replace(self.placement, dtype=torch.float32, reason="numbers left the range of float16")
        for network in self._networks:
            network.float()
        self.__dict__.pop("_no_text", None)  # it was read in float16
        return True

    @property
    def sigmas(self) -> Tensor:
        """(T,) rising noise levels sqrt((1-ᾱ)/ᾱ), on the host."""
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
        return (latent.float() - self.shift) * self.scale

    def decode(self, z: Tensor, size: tuple[int, int]) -> Tensor:
        """Scaled latent -> image (B,3,*size), unclamped. Differentiable."""
        x = self._vae.decode((z / self.scale + self.shift).to(self._vae.dtype)).sample.float()
        return (x[..., : size[0], : size[1]] + 1) / 2

    @torch.no_grad()
    def picture(self, z: Tensor, size: tuple[int, int]) -> Tensor:
        """`decode` without gradient, clamped to [0,1]."""
        return self.decode(z, size).clamp(0, 1)

    @torch.no_grad()
    def preview(self, z: Tensor, size: tuple[int, int]) -> Tensor:
        """About `picture`, for the eye alone: by a small decoder where this prior has one and it can be had."""
        decoder = self._small_decoder
        if decoder is None:
            return self.picture(z, size)
        decoder.use_tiling = self.placement.tiled
        # it takes latents scaled as the U-Net does: its own scaling factor is 1
        x = decoder.decode(z / decoder.config.scaling_factor + decoder.config.shift_factor).sample
        return ((x[..., : size[0], : size[1]] + 1) / 2).clamp(0, 1)

    @functools.cached_property
    def _small_decoder(self) -> Any:
        folder = fetch_preview(self.name)
        if folder is None:
            return None
        from diffusers import AutoencoderTiny

        return AutoencoderTiny.from_pretrained(folder, use_safetensors=True).eval().requires_grad_(False).to(self.device)

    @torch.no_grad()
    def embed(self, prompt: str, negative: str = "") -> Tensor | None:
        """The text as the denoiser reads it: (2,L,D), first `negative`, then `prompt`; (1,L,D) where they are equal; None without text.

        With two text encoders D holds both, and one row more the second one's summary of the whole text, filled up with zeros.
        """
        if not self._readers:
            return None
        texts = [prompt] if prompt == negative else [negative, prompt]
        rows = [_read(tokenizer, encoder, texts, self.device) for tokenizer, encoder in self._readers]
        if len(rows) == 1:
            return rows[0][0].float()
        # SDXL (arXiv 2307.01952, §2.1): the last but one layer of both
        tokens = torch.cat([out.hidden_states[-2] for out in rows], -1).float()
        summary = rows[1].text_embeds.float()
        text = torch.cat([tokens, F.pad(summary, (0, tokens.shape[-1] - summary.shape[-1]))[:, None]], 1)
        if self._empty_is_zero:
            text[[not words for words in texts]] = 0
        return text

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
        text = text.to(z_t).repeat_interleave(len(z_t) // len(text), 0)
        more: dict[str, Any] = {}
        if len(self._readers) == 2:
            sides = [self.factor * side for side in z_t.shape[-2:]]
            # size, crop corner and target size of the training picture: all of it, at our size
            times = torch.tensor([[*sides, 0, 0, *sides]] * len(z_t)).to(z_t)
            more["added_cond_kwargs"] = {"text_embeds": text[:, -1, : self._readers[1][1].config.projection_dim], "time_ids": times}
            text = text[:, :-1]
        return self._unet(z_t, t, encoder_hidden_states=text, **more).sample.float()

    @property
    def isometric(self) -> bool:
        """Whether E(D(z)) = z and noise keeps its level: so it is with the embedded codec."""
        return "patch_size" in self._vae.config

    @functools.cached_property
    def gain(self) -> float:
        """The noise level in the latent over that in the picture, for white noise: levels given in [0,1] units times this are the denoiser's.

        2 · scale for the isometric codec, which is 1 for the embedded one; otherwise measured on a grey ramp with noise of 25/255
        (docs/methods/reld.md (16): the latent's noise is neither white nor linear in the picture's, so this is one number for a curve).
        """
        if self.isometric:
            return 2 * self.scale
        ramp = torch.linspace(0.2, 0.8, 256).expand(1, 3, 256, 256).to(self.device)
        noise = torch.randn(ramp.shape, generator=torch.Generator().manual_seed(0)).to(self.device) * 25 / 255
        with torch.no_grad():
            return (self.encode(ramp + noise) - self.encode(ramp)).std().item() / (25 / 255)

    def pull(self, z: Tensor, x: Tensor, target: Tensor) -> Tensor:
        """z with D(z) = x, moved to where it decodes to target (both (B,3,H,W) in [0,1]): z + E(target) - E(x), in which the VAE's error cancels."""
        return self.encode(target) if self.isometric else z + self.encode(target) - self.encode(x)

    def denoise_at(self, s: Tensor, sigma: float) -> Tensor:
        """f_σ(s): the clean estimate of s = z0 + gain·σ n, as RED's denoiser; σ in [0,1] units (docs/methods/reld.md (13))."""
        t = self.timestep(self.gain * sigma)
        return self.denoise(s * self.alpha_bar[t].sqrt().float(), t).z0


def _down_sampling(vae: Any) -> int:
    config = vae.config
    return config.patch_size if "patch_size" in config else 2 ** (len(config.block_out_channels) - 1)


def _read(tokenizer: Any, encoder: Any, texts: list[str], device: torch.device) -> Any:
    tokens = tokenizer(texts, padding="max_length", max_length=tokenizer.model_max_length, truncation=True, return_tensors="pt")
    return encoder(tokens.input_ids.to(device), output_hidden_states=True)


def _take_turns(networks: list[Any], device: torch.device) -> None:
    """Keep the networks in the host's memory; each one's call sends the others back there and itself to the device."""
    from accelerate import cpu_offload_with_hook
    from accelerate.hooks import CpuOffload, UserCpuOffloadHook

    for network in networks:
        network.to("cpu")
    for network in networks:
        for other in networks:
            if other is not network:
                cpu_offload_with_hook(network, device, UserCpuOffloadHook(other, CpuOffload(device)))


def _one_in_memory(load: Callable[[str, str | None], LatentPrior]) -> Callable[..., LatentPrior]:
    """Keep the last prior and give its memory back before the next one is loaded, but not before that one is known to be there and sound."""
    kept: dict[tuple[str, str | None], LatentPrior] = {}
    lock = threading.Lock()

    @functools.wraps(load)
    def switch(name: str = "embedded", device: str | None = None) -> LatentPrior:
        with lock:
            if (name, device) not in kept:
                fetch(name)
                kept.clear()
                placement.release()
                kept[name, device] = load(name, device)
            return kept[name, device]

    return switch


@_one_in_memory
def load_prior(name: str = "embedded", device: str | None = None) -> LatentPrior:
    """The prior `name`: one of PRIORS, a local diffusers folder, or any Hub id where checkpoints.OPEN is set. Cached.

    The folder holds model_index.json, vae/, unet/, scheduler/, and tokenizer/ and text_encoder/ where the prior reads text.
    device: "cuda", "cuda:1", "cpu", …; None is the one with most free memory.

    Raises ValueError for a name, a content or a size that cannot be used, OSError for no network, access or disk; until the files are
    here and sound, the prior that was loaded before stays in memory.
    """
    checkpoint = fetch(name)
    return build(name, checkpoint, placement.choose(checkpoint.parameters, checkpoint.side, device))


def build(name: str, checkpoint: Checkpoint, where: Placement) -> LatentPrior:
    """The prior of a checked folder in the given place."""
    parts = {part: _load_component(checkpoint, part, where.dtype) for part in checkpoint.parts}
    more: dict[str, Any] = {"empty_is_zero": checkpoint.empty_is_zero, "commit": checkpoint.commit, "weights": checkpoint.weights}
    return LatentPrior(name, device=torch.device(where.device), placement=where, **more, **parts)


def _load_component(checkpoint: Checkpoint, part: str, dtype: torch.dtype) -> Any:
    import importlib

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
        loaded = component.from_pretrained(checkpoint.folder, subfolder=part, **options)
    except Exception as error:  # libraries raise whatever damaged files lead them to, in many lines and with paths
        if placement.out_of_memory(error):
            raise
        raise ValueError(f"The prior's {part} cannot be loaded: {part}/ is damaged or not of one piece; load it again.") from None
    if part == "scheduler" and not _usable(loaded):
        raise ValueError("The prior's scheduler describes no diffusion: scheduler/ is damaged; load it again.")
    if not network:
        return loaded
    model, told = loaded
    if told["missing_keys"]:  # which the libraries fill with random numbers
        missing = len(told["missing_keys"])
        raise ValueError(f"The prior's {part} lacks {missing} of its weights: {part}/ is damaged or not of one piece; load it again.")
    return model


def _usable(scheduler: Any) -> bool:
    """Whether a scheduler has a noise level for each of its steps, and says what the network predicts in a way that is known here."""
    levels, config = scheduler.alphas_cumprod, scheduler.config
    kinds = {"epsilon", "sample", "v_prediction"}
    whole = len(levels) == config.num_train_timesteps > 1 and bool(((levels >= 0) & (levels <= 1)).all())
    return whole and config.get("prediction_type", "epsilon") in kinds
