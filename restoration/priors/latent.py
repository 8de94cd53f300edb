"""The prior: a frozen latent diffusion model as four verbs.

Only here diffusers' models and accelerate's hooks are known.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from restoration.priors import placement, precision, tiling
from restoration.priors.catalogue import PRIORS
from restoration.priors.checkpoints import fetch, fetch_preview
from restoration.priors.diffusers_folder import Checkpoint
from restoration.priors.levels import levels, roots
from restoration.priors.loading import load_parts
from restoration.priors.parts import Parts
from restoration.priors.placed import PlacedPrior
from restoration.priors.placement import Placement


class Denoised(NamedTuple):
    """z_t = √ᾱ z0 + √(1-ᾱ) eps holds to float32 accuracy."""

    z0: Tensor
    eps: Tensor


class LatentPrior(PlacedPrior):
    """p(x) through a latent diffusion model.

    x: image (B,3,H,W) in [0,1]. z: latent (B,C,⌈H/f⌉,⌈W/f⌉), scaled as the checkpoint says. Ranges change
    only here. Latents are float32 whatever the precision of the networks. Where its placement is tiled, every
    verb works on overlapping tiles, which are merged (tiling.tiled).
    """

    def __init__(self, name: str, parts: Parts, where: Placement):
        """name: of PRIORS, or the folder or Hub id it is from. where: the networks are moved there."""
        self.name, self.commit, self.weights = name, parts.commit, parts.weights
        super().__init__(parts, where)
        self.levels = levels(parts.scheduler)
        self.alpha_bar = self.levels.alpha_bar
        self.timesteps = list(parts.timesteps) or list(range(len(self.alpha_bar)))
        self.scale: float = parts.vae.config.scaling_factor
        self.shift: float = parts.vae.config.get("shift_factor") or 0.0
        placement.move(parts, None, where)

    def _move(self, where: Placement) -> None:
        if where.dtype != self.placement.dtype:
            self.__dict__.pop("_no_text", None)  # it was read in the other precision
        super()._move(where)

    @property
    def sigmas(self) -> Tensor:
        """(T,) rising noise levels sqrt((1-ᾱ)/ᾱ), on the host."""
        return ((1 - self.alpha_bar) / self.alpha_bar).sqrt()

    def timestep(self, sigma: float) -> int:
        """The timestep whose noise level is nearest to sigma (in ratio), of those that the prior was trained
        at.
        """
        known = self.sigmas[self.timesteps]
        return self.timesteps[int((known.log() - torch.tensor(sigma).log()).abs().argmin())]

    @property
    def lowest(self) -> float:
        """The lowest level at which the denoiser acts, as noise in the picture, in [0,1] units."""
        return self.sigmas[self.timesteps[0]].item() / self.gain

    def encode(self, x: Tensor) -> Tensor:
        """Image -> scaled latent (posterior mean); sides are replicated up to a multiple of the factor.

        Differentiable.
        """
        height, width = x.shape[-2:]
        x = F.pad(x, (0, -width % self.factor, 0, -height % self.factor), mode="replicate")
        if not self.placement.tiled:
            return self._encode(x)
        return tiling.tiled(self._encode, x, self.codec_tile * self.factor, shrink=self.factor)

    def _encode(self, x: Tensor) -> Tensor:
        out = self._vae.encode((2 * x - 1).to(self._vae.dtype))
        latent = out.latent if hasattr(out, "latent") else out.latent_dist.mode()
        return (latent.float() - self.shift) * self.scale

    def decode(self, z: Tensor, size: tuple[int, int]) -> Tensor:
        """Scaled latent -> image (B,3,*size), unclamped. Differentiable."""
        x = (
            tiling.tiled(self._decode, z, self.codec_tile, self.factor)
            if self.placement.tiled
            else self._decode(z)
        )
        return (x[..., : size[0], : size[1]] + 1) / 2

    def _decode(self, z: Tensor) -> Tensor:
        return self._vae.decode((z / self.scale + self.shift).to(self._vae.dtype)).sample.float()

    @torch.no_grad()
    def picture(self, z: Tensor, size: tuple[int, int]) -> Tensor:
        """`decode` without gradient, clamped to [0,1]."""
        return self.decode(z, size).clamp(0, 1)

    @torch.no_grad()
    def preview(self, z: Tensor, size: tuple[int, int]) -> Tensor:
        """About `picture`, for the eye alone: by a small decoder where this prior has one."""
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

        return (
            AutoencoderTiny.from_pretrained(folder, use_safetensors=True)
            .eval()
            .requires_grad_(False)
            .to(self.device)
        )

    def embed(self, prompt: str, negative: str = "") -> Tensor | None:
        """The text as the denoiser reads it: (2,L,D), first `negative`, then `prompt`; (1,L,D) where they are
        equal; None without text.
        """
        with placement.reading(self.parts, self.placement):
            texts = [prompt] if prompt == negative else [negative, prompt]
            # tokenizers end at half a surrogate pair
            texts = [text.encode(errors="replace").decode() for text in texts]
            return self.denoiser.read(texts, self.device)

    @functools.cached_property
    def _no_text(self) -> Tensor | None:
        return self.embed("")

    @torch.no_grad()
    def denoise(
        self,
        z_t: Tensor,
        t: int,
        text: Tensor | None = None,
        guidance: float = 1.0,
        *,
        trusting: bool = False,
    ) -> Denoised:
        """The clean estimate and the noise of z_t (B,C,h,w) at timestep t.

        text: of `embed`; None is the empty text. guidance: classifier-free, out = out₀ + guidance · (out_text
        - out₀) (arXiv 2207.12598); 1, a prompt equal to its negative, or a distilled prior, which has learned
        its guidance, costs one run of the network instead of two. A distilled prior is asked at the nearest
        of its timesteps, for the estimate that it makes of z_t there. trusting: the noise counts as white and
        of t's level, whatever it looks like, where a prior would judge that by itself.
        """
        text = self._no_text if text is None else text
        nearest = t if t in self.timesteps else self.timestep(self.sigmas[t].item())
        z = z_t if nearest == t else z_t * (self.alpha_bar[nearest] / self.alpha_bar[t]).sqrt().item()
        given, time = self.levels.given(z, nearest)
        if text is None or len(text) == 1 or guidance == 1 or self.parts.timesteps:
            out = self._predict(given, time, None if text is None else text[-1:], trusting)
        else:
            plain, worded = self._predict(torch.cat([given, given]), time, text, trusting).chunk(2)
            out = plain + guidance * (worded - plain)
        z0, eps = self.levels.noise_free(out, z, nearest)
        if nearest != t:
            root_a, root_b = roots(self.alpha_bar[t])
            eps = (z_t - root_a * z0) / root_b
        return Denoised(z0, eps)

    def _predict(self, z_t: Tensor, t: float, text: Tensor | None, trusting: bool) -> Tensor:
        """The network's output; each row of text serves len(z_t) / len(text) rows of z_t."""
        network = self.denoiser.predict_trusting if trusting else self.denoiser.predict
        rows = None if text is None else text.repeat_interleave(len(z_t) // len(text), 0)

        def predict(z: Tensor) -> Tensor:
            height, width = (self.factor * side for side in z.shape[-2:])
            return network(z.to(self._unet.dtype), t, rows, (height, width))

        return tiling.tiled(predict, z_t, self.denoiser_tile) if self.placement.tiled else predict(z_t)

    @functools.cached_property
    def isometric(self) -> bool:
        """Whether E(D(z)) = z, tried on noise: so it is with the embedded codec, whose noise keeps its level
        too.
        """
        z = torch.randn(1, self.channels, 8, 8, generator=torch.Generator().manual_seed(0)).to(self.device)
        with torch.no_grad():
            again = self._encode((self._decode(z) + 1) / 2)
        return bool((again - z).abs().max() < 1e-3)

    @functools.cached_property
    def gain(self) -> float:
        """The noise level in the latent over that in the picture, for white noise: levels given in [0,1]
        units times this are the denoiser's.

        2 · scale for the isometric codec, which is 1 for the embedded one; otherwise measured on a grey ramp
        with noise of 25/255 (docs/methods/reld.md (16): the latent's noise is neither white nor linear in the
        picture's, so this is one number for a curve).
        """
        if self.isometric:
            return 2 * self.scale
        ramp = torch.linspace(0.2, 0.8, 256).expand(1, 3, 256, 256).to(self.device)
        noise = torch.randn(ramp.shape, generator=torch.Generator().manual_seed(0)).to(self.device) * 25 / 255
        with torch.no_grad():
            # whole, tiles or not: a prior's levels do not depend on the memory that is free
            return (self._encode(ramp + noise) - self._encode(ramp)).std().item() / (25 / 255)

    def pull(self, z: Tensor, x: Tensor, target: Tensor) -> Tensor:
        """z with D(z) = x, moved to where it decodes to target, both (B,3,H,W): z + E(target) - E(x), in
        which a lossy codec's error cancels.

        A lossy codec gets both clipped to [0,1], as it was trained on pictures.
        """
        if self.isometric:
            return self.encode(target)
        new, old = self.encode(torch.cat([target, x]).clamp(0, 1)).chunk(2)
        return z + new - old

    def denoise_at(self, s: Tensor, sigma: float, *, trusting: bool = False) -> Tensor:
        """f_σ(s): the clean estimate of s = z0 + gain·σ n, as RED's denoiser; σ in [0,1] units
        (docs/methods/reld.md (13)). trusting: as of `denoise`.
        """
        t = self.timestep(self.gain * sigma)
        return self.denoise(s * roots(self.alpha_bar[t])[0], t, trusting=trusting).z0


def _one_in_memory(load: Callable[[str, str | None], LatentPrior]) -> Callable[..., LatentPrior]:
    """Keep the last prior and give its memory back before the next one is loaded, but not before that one is
    known to be there and sound.
    """
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

    switch.kept = kept  # type: ignore[attr-defined]
    return switch


@_one_in_memory
def load_prior(name: str = "embedded", device: str | None = None) -> LatentPrior:
    """The prior `name`: one of PRIORS, a local diffusers folder, or any Hub id where checkpoints.OPEN is set.
    Cached.

    The folder holds model_index.json, vae/, unet/, scheduler/, and tokenizer/ and text_encoder/ where the
    prior reads text. device: "cuda", "cuda:1", "cpu", …; None is the one with most free memory.

    Raises ValueError for a name, a content or a size that cannot be used, OSError for no network, access or
    disk; until the files are here and sound, the prior that was loaded before stays in memory.
    """
    checkpoint = fetch(name)
    return build(name, checkpoint, placement.choose(checkpoint.parameters, checkpoint.side, device))


def in_memory(name: str, device: str | None = None) -> bool:
    """Whether `load_prior` has this prior at hand."""
    return (name, device) in load_prior.kept  # type: ignore[attr-defined]


def build(name: str, checkpoint: Checkpoint, where: Placement) -> LatentPrior:
    """The prior of a checked folder in the given place. ValueError where its files do not make one."""
    parts = load_parts(checkpoint, where.dtype, PRIORS[name].timesteps if name in PRIORS else ())
    return LatentPrior(name, *precision.fitted(parts, where))
