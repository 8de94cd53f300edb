"""What a prior is made of, as a diffusers folder holds it, and how each family of denoisers takes its text and its conditions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn


@dataclass(frozen=True)
class Parts:
    """The components of one checkpoint.

    tokenizers, text_encoders: none, one (Stable Diffusion 1 and 2) or two (XL), in the pipeline's order.
    empty_is_zero: the empty text is all zeros instead of its encoding, as SDXL was trained.
    commit: of the Hub, where it is from there; weights: the digest of its files, "" where there are none.
    """

    vae: Any
    unet: Any
    scheduler: Any
    tokenizers: tuple[Any, ...] = ()
    text_encoders: tuple[Any, ...] = ()
    empty_is_zero: bool = False
    commit: str = ""
    weights: str = ""

    @property
    def networks(self) -> list[nn.Module]:
        """All that has weights."""
        return [*self.text_encoders, self.unet, self.vae]


class Denoiser:
    """The network of Stable Diffusion 1 and 2, and of anything else that takes one text or none."""

    def __init__(self, parts: Parts):
        self.parts = parts

    @torch.no_grad()
    def read(self, texts: list[str], device: torch.device) -> Tensor | None:
        """Texts as `predict` takes them: one row each, (B,L,D); None where the prior reads none."""
        if not self.parts.text_encoders:
            return None
        return self._encodings(texts, device)[0][0].float()

    def predict(self, z_t: Tensor, t: int, text: Tensor | None, pixels: tuple[int, int]) -> Tensor:
        """The network's output for z_t (B,C,h,w), float32; text: (B,L,D). pixels: of the picture that z_t is the latent of."""
        text = None if text is None else text.to(z_t)
        return self._unet(z_t, t, encoder_hidden_states=text) if text is not None else self._unet(z_t, t)

    def _unet(self, z_t: Tensor, t: int, **more: Any) -> Tensor:
        return self.parts.unet(z_t, t, **more).sample.float()

    def _encodings(self, texts: list[str], device: torch.device) -> list[Any]:
        return [
            encoder(
                tokenizer(
                    texts,
                    padding="max_length",
                    max_length=tokenizer.model_max_length,
                    truncation=True,
                    return_tensors="pt",
                ).input_ids.to(device),
                output_hidden_states=True,
            )
            for tokenizer, encoder in zip(self.parts.tokenizers, self.parts.text_encoders, strict=True)
        ]


class SDXLDenoiser(Denoiser):
    """SDXL (arXiv 2307.01952, §2): two texts, a summary, and the size of the training picture."""

    @torch.no_grad()
    def read(self, texts: list[str], device: torch.device) -> Tensor:
        """D holds both encodings; one row more is the second one's summary of the whole text, filled up with zeros."""
        out = self._encodings(texts, device)
        tokens = torch.cat([encoding.hidden_states[-2] for encoding in out], -1).float()  # §2.1: the last but one layer
        summary = out[1].text_embeds.float()
        text = torch.cat([tokens, F.pad(summary, (0, tokens.shape[-1] - summary.shape[-1]))[:, None]], 1)
        if self.parts.empty_is_zero:
            text[[not words for words in texts]] = 0
        return text

    def predict(self, z_t: Tensor, t: int, text: Tensor | None, pixels: tuple[int, int]) -> Tensor:
        assert text is not None
        text = text.to(z_t)
        # size, crop corner and target size of the training picture: all of it, at our size
        times = torch.tensor([[*pixels, 0, 0, *pixels]] * len(z_t)).to(z_t)
        width = self.parts.text_encoders[1].config.projection_dim
        more = {"text_embeds": text[:, -1, :width], "time_ids": times}
        return self._unet(z_t, t, encoder_hidden_states=text[:, :-1], added_cond_kwargs=more)


def denoiser(parts: Parts) -> Denoiser:
    """The parts' own family."""
    return (SDXLDenoiser if len(parts.text_encoders) == 2 else Denoiser)(parts)
