"""F-PAM of LD-RPS (arXiv 2507.00790): ψ, a tiny network per picture that learns what the damage does, its
discriminators and losses.

ψ(x) = h2(h1(x)) + p ⊙ h1(x) turns a clean picture into one that looks damaged. Sizes, losses and optimisers
are the paper's and the release's (docs/methods/ld-rps.md); the seeded initialisation and the stand-in for VGG
are ours.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from restoration.priors.hub import reachable
from restoration.priors.tiling import local

# torchvision's IMAGENET1K_V1 weights as safetensors
VGG_REPOSITORY, VGG_FILE = "timm/vgg16.tv_in1k", "model.safetensors"
# official code: a training term above 10 counts a fifth while guidance runs
PERCEPTUAL_LIMIT, PERCEPTUAL_EXCESS = 10.0, 0.2
HALO = 16  # pixels beyond which no output of ψ, a critic or VGG's first layers looks; 4, 7 and 8 are enough


def _convolutions(widths: list[int], *, strided: bool = False) -> nn.Sequential:
    """3×3 convolutions with leaky ReLU through `widths`, the last one 1×1."""
    layers: list[nn.Module] = []
    for inside, outside in itertools.pairwise(widths[:-1]):
        layers += [nn.Conv2d(inside, outside, 3, stride=2 if strided else 1, padding=1), nn.LeakyReLU(0.01)]
    return nn.Sequential(*layers, nn.Conv2d(widths[-2], widths[-1], 1))


class FPAM(nn.Module):
    """ψ: (B,3,H,W) -> the same, unbounded. 373,577 parameters at width 64, the paper's."""

    def __init__(self, width: int = 64):
        super().__init__()
        self.h1 = _convolutions([3, width, 3])
        self.h2 = _convolutions([3, width, 2 * width, 4 * width, 3])
        self.p = nn.Parameter(torch.ones(1, 3, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        h = self.h1(x)
        return self.h2(h) + self.p * h


class Discriminator(nn.Module):
    """Real or not, (B,3,H,W) -> logits (B,1,⌈H/8⌉,⌈W/8⌉). 371,073 parameters at width 64.

    The official sigmoid is inside the loss.
    """

    def __init__(self, width: int = 64):
        super().__init__()
        self.layers = _convolutions([3, width, 2 * width, 4 * width, 1], strided=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)


def fresh(
    network: Callable[[int], nn.Module], width: int, generator: torch.Generator, device: torch.device
) -> nn.Module:
    """A new network whose convolutions are Kaiming-normal (fan-in, gain √2) with zero biases, drawn from the
    (CPU) generator alone.
    """
    with torch.device("meta"):  # the constructors' own initialisation would draw from the global generator
        module = network(width)
    module.to_empty(device="cpu")
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            if parameter.ndim == 4 and name.endswith("weight"):
                nn.init.kaiming_normal_(parameter, generator=generator)
            else:
                parameter.fill_(1.0 if name == "p" else 0.0)
    return module.to(device)


def brightness(x: Tensor, patches: int) -> Tensor:
    """Mean squared distance of the mean brightness of patches×patches areas from 0.5."""
    return (F.adaptive_avg_pool2d(x.mean(1, keepdim=True), patches) - 0.5).square().mean()


def grey_world(x: Tensor) -> Tensor:
    """√((R-G)⁴ + (R-B)⁴ + (B-G)⁴) of the channel means (Zero-DCE's colour loss); 1e-12 inside keeps the
    gradient finite at grey.
    """
    r, g, b = x.mean((0, 2, 3))
    return ((r - g) ** 4 + (r - b) ** 4 + (b - g) ** 4 + 1e-12).sqrt()


def edges(x: Tensor) -> Tensor:
    """The stand-in for VGG features, which needs no weights: horizontal and vertical differences at three
    sizes, (B,n) scaled to mean squares.

    Like VGG's early layers it sees edges and not levels; unlike them it knows no texture. Scores against it
    are not the paper's.
    """
    parts = []
    for _ in range(3):
        parts += [(x[..., 1:] - x[..., :-1]).flatten(1), (x[..., 1:, :] - x[..., :-1, :]).flatten(1)]
        x = F.avg_pool2d(x, 2, ceil_mode=True)
    return torch.cat([p * p.shape[1] ** -0.5 for p in parts], 1) * sum(p.shape[1] for p in parts) ** 0.5


@functools.cache
def vgg_features(file: str | None = None) -> Callable[[Tensor], Tensor]:
    """VGG-16 up to the ReLU of conv2_2 on ImageNet-normalised [0,1] pictures, loaded once. OSError where the
    weights cannot be had.

    file: safetensors with torchvision's names; without it the Hub's VGG_REPOSITORY is asked, whose file of
    550 MB is downloaded whole, once.
    """
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import LocalEntryNotFoundError
    from safetensors import safe_open
    from torchvision.models import vgg16

    try:
        path = file or hf_hub_download(VGG_REPOSITORY, VGG_FILE, local_files_only=not reachable())
    except LocalEntryNotFoundError:
        raise OSError(
            f"{VGG_REPOSITORY} is not on this machine and the Hub cannot be reached; features=edges needs no "
            "weights."
        ) from None
    with torch.device("meta"):
        layers = vgg16(weights=None).features[:9]
    with safe_open(path, "pt") as opened:  # which reads 1 MB of the file's 550, what these layers take
        layers.load_state_dict(
            {name: opened.get_tensor(f"features.{name}") for name in layers.state_dict()}, assign=True
        )
    layers.requires_grad_(False).eval()
    mean, std = (
        torch.tensor([0.485, 0.456, 0.406])[:, None, None],
        torch.tensor([0.229, 0.224, 0.225])[:, None, None],
    )

    def features(x: Tensor) -> Tensor:
        return layers.to(x.device)((x - mean.to(x)) / std.to(x))

    return features


@dataclass(frozen=True)
class Weights:
    """The loss weights of one task (docs/methods/ld-rps.md (8), (9)).

    fit_*: training of ψ; the others: guidance.
    """

    fit_pixel: float
    fit_perceptual: float
    fit_adversarial: float
    perceptual: float
    adversarial: float
    brightness: float
    colour: float
    patches: int
    fit_rate: float  # Adam's, of ψ
    critic_rate: float  # Adam's, of both discriminators


class Alignment:
    """ψ and its discriminators for one picture y (1,3,H,W) in [0,1]: fresh networks, fresh optimisers,
    nothing outlives the picture.
    """

    def __init__(
        self,
        y: Tensor,
        weights: Weights,
        width: int,
        generator: torch.Generator,
        features: Callable[[Tensor], Tensor] = edges,
        tile: int = 0,
    ):
        """tile: pixels a side that the networks see at a time, 0 the whole picture; all losses are of it."""
        self.y, self.weights, self.features, self.tile = y, weights, features, tile
        self.psi = fresh(FPAM, width, generator, y.device)
        # D1, D2
        self.look, self.residual = (fresh(Discriminator, width, generator, y.device) for _ in range(2))
        self._psi_adam = torch.optim.Adam(self.psi.parameters(), weights.fit_rate, weight_decay=1e-5)
        self._look_adam, self._residual_adam = (
            torch.optim.Adam(d.parameters(), weights.critic_rate) for d in (self.look, self.residual)
        )
        with torch.no_grad():
            self._features_of_y = features(y)

    def damage(self, x: Tensor) -> Tensor:
        """ψ(x) of x (B,3,H,W)."""
        return local(self.psi, x, self.tile, HALO)

    def _judge(self, critic: nn.Module) -> Callable[[Tensor], Tensor]:
        return lambda x: local(critic, x, self.tile, HALO, 8)

    def fit(self, pictures: Tensor, guided: bool) -> Mapping[str, Tensor]:
        """One step of D1, then one of ψ, on clean pictures (B,3,H,W): ψ(x) keeps the content of x and takes
        the look of y (8).

        guided: whether the times of guidance have begun.
        """
        w = self.weights
        if not (w.fit_pixel or w.fit_perceptual or w.fit_adversarial):
            return {}  # nothing to learn; Adam would turn the weight decay alone into full steps
        with torch.enable_grad():
            damaged = self.damage(pictures)
            loss = w.fit_pixel * F.mse_loss(damaged, pictures)
            if w.fit_perceptual:
                with torch.no_grad():
                    features = self.features(pictures)
                term = w.fit_perceptual * F.mse_loss(self.features(damaged), features)
                loss = loss + (
                    torch.where(term > PERCEPTUAL_LIMIT, PERCEPTUAL_EXCESS * term, term) if guided else term
                )
            if w.fit_adversarial:
                look = self._judge(self.look)
                _critic_step(look, self._look_adam, real=self.y.expand_as(pictures), fake=damaged.detach())
                loss = loss + w.fit_adversarial * _looks_real(look, damaged)
            self._psi_adam.zero_grad()
            loss.backward()
            self._psi_adam.step()
        return {"ψ loss": loss.detach()}

    def slope(self, x: Tensor, pictures: Tensor, quality: bool) -> Tensor:
        """The gradient of `loss` by x."""
        with torch.enable_grad():
            leaf = x.detach().requires_grad_()
            return torch.autograd.grad(self.loss(leaf, pictures, quality), leaf)[0]

    def loss(self, x: Tensor, pictures: Tensor, quality: bool) -> Tensor:
        """The guidance loss of the estimate x (1,3,H,W), differentiable; `pictures` (B,3,H,W) are D2's real
        examples (9).
        """
        w = self.weights
        damaged = self.damage(x)
        loss = F.mse_loss(damaged, self.y)
        if w.perceptual:
            loss = loss + w.perceptual * F.mse_loss(self.features(damaged), self._features_of_y)
        if w.adversarial:
            with torch.no_grad():
                residuals = pictures - self.damage(pictures)
            fake, judge = x - self.y, self._judge(self.residual)
            _critic_step(judge, self._residual_adam, real=residuals, fake=fake.detach())
            loss = loss + w.adversarial * _looks_real(judge, fake)
        if quality:
            loss = loss + w.brightness * brightness(x, w.patches) + w.colour * grey_world(x)
        return loss


def _looks_real(critic: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    logits = critic(x)
    return F.binary_cross_entropy_with_logits(logits, torch.ones_like(logits))


def _critic_step(
    critic: Callable[[Tensor], Tensor], adam: torch.optim.Optimizer, *, real: Tensor, fake: Tensor
) -> None:
    false = critic(fake)
    loss = F.binary_cross_entropy_with_logits(false, torch.zeros_like(false)) + _looks_real(critic, real)
    adam.zero_grad()
    loss.backward()
    adam.step()
