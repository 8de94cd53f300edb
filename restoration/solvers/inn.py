"""LatentINDIGO's g_Θ and F: the invertible network that imitates a degradation, and the encoder that names
it.

Equation numbers are those of docs/methods/latent-indigo.md; what the committed networks achieve:
weights/inn/README.md.

Notation (code -> paper):  x -> x or z · coarse, details -> x_c, x_d · gamma -> γ_deg · LiftingINN -> g_Θ ·
  embed -> F
  forward (1) · inverse, swap (3) · split -> S · predict, update -> P_k, U_k (4), (5)

Known from the paper and its predecessor: wavelet lifting of split, predict, update; networks scaled by γ =
F(y); the coarse part imitates y and is exchanged for it in the inverse.
Deviations (ours):
  - Haar split and outputs that begin at zero, so that the untrained network is the wavelet;
  - all lifting steps run at the resolution of the deepest level on all sub-bands at once (there: level by
    level with shared weights), five times fewer operations for the same filters;
  - a linear path beside every predict and update network, and outputs bounded by tanh, so that no weights
    can make the transform explode;
  - a swap computes the last update once: its inverse only takes back what the forward transform added;
  - scale 1 is undecimated: coarse and details both begin as x and are averaged at the end.
    inverse(forward(x)) is still x, but forward(inverse(y, d)) is not (y, d), since the frame is redundant.
    LatentINN is of this kind at every scale of the picture: its "coarse part" is the latent of the enlarged
    y;
  - F is small and learns beside the transform, from what the drawn degradation does to gratings (there:
    distilled from a network that is told the degradation).
"""

from __future__ import annotations

import functools
import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from torch import Tensor, nn

from restoration.degradations import realistic
from restoration.priors.networks import Residual

DOMAINS = ("latent", "pixel")


class Details(NamedTuple):
    """What the coarse part does not hold: values (B,D,h,w) at the resolution of the lifting, and the size of
    the transformed image.
    """

    values: Tensor
    size: tuple[int, int]


class Lift(nn.Module):
    """One predict or update network, (B,c,h,w) -> (B,d,h,w) within ±gain; begins at zero.

    A linear path beside it lets an update cancel channels without going through the narrow network.
    """

    def __init__(self, channels: int, out: int, width: int, cells: int, embedding: int, gain: float):
        super().__init__()
        self.gain = gain
        self.enter = nn.Conv2d(channels, width, 3, padding=1)
        self.cells = nn.ModuleList(Residual(width, embedding) for _ in range(cells))
        self.leave = nn.Conv2d(width, out, 3, padding=1)
        self.linear = nn.Conv2d(channels, out, 1, bias=False)
        nn.init.zeros_(self.leave.weight)
        nn.init.zeros_(self.leave.bias)  # type: ignore[arg-type]  # it has a bias
        nn.init.zeros_(self.linear.weight)

    def forward(self, x: Tensor, gamma: Tensor) -> Tensor:
        h = self.enter(x)
        for cell in self.cells:
            h = cell(h, gamma)
        return self.gain * torch.tanh((self.leave(h) + self.linear(x)) / self.gain)


class DegradationEncoder(nn.Module):
    """F: degraded image (B,3,h,w) in [0,1], any size -> γ (B,embedding), from mean and log variance of its
    features over the image.

    Blur shows as a ratio of variances, which logarithms make a difference: without them learning stood still
    for long.
    """

    def __init__(self, embedding: int, width: int = 32):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(3, width, 3, padding=1),
            nn.SiLU(),
            nn.Conv2d(width, 2 * width, 3, padding=1, stride=2),
            Residual(2 * width, norm=True),
            nn.Conv2d(2 * width, 2 * width, 3, padding=1, stride=2),
            Residual(2 * width, norm=True),
        )
        self.head = nn.Sequential(
            nn.LayerNorm(4 * width),
            nn.Linear(4 * width, 2 * embedding),
            nn.SiLU(),
            nn.Linear(2 * embedding, embedding),
        )
        self.transfer = nn.Linear(embedding, len(realistic.WAVES))

    def forward(self, y: Tensor) -> Tensor:
        h = self.layers(4 * (y - 0.5)).float().flatten(2)
        return self.head(torch.cat([h.mean(2), (h.var(2) + 1e-5).log()], 1))


class LiftingINN(ModelMixin, ConfigMixin):
    """g_Θ with its F. coarse, details = inn(x, gamma); x = inn.inverse(coarse, details, gamma), exactly, for
    any size.

    x: (B,C,H,W) float32, an image in [0,1] or a latent. coarse: (B,C,⌈H/patch⌉·patch/scale, …), what the
    degradation leaves of x. `patch` is the side of the blocks on which the lifting works; `spread` the
    deviation of every channel, for conditioning alone; `codec` what `codec_of` says of the prior whose
    latents x are, empty where x is an image. Half precision is refused: the round trip is 1e-6 in float32 and
    1e-2 in bfloat16.
    """

    @register_to_config
    def __init__(
        self,
        scale: int = 4,
        patch: int = 4,
        offset: float = 0.5,
        spread: tuple[float, ...] = (0.25,) * 3,
        width: int = 48,
        pairs: int = 3,
        cells: int = 1,
        embedding: int = 64,
        gain: float = 2.0,
        codec: tuple[float, ...] = (),
    ):
        super().__init__()
        if patch % scale:
            raise ValueError(f"patch is {patch} and scale {scale}; patch must be a multiple of scale.")
        if scale & (scale - 1):
            raise ValueError(f"scale is {scale}; it must be a power of two.")
        self.register_buffer("unit", torch.tensor(spread)[:, None, None], persistent=False)
        coarse = len(spread) * (patch // scale) ** 2
        details = coarse * (scale**2 - 1) if scale > 1 else coarse
        self.encoder = DegradationEncoder(embedding)
        self.predictors = nn.ModuleList(
            Lift(coarse, details, width, cells, embedding, gain) for _ in range(pairs)
        )
        self.updaters = nn.ModuleList(
            Lift(details, coarse, width, cells, embedding, gain) for _ in range(pairs)
        )

    def embed(self, y: Tensor) -> Tensor:
        """γ (B,embedding) of a degraded image (B,3,h,w) in [0,1]."""
        return self.encoder(y)

    def transfer(self, gamma: Tensor) -> Tensor:
        """(B,16): what F believes the degradation leaves of the contrast of the gratings `realistic.WAVES`,
        1: all.
        """
        return self.encoder.transfer(gamma)

    def forward(self, x: Tensor, gamma: Tensor) -> tuple[Tensor, Details]:
        """(coarse, details) of x. TypeError in half precision."""
        c, d, last = self._lift(x, gamma)
        return self._unfold(c + last) + self.config.offset, Details(d, (x.shape[-2], x.shape[-1]))

    def inverse(self, coarse: Tensor, details: Details, gamma: Tensor) -> Tensor:
        """The x of (coarse, details). TypeError in half precision."""
        self._refuse_half(coarse)
        with torch.autocast(coarse.device.type, enabled=False):
            last = self.updaters[-1](details.values, gamma)
        return self._unlift(self._fold(coarse - self.config.offset), details, gamma, last)

    def measure(self, x: Tensor, gamma: Tensor) -> Tensor:
        """What the degradation makes of x: the coarse part without padding, (B,C,⌈H/scale⌉,⌈W/scale⌉)."""
        coarse, _ = self(x, gamma)
        height, width = (math.ceil(side / self.config.scale) for side in x.shape[-2:])
        return coarse[..., :height, :width]

    def swap(self, x: Tensor, y: Tensor, gamma: Tensor) -> tuple[Tensor, Tensor]:
        """(x_inv, measured): x with its coarse part exchanged for y (B,C,⌈H/scale⌉,⌈W/scale⌉), and the coarse
        part it had.
        """
        c, d, last = self._lift(x, gamma)
        coarse = self._unfold(c + last) + self.config.offset
        height, width = y.shape[-2:]
        measured = coarse[..., :height, :width]
        beyond = (0, coarse.shape[-1] - width, 0, coarse.shape[-2] - height)
        coarse = coarse + F.pad(y - measured, beyond)
        details = Details(d, (x.shape[-2], x.shape[-1]))
        return self._unlift(self._fold(coarse - self.config.offset), details, gamma, last), measured

    def _lift(self, x: Tensor, gamma: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(c, d, last): all but the last update, and that update, which a swap need not compute again."""
        self._refuse_half(x)
        with torch.autocast(x.device.type, enabled=False):
            c, d = self._split((x - self.config.offset) / self.unit)
            last = torch.zeros_like(c)
            for predict, update in zip(self.predictors, self.updaters, strict=True):
                c = c + last
                d = d + predict(c, gamma)
                last = update(d, gamma)
            return c, d, last

    def _unlift(self, c: Tensor, details: Details, gamma: Tensor, last: Tensor) -> Tensor:
        """The image of the coarse part c, in the lifting's own units, with the last update given."""
        with torch.autocast(c.device.type, enabled=False):
            c, d = c - last, details.values
            d = d - self.predictors[-1](c, gamma)
            for predict, update in reversed(list(zip(self.predictors[:-1], self.updaters[:-1], strict=True))):
                c = c - update(d, gamma)
                d = d - predict(c, gamma)
            x = self._merge(c, d)[..., : details.size[0], : details.size[1]]
            return x * self.unit + self.config.offset

    def _split(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Haar sub-bands of scale×scale blocks, mean first, folded to the resolution of the lifting; twice x
        at scale 1.
        """
        scale, patch = self.config.scale, self.config.patch
        x = F.pad(x, (0, -x.shape[-1] % patch, 0, -x.shape[-2] % patch), mode="reflect") if patch > 1 else x
        blocks = F.pixel_unshuffle(x, scale).unflatten(1, (-1, scale**2))
        bands = torch.einsum("ij,bcjhw->bcihw", _haar(scale, x.device, x.dtype) / scale, blocks)
        coarse = F.pixel_unshuffle(bands[:, :, 0], patch // scale)
        return coarse, coarse if scale == 1 else F.pixel_unshuffle(
            bands[:, :, 1:].flatten(1, 2), patch // scale
        )

    def _merge(self, c: Tensor, d: Tensor) -> Tensor:
        scale, fold = self.config.scale, self.config.patch // self.config.scale
        if scale == 1:
            return F.pixel_shuffle((c + d) / 2, fold)
        coarse, rest = F.pixel_shuffle(c, fold), F.pixel_shuffle(d, fold)
        bands = torch.cat([coarse[:, :, None], rest.unflatten(1, (-1, scale**2 - 1))], 2)
        blocks = torch.einsum("ij,bcihw->bcjhw", _haar(scale, c.device, c.dtype) * scale, bands)
        return F.pixel_shuffle(blocks.flatten(1, 2), scale)

    def _fold(self, coarse: Tensor) -> Tensor:
        """A coarse part without its offset -> at the resolution and in the units of the lifting."""
        return F.pixel_unshuffle(coarse / self.unit, self.config.patch // self.config.scale)

    def _unfold(self, c: Tensor) -> Tensor:
        return F.pixel_shuffle(c, self.config.patch // self.config.scale) * self.unit

    def _refuse_half(self, x: Tensor) -> None:
        for dtype in (x.dtype, self.dtype):
            if dtype not in (torch.float32, torch.float64):
                raise TypeError(f"The invertible network is exact in float32 only; it was given {dtype}.")


@functools.lru_cache(maxsize=16)
def _haar(side: int, device: torch.device, dtype: torch.dtype) -> Tensor:
    """`haar_blocks`, brought there once."""
    return haar_blocks(side).to(device, dtype)


@functools.cache
def haar_blocks(side: int) -> Tensor:
    """(side², side²) orthonormal, float64: the separable Haar basis of side×side blocks as rows, the mean
    (times side) first.
    """

    def line(n: int) -> Tensor:
        if n == 1:
            return torch.ones(1, 1, dtype=torch.float64)
        low = torch.kron(line(n // 2), torch.tensor([[1.0, 1.0]]).double())
        high = torch.kron(torch.eye(n // 2).double(), torch.tensor([[1.0, -1.0]]).double())
        return torch.cat([low, high]) / math.sqrt(2)

    return torch.kron(line(side), line(side))
