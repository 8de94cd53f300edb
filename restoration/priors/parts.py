"""What a prior is made of, as a diffusers folder holds it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import nn


@dataclass(frozen=True)
class Parts:
    """The components of one checkpoint.

    unet: the denoiser, a U-Net or a transformer. tokenizers, text_encoders: none, one or two, in the
    pipeline's order. timesteps: those that a distilled denoiser was trained at, rising; empty where it knows
    all. empty_is_zero: the empty text is all zeros instead of its encoding, as SDXL was trained. commit: of
    the Hub, where it is from there; weights: the digest of its files, "" where there are none.
    """

    vae: Any
    unet: Any
    scheduler: Any
    tokenizers: tuple[Any, ...] = ()
    text_encoders: tuple[Any, ...] = ()
    empty_is_zero: bool = False
    timesteps: tuple[int, ...] = ()
    commit: str = ""
    weights: str = ""

    @property
    def networks(self) -> list[nn.Module]:
        """All that has weights."""
        return [*self.text_encoders, self.unet, self.vae]
