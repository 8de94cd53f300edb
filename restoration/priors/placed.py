"""The networks of a prior on a device: where they are, what a run needs there, and what saves memory."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from restoration.priors import memory, placement
from restoration.priors.denoisers import denoiser
from restoration.priors.memory import Costs, Demand
from restoration.priors.parts import Parts
from restoration.priors.placement import Placement


class PlacedPrior(ABC):
    """Parts of a prior where a placement puts them. A run changes the placement within `borrowed` alone."""

    def __init__(self, parts: Parts, where: Placement):
        self.device = torch.device(where.device)
        self.placement = where
        self.parts, self.denoiser = parts, denoiser(parts)
        self._vae, self._unet = parts.vae, parts.unet
        for network in parts.networks:
            network.eval().requires_grad_(False)
        self._unet.to(memory_format=torch.channels_last)
        config = parts.vae.config
        self.factor: int = _down_sampling(parts.vae)
        self.channels: int = config.latent_channels
        # sides of tiles in latent pixels: what the denoiser was trained on, and what the codec's memory
        # allows
        trained = self._unet.config.get("sample_size")
        self.denoiser_tile = trained if isinstance(trained, int) else self.denoiser.side
        self.codec_tile = min(placement.TILE, config.get("sample_size") or placement.TILE) // self.factor

    @abstractmethod
    def embed(self, prompt: str, negative: str = "") -> Tensor | None:
        """The text as the denoiser reads it."""

    def _move(self, where: Placement) -> None:
        """Bring the networks to another place, and into the form that it says."""
        before, self.placement = self.placement, where
        placement.move(self.parts, before, where)

    @contextlib.contextmanager
    def borrowed(self) -> Iterator[None]:
        """What `save_memory` and `save_range` change while the block runs is taken back at its end: a rescue
        is one run's.
        """
        before = self.placement
        try:
            yield
        finally:
            if self.placement != before:
                self._move(before)

    def fit(self, demand: Demand) -> None:
        """Within `borrowed`: decode twice for a gradient where the method learns meanwhile, tile, let
        networks take turns, as far as this run needs more memory than is free now.

        Tiles that were chosen at loading, when nobody knew the run, are given up where it does without.
        """
        if placement.MOST * demand.pixels <= placement.free(str(self.device)):
            return  # without counting
        now, *better = self._savings()
        whole = dataclasses.replace(now, tiled=False, reason="") if now.tiled else now
        twice = [dataclasses.replace(whole, twice=True)] if demand.learns else []
        unsaved = [] if now.offload else [whole, *twice]
        for where in [*unsaved, *([now] if now.tiled else []), *better]:
            if self._needs(demand, where) <= self._free(where):
                break
        if where != self.placement:
            reason = "memory is short for so large a picture"
            self._move(where if where == whole else dataclasses.replace(where, reason=reason))

    def _savings(self) -> list[Placement]:
        """The placement that is, and what saves more, step by step."""
        tiled = dataclasses.replace(self.placement, tiled=True)
        last = [] if self.device.type == "cpu" else [dataclasses.replace(tiled, offload=True)]
        return [self.placement, *(where for where in (tiled, *last) if where != self.placement)]

    def predicted(self, demand: Demand) -> float:
        """Bytes on the device at a run's peak, weights included, as the prior is placed now; a context's are
        not among them.
        """
        sizes = [placement.size(network) for network in (self._unet, self._vae)]
        return (max(sizes) if self.placement.offload else sum(sizes)) + self.needs(demand) / placement.RESERVE

    def needs(self, demand: Demand) -> float:
        """Bytes beside the weights that a run takes as the prior is placed now."""
        return self._needs(demand, self.placement)

    def _needs(self, demand: Demand, where: Placement) -> float:
        codec, unet = (side * self.factor * where.tiled for side in (self.codec_tile, self.denoiser_tile))
        return placement.RESERVE * demand.bytes(self.costs, codec, unet, where.again, self.factor)

    def _free(self, where: Placement) -> float:
        """Bytes that are free, those that taking turns would free among them."""
        sizes = [placement.size(network) for network in (self._unet, self._vae)]
        turns = where.offload and not self.placement.offload
        return placement.free(str(self.device)) + (sum(sizes) - max(sizes) if turns else 0)

    @functools.cached_property
    def costs(self) -> Costs:
        """Bytes per pixel of each verb."""
        return memory.count(self.parts, self.denoiser, self.embed(""), self.factor, self.channels)

    def save_memory(self) -> bool:
        """Within `borrowed`: tile; where that is so already, let the networks take turns; False when neither
        is left.
        """
        _, *better = self._savings()
        if not better:
            return False
        self._move(dataclasses.replace(better[0], reason="memory ran out"))
        return True

    def save_range(self) -> bool:
        """Within `borrowed`: compute in float32; False unless it was float16, since bfloat16 has float32's
        range already.
        """
        if self.placement.dtype != torch.float16:
            return False
        reason = "numbers left the range of float16"
        self._move(dataclasses.replace(self.placement, dtype=torch.float32, reason=reason))
        return True


def _down_sampling(vae: Any) -> int:
    config = vae.config
    return config.patch_size if "patch_size" in config else 2 ** (len(config.block_out_channels) - 1)
