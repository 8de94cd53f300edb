"""What a run needs on a device beside the weights, counted: the networks run on fake tensors, which have
sizes but no memory.
"""

from __future__ import annotations

import dataclasses
import weakref
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter

from restoration.priors.denoisers import Denoiser
from restoration.priors.parts import Parts

SIDE = 256  # pixels of the picture on which bytes are counted; they grow with the area
# ours: bytes per pixel of the whole-size pictures that a solver, and the merging of tiles, hold
PICTURES = 20 * 3 * 4


class Live(TorchDispatchMode):
    """Counts the bytes of the tensors that are made while it lasts and are alive; peak is the most there
    were.
    """

    def __init__(self, known: list[Tensor] | None = None):
        """known: tensors that were there before, such as weights, whose views are not counted."""
        super().__init__()
        self.bytes = self.peak = 0
        self._seen = {tensor.untyped_storage()._cdata for tensor in known or []}

    def _forget(self, key: int, size: int) -> None:
        self._seen.discard(key)
        self.bytes -= size

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = function(*args, **(kwargs or {}))
        for tensor in tree_iter(out):
            storage = tensor.untyped_storage() if isinstance(tensor, torch.Tensor) else None
            if storage is not None and storage._cdata not in self._seen:
                self._seen.add(storage._cdata)
                self.bytes += storage.nbytes()
                self.peak = max(self.peak, self.bytes)
                weakref.finalize(storage, self._forget, storage._cdata, storage.nbytes())
        return out


class Costs(NamedTuple):
    """Bytes per pixel of the picture that each verb holds at its peak; gradient: decoding and the way back,
    checkpointed: with recomputing; graph: what decoding leaves for the way back.
    """

    encode: float
    decode: float
    gradient: float
    checkpointed: float
    graph: float
    denoise: float


class Demand(NamedTuple):
    """What a run asks of a prior.

    pixels: of all its pictures together, at the result's size. gradient: whether the decoder is
    differentiated. own: bytes per pixel, and beside them per pixel of a tile where it works in tiles, of the
    method's own networks while they learn. rows: of the denoiser's batch per picture. encoded: pictures
    that are encoded at once for one of them. tile: latent pixels a side that the method itself decodes at
    once, 0 for all.
    """

    pixels: int
    gradient: bool = False
    own: tuple[float, float] = (0.0, 0.0)
    rows: int = 1
    encoded: int = 2
    tile: int = 0

    @property
    def learns(self) -> bool:
        """Whether the method's own networks learn between decoding and the decoder's gradient."""
        return self.gradient and any(self.own)

    def bytes(
        self,
        costs: Costs,
        codec_tile: int = 0,
        denoiser_tile: int = 0,
        again: bool = False,
        factor: int = 8,
    ) -> float:
        """At the run's peak beside the weights; sides of tiles in pixels, 0 without them.

        again: the decoder's graph is not kept while the method's own networks learn. factor: the codec's.
        """
        codec, unet, decoded = (
            min(self.pixels, tile**2) if tile else self.pixels
            for tile in (codec_tile, denoiser_tile, self.tile * factor)
        )
        decoded = min(decoded, codec)
        back = costs.checkpointed if codec_tile else costs.gradient
        decoding = (back if self.gradient else costs.decode) * decoded
        whole, tile = self.own
        learning = whole * self.pixels + tile * codec + costs.graph * decoded * (self.gradient and not again)
        encoding, denoising = costs.encode * self.encoded * codec, costs.denoise * self.rows * unet
        return max(encoding, decoding, learning, denoising) + PICTURES * self.pixels


_counted: dict[tuple[Any, ...], Costs] = {}  # by architecture


def count(parts: Parts, like: Denoiser, text: Tensor | None, factor: int, channels: int) -> Costs:
    """The costs of a prior's architecture in its precision: a second or two the first time, no memory.

    like: its denoiser; text: as that reads it; factor, channels: of its latents.
    """
    networks = [(type(part), part.to_json_string(), part.dtype) for part in (parts.vae, parts.unet)]
    architecture = *networks, type(like), None if text is None else text.shape, factor, channels
    if architecture not in _counted:
        _counted[architecture] = _count(parts, like, text, factor, channels)
    return _counted[architecture]


def _count(parts: Parts, like: Denoiser, text: Tensor | None, factor: int, channels: int) -> Costs:
    from torch._subclasses.fake_tensor import FakeTensorMode

    with FakeTensorMode():
        vae, unet = _empty(parts.vae), _empty(parts.unet)
        denoiser = type(like)(dataclasses.replace(parts, unet=unet))
        if hasattr(denoiser, "lengths"):  # which fake tensors cannot say
            denoiser.lengths = lambda text: [text.shape[1]] * len(text)
        side = SIDE // factor
        x, z = torch.zeros(1, 3, SIDE, SIDE), torch.zeros(1, channels, side, side)
        rows = None if text is None else torch.zeros(1, *text.shape[1:])
        leaf = z.to(vae.dtype).requires_grad_()

        def peak(function: Callable[[], Any], gradient: bool = False) -> float:
            weights = [*vae.parameters(), *vae.buffers(), *unet.parameters(), *unet.buffers()]
            with torch.set_grad_enabled(gradient), Live(weights) as live:
                function()
            return live.peak / SIDE**2

        def back() -> None:
            torch.autograd.grad(vae.decode(leaf).sample.sum(), leaf)

        def left() -> float:
            weights = [*vae.parameters(), *vae.buffers()]
            with torch.enable_grad(), Live(weights) as live:
                kept = vae.decode(leaf).sample  # noqa: F841  it holds the graph
            return live.bytes / SIDE**2

        encode, decode = peak(lambda: vae.encode(x.to(vae.dtype))), peak(lambda: vae.decode(z.to(vae.dtype)))
        denoise = peak(lambda: denoiser.predict(z.to(unet.dtype), 5, rows, (SIDE, SIDE)))
        gradient, graph = peak(back, gradient=True), left()
        checkpointed = gradient
        if vae._supports_gradient_checkpointing:
            vae.enable_gradient_checkpointing()
            checkpointed = peak(back, gradient=True)
    return Costs(encode, decode, gradient, checkpointed, graph, denoise)


def _empty(network: Any) -> Any:
    """The same architecture in the same precision, without the weights; converted afterwards, fake parameters
    would not be swapped.
    """
    before = torch.get_default_dtype()
    try:
        torch.set_default_dtype(network.dtype)
        return type(network).from_config(network.config).eval().requires_grad_(False)
    finally:
        torch.set_default_dtype(before)
