"""The two networks of the embedded prior, as ordinary diffusers models: a patch codec and a latent denoiser.

Both are ours because no diffusers class fits: the codec must be isometric (so that white noise in pixels is
white noise of the same level in the latent and the denoiser is literally the Gaussian denoiser that RED asks
for) and cheap (the solvers call it at every step on two cores).
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from diffusers.utils import BaseOutput
from torch import Tensor, nn

from restoration.priors.ffdnet import FFDNet


@dataclass
class Encoded(BaseOutput):
    """latent (B,C,H/f,W/f)"""

    latent: Tensor


@dataclass
class Sample(BaseOutput):
    """sample: a tensor of the shape of the model's output"""

    sample: Tensor


class ChannelNorm(nn.LayerNorm):
    """LayerNorm over the channels of every pixel of (B,C,H,W)."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class Residual(nn.Module):
    """x + conv(silu(conv(norm(x)) (1+scale) + shift)); the second convolution begins at zero, so the block
    begins as identity.
    """

    def __init__(self, channels: int, embedding: int = 0, norm: bool = False):
        super().__init__()
        self.norm = ChannelNorm(channels) if norm else nn.Identity()
        self.first = nn.Conv2d(channels, channels, 3, padding=1)
        self.second = nn.Conv2d(channels, channels, 3, padding=1)
        self.modulation = nn.Linear(embedding, 2 * channels) if embedding else None
        nn.init.zeros_(self.second.weight)
        nn.init.zeros_(self.second.bias)  # type: ignore[arg-type]  # it has a bias

    def forward(self, x: Tensor, embedding: Tensor | None = None) -> Tensor:
        h = self.first(self.norm(x))
        if self.modulation is not None:
            scale, shift = self.modulation(embedding)[:, :, None, None].chunk(2, 1)
            h = h * (1 + scale) + shift
        return x + self.second(F.silu(h))


class PatchAutoencoder(ModelMixin, ConfigMixin):
    """Isometric codec: E(x) = W (x - mean) on f×f patches, W orthonormal rows; D(z) = Wᵀz + Vᵀ detail(z) +
    mean.

    W holds the leading principal components of natural f×f RGB patches, V the remaining ones. `detail`, a
    small network at latent resolution, predicts from z what W drops. Since W Vᵀ = 0, E(D(z)) = z exactly,
    whatever `detail` says.

    encode: (B,3,H,W) in [-1,1], H and W multiples of f -> latent (B,C,H/f,W/f). decode: the reverse,
    unclamped.
    """

    @register_to_config
    def __init__(
        self,
        patch_size: int = 4,
        latent_channels: int = 16,
        width: int = 64,
        depth: int = 3,
        scaling_factor: float = 0.5,
    ):
        super().__init__()
        n = 3 * patch_size**2
        # buffers, not parameters: they come from a closed form and no gradient may bend the isometry
        self.register_buffer("mean", torch.zeros(n))
        self.register_buffer("basis", torch.eye(n))
        self.register_buffer("std", torch.ones(latent_channels))
        self.enter = nn.Conv2d(latent_channels, width, 3, padding=1)
        self.blocks = nn.ModuleList(Residual(width) for _ in range(depth))
        self.leave = nn.Conv2d(width, n - latent_channels, 3, padding=1)
        nn.init.zeros_(self.leave.weight)
        nn.init.zeros_(self.leave.bias)  # type: ignore[arg-type]  # it has a bias

    def _kernels(self) -> Tensor:
        f = self.config.patch_size
        return self.basis.reshape(-1, 3, f, f)

    def encode(self, x: Tensor) -> Encoded:
        """(B,3,H,W) in [-1,1] -> latent (B,C,H/f,W/f)."""
        kernels = self._kernels()[: self.config.latent_channels]
        offset = (kernels.flatten(1) * self.mean).sum(1)
        return Encoded(latent=F.conv2d(x, kernels, stride=self.config.patch_size) - offset[:, None, None])

    def coefficients(self, x: Tensor) -> Tensor:
        """All 3f² patch coefficients of x: what `encode` keeps, then what it drops."""
        return (
            F.conv2d(x, self._kernels(), stride=self.config.patch_size)
            - (self.basis @ self.mean)[:, None, None]
        )

    def detail(self, z: Tensor) -> Tensor:
        """The dropped coefficients (B,3f²-C,h,w), predicted from the latent."""
        h = self.enter(z / self.std[:, None, None])
        for block in self.blocks:
            h = block(h)
        return self.leave(h) * self.std[-1]

    def decode(self, z: Tensor, return_dict: bool = True) -> Sample:
        """latent (B,C,h,w) -> (B,3,fh,fw) around [-1,1], unclamped."""
        f = self.config.patch_size
        patches = torch.cat([z, self.detail(z)], 1)
        x = F.conv_transpose2d(patches, self._kernels(), stride=f)
        mean = self.mean.reshape(3, f, f).repeat(1, z.shape[2], z.shape[3])
        return Sample(sample=x + mean)


class LatentUNet(ModelMixin, ConfigMixin):
    """A noise-conditional latent denoiser with per-channel preconditioning: (z_t, t) -> clean estimate z0.

    With s = z_t/√ᾱ = z0 + σ n, S the latent's standard deviation per channel and F the network (EDM, arXiv
    2206.00364, Table 1, written per channel):  z0 = S²/(S²+σ²) s + Sσ/√(S²+σ²) F(s/√(S²+σ²), σ). F begins at
    zero, so the untrained model is the per-channel Wiener filter. Its blocks are not normalised: with a
    LayerNorm each it learned faster and denoised better, but made detail up wherever an input had less noise
    than t says, as RELD's have.

    With `fine_width` an FFDNet sees the picture that s stands for, and F its estimate beside s: F looks far
    at a quarter of the resolution, FFDNet near at half. Up to the level FINE[0] the answer is FFDNet's
    estimate plus Sσ/√(S²+σ²) F'(…), F' a second output of the same network; from FINE[1] on it is the U-Net's
    alone, and FFDNet is not called; between the two it goes over.

    FFDNet takes the level at its word; F, trained on a camera's noise too, judges by itself how much of what
    it sees is noise. With `trusting` the answer up to FINE[0] is FFDNet's alone.

    sample: (B,C,h,w), h and w any size (padded inside to a multiple of 4); timestep: a number or (B,). The
    noise levels are geometric from `sigma_min` (t=0) to `sigma_max` (t=T-1), the same that scheduler/ holds
    as betas.
    """

    FINE = (60 / 255, 110 / 255)  # FFDNet was trained up to 75/255

    @register_to_config
    def __init__(
        self,
        latent_std: tuple[float, ...] = (1.0,) * 16,
        widths: tuple[int, ...] = (96, 192, 256),
        blocks: int = 2,
        embedding: int = 256,
        sigma_min: float = 0.004,
        sigma_max: float = 40.0,
        num_train_timesteps: int = 1000,
        fine_width: int = 0,
        fine_depth: int = 12,
        patch_size: int = 4,
    ):
        """fine_width, fine_depth: channels and convolutions of the FFDNet, none at 0; patch_size: the
        codec's.
        """
        super().__init__()
        channels = len(latent_std)
        self.register_buffer("std", torch.tensor(latent_std)[:, None, None], persistent=False)
        self.register_buffer("frequencies", torch.linspace(0.3, 4.0, 16), persistent=False)
        self.embed = nn.Sequential(
            nn.Linear(32, embedding), nn.SiLU(), nn.Linear(embedding, embedding), nn.SiLU()
        )
        self.enter = nn.Conv2d(channels, widths[0], 3, padding=1)
        self.down = nn.ModuleList(
            nn.ModuleList(Residual(w, embedding) for _ in range(blocks)) for w in widths
        )
        self.up = nn.ModuleList(nn.ModuleList(Residual(w, embedding) for _ in range(blocks)) for w in widths)
        self.shrink = nn.ModuleList(nn.Conv2d(a, b, 2, stride=2) for a, b in itertools.pairwise(widths))
        self.grow = nn.ModuleList(
            nn.ConvTranspose2d(b, a, 2, stride=2) for a, b in itertools.pairwise(widths)
        )
        self.leave = _zero(nn.Conv2d(widths[0], channels, 3, padding=1))
        self.fine = FFDNet(fine_width, fine_depth) if fine_width else None
        if self.fine is not None:
            self.register_buffer("basis", torch.zeros(channels, 3, patch_size, patch_size))
            self.register_buffer("mean", torch.zeros(3, patch_size, patch_size))
            self.enter_fine = _zero(nn.Conv2d(channels, widths[0], 3, padding=1))
            self.leave_fine = _zero(nn.Conv2d(widths[0], channels, 3, padding=1))

    def set_codec(self, vae: PatchAutoencoder) -> None:
        """Take over the codec's transform, for FFDNet to see latents as pictures in [0,1]; they must be in
        the units of these.
        """
        if vae.config.scaling_factor != 0.5:
            raise ValueError(f"The codec's scaling factor is {vae.config.scaling_factor}; FFDNet needs 0.5.")
        size = (3, vae.config.patch_size, vae.config.patch_size)
        self.basis.copy_(vae.basis[: vae.config.latent_channels].reshape(-1, *size))
        self.mean.copy_((vae.mean.reshape(size) + 1) / 2)

    def sigma(self, timestep: Tensor) -> Tensor:
        """Noise level σ of each timestep, in latent units."""
        c = self.config
        position = timestep.float() / (c.num_train_timesteps - 1)
        return c.sigma_min * torch.exp(position * math.log(c.sigma_max / c.sigma_min))

    def forward(
        self,
        sample: Tensor,
        timestep: Tensor | float,
        return_dict: bool = True,
        trusting: bool = False,
    ) -> Sample:
        same = isinstance(timestep, int | float)  # for all rows, and known without asking the device
        # made there: a number of the host would be copied
        t = (
            torch.as_tensor(timestep, device=sample.device)
            if isinstance(timestep, Tensor)
            else torch.full((), timestep, device=sample.device)
        ).expand(sample.shape[0])
        sigma = self.sigma(t).to(sample.dtype)[:, None, None, None]
        s = sample * (1 + sigma**2).sqrt()
        total = self.std**2 + sigma**2
        wiener, gain = self.std**2 / total * s, self.std * sigma / total.sqrt()
        alone = self.fine is None or (same and self.sigma(torch.tensor(timestep)) >= self.FINE[1])
        share = ((math.log(self.FINE[1]) - sigma.log()) / math.log(self.FINE[1] / self.FINE[0])).clamp(0, 1)
        near = wiener
        if not alone:
            rows = slice(None) if same else share.flatten().nonzero().flatten()
            if isinstance(rows, slice) or len(rows):
                near = wiener.clone()
                near[rows] = self._fine(s[rows], sigma[rows].flatten())
            if trusting and same and self.sigma(torch.tensor(timestep)) <= self.FINE[0]:
                return Sample(sample=near)
        h = self._network(s / total.sqrt(), sigma.flatten(), None if alone else (near - wiener) / gain)
        height, width = s.shape[-2:]
        far = wiener + gain * self.leave(h)[..., :height, :width]
        if alone:
            return Sample(sample=far)
        return Sample(sample=far.lerp(near + gain * self.leave_fine(h)[..., :height, :width], share))

    def _fine(self, s: Tensor, sigma: Tensor) -> Tensor:
        """FFDNet's estimate of the latent s."""
        assert self.fine is not None
        f = self.config.patch_size
        # it has the picture in its features: bfloat16 is noise of 0.3/255
        with torch.autocast(s.device.type, enabled=False):
            x = F.conv_transpose2d(s, self.basis, stride=f) + self.mean.repeat(1, *s.shape[-2:])
            # the change of the picture, not the picture, is transformed: what FFDNet leaves alone stays to
            # the last bit
            return s + F.conv2d(self.fine(x, sigma) - x, self.basis, stride=f)

    def _network(self, x: Tensor, sigma: Tensor, fine: Tensor | None = None) -> Tensor:
        """The last features (B,widths[0],·,·), sides still padded, for x and FFDNet's estimate, both
        preconditioned.
        """
        height, width = x.shape[-2:]
        multiple = 2 ** len(self.shrink)
        padding = (0, -width % multiple, 0, -height % multiple)
        phase = sigma.log()[:, None] * self.frequencies
        embedding = self.embed(torch.cat([phase.sin(), phase.cos()], 1))
        h = self.enter(F.pad(x, padding, mode="replicate"))
        if fine is not None:
            h = h + self.enter_fine(F.pad(fine, padding, mode="replicate"))
        skips: list[Tensor] = []
        for level, blocks in enumerate(self.down):
            for block in blocks:  # type: ignore[attr-defined]  # a ModuleList
                h = block(h, embedding)
            if level < len(self.shrink):
                skips.append(h)
                h = self.shrink[level](h)
        for level in reversed(range(len(self.up))):
            if level < len(self.grow):
                h = self.grow[level](h) + skips.pop()
            for block in self.up[level]:  # type: ignore[attr-defined]  # a ModuleList
                h = block(h, embedding)
        return h


def _zero(layer: nn.Conv2d) -> nn.Conv2d:
    """The layer with weights and bias zero, so that what it adds begins as nothing."""
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)  # type: ignore[arg-type]  # it has a bias
    return layer
