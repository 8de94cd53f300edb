"""Train the latent denoiser: `python -m restoration.training.denoiser SHARD… --out FOLDER --checkpoint FILE`.

FOLDER must hold the codec (`vae/`, from restoration.training.autoencoder); `unet/`, `scheduler/` and
`model_index.json` are written beside it, after which `load_prior(FOLDER)` opens it.
"""

from __future__ import annotations

import argparse
import copy
import functools
import json
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn

from restoration.degradations.base import LinearDegradation
from restoration.degradations.blur import GaussianBlur
from restoration.degradations.resampling import SuperResolution
from restoration.priors.latent import LatentPrior
from restoration.priors.networks import LatentUNet, PatchAutoencoder
from restoration.priors.parts import Parts
from restoration.priors.placement import Placement
from restoration.solvers.reld_fast import RELDFast
from restoration.training import data, loop, states
from restoration.training.schedule import draw_timesteps, scheduler, timestep

# noise levels of the evaluation, in latent units (= [0,1] pixel units)
LEVELS = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0)
CAMERAS = (2 / 255, 60 / 255)  # what a camera's noise is told as
# times the Wiener filter's error: from here on a crop's error counts by its logarithm; the loss that training
# prints is 0.3 to 0.7
FAR = 4.0
FLAT = 1 / 8  # share of pictures that are one colour: photographs seldom show the most saturated ones


RESTORED: dict[str, LinearDegradation] = {
    "deblur": GaussianBlur(),
    "x2": SuperResolution(scale=2),
    "x4": SuperResolution(scale=4),
}  # what the evaluation has RELD restore
VISITS = 3  # most calls of RELD before the one that is learned from


def bounded(error: Tensor) -> Tensor:
    """The error itself up to FAR, beyond it FAR (1 + log(error / FAR)), elementwise.

    A network without normalisation comes to explode on single crops: the gradient of their squares ruins it,
    and left out of training they become more, unseen by the others' loss. By its logarithm an explosion pulls
    about as much as a usual crop, and is unlearned.
    """
    return torch.where(error < FAR, error, FAR * (1 + (error.clamp_min(FAR) / FAR).log()))


class Batch(NamedTuple):
    """Pictures x (B,3,H,W) in [-1,1] and noise of unit variance or less for them."""

    x: Tensor
    noise: Tensor


@dataclass(frozen=True)
class Objective:
    """What the denoiser learns, and how it is judged.

    training: photographs, as data.split gives them; test: unseen ones, (B,3,H,W) in [-1,1].
    """

    vae: PatchAutoencoder
    training: list[Tensor]
    test: Tensor
    args: argparse.Namespace

    @torch.no_grad()
    def latents(self, x: Tensor) -> Tensor:
        """Of x (B,3,H,W) in [-1,1]."""
        with torch.autocast(x.device.type, enabled=False):
            return self.vae.encode(x.to(self.args.device)).latent * self.vae.config.scaling_factor

    @property
    def cameras(self) -> slice:
        """The rows of a batch with a camera's noise: those after the uneven ones."""
        first = round(self.args.uneven * self.args.batch)
        return slice(first, first + round(self.args.camera * self.args.batch))

    def prepare(self, step: int) -> Batch:
        """A step's random crops and their noise, on the host."""
        args = self.args
        generator = torch.Generator().manual_seed(args.seed * 7_000_003 + step)
        x = data.random_crops(self.training, args.batch, args.crop, args.seed, step)
        for picture, chance in zip(x, torch.rand(len(x), generator=generator), strict=True):
            if chance < FLAT:
                picture.copy_(2 * states.colour(generator) - 1)
        noise = torch.randn(x.shape, generator=generator)
        for row in noise[: round(args.uneven * len(x))]:
            row.copy_(states.uneven_noise(row, generator))
        for row, picture in zip(noise[self.cameras], x[self.cameras], strict=True):
            row.copy_(states.camera_noise((picture + 1) / 2, generator))
        return Batch(x, noise)

    @functools.cached_property
    def ahead(self) -> loop.Ahead[Batch]:
        """`prepare`, by processes of its own."""
        return loop.Ahead(self.prepare, self.args.workers)

    def loss(self, model: nn.Module, step: int) -> Tensor:
        """Mean squared error over that of the per-channel Wiener filter: 1 at every level for the untrained
        network, and equal weight for every channel of one level, that is, for pixels.
        """
        assert isinstance(model, LatentUNet)
        args = self.args
        generator = torch.Generator().manual_seed(args.seed * 7_000_009 + step)
        x, noise = (part.to(args.device) for part in self.ahead(step))
        t = draw_timesteps(model, len(x), generator).to(args.device)
        t[self.cameras] = draw_timesteps(model, len(t[self.cameras]), generator, CAMERAS, 0).to(t)
        sigma = model.sigma(t)[:, None, None, None]
        z = self.latents(x)
        z_t = self.latents(x + 2 * sigma * noise) / (1 + sigma**2).sqrt()
        if args.states:
            z_t[-args.states :], t[-args.states :] = self.restoring(model, x[-args.states :], generator)
        sigma, power = model.sigma(t)[:, None, None, None], (model.std**2).to(z.device)
        # RELD's images are often further off than the level says, and would drown all others if that counted
        off = (z_t * (1 + sigma**2).sqrt() - z).square().mean((1, 2, 3), keepdim=True).maximum(sigma**2)
        wiener = (power * off / (power + off)).mean(1, keepdim=True)
        return bounded(((model(z_t, t).sample - z).square() / wiener).mean((1, 2, 3))).mean()

    def restoring(self, model: LatentUNet, x: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """(z_t, t) of RELD's images on the way to x (B,3,H,W) in [-1,1]."""

        def encode(x: Tensor) -> Tensor:
            return self.latents(2 * x - 1)

        def decode(z: Tensor) -> Tensor:
            return (self.vae.decode(z / self.vae.config.scaling_factor).sample.float() + 1) / 2

        def denoise(z: Tensor, level: float) -> Tensor:
            with torch.autocast(z.device.type, torch.bfloat16):
                return model(z / (1 + level**2) ** 0.5, timestep(model, level)).sample.float()

        visits = int(torch.randint(VISITS + 1, (), generator=generator))
        with torch.autocast(x.device.type, enabled=False):  # degradations are not for half precision
            z, level = states.reld_input(encode, decode, denoise, (x + 1) / 2, visits, generator)
        return z / (1 + level**2) ** 0.5, torch.full((len(z),), timestep(model, level), device=z.device)

    @torch.no_grad()
    def evaluate(self, model: nn.Module) -> dict[str, float]:
        """Of unseen photographs: the PSNR in latents of the clean estimate by level, and that of pictures as
        RELD restores them.
        """
        assert isinstance(model, LatentUNet)
        parts = Parts(self.vae, copy.deepcopy(model), scheduler(model))
        prior = LatentPrior("training", parts, Placement(self.args.device))
        x = (self.test.to(self.args.device) + 1) / 2
        weak = x + 5 / 255 * torch.randn(x.shape, generator=torch.Generator().manual_seed(0)).to(x)
        estimate = prior.picture(prior.denoise_at(prior.encode(weak), 25 / 255), (x.shape[-2], x.shape[-1]))
        figures = by_level(prior, x)
        for name, degradation in RESTORED.items():
            figures |= mean_and_least(name, reld(prior, x[::3], degradation), x[::3])
        return figures | mean_and_least("5_told_25", estimate, x)


def by_level(prior: LatentPrior, x: Tensor) -> dict[str, float]:
    """The PSNR of the clean estimate of x (B,3,H,W) in [0,1] at each of LEVELS, per pixel value."""
    z = prior.encode(x)
    per_pixel = prior.channels / (3 * prior.factor**2)
    figures = {}
    for level in LEVELS:
        noisy = z + level * torch.randn(z.shape, generator=torch.Generator().manual_seed(0)).to(z)
        error = (prior.denoise_at(noisy, level) - z).square().mean((1, 2, 3)) * per_pixel
        figures[f"psnr@{level}"] = round((-10 * torch.log10(error)).mean().item(), 3)
    return figures


def reld(prior: LatentPrior, x: Tensor, degradation: LinearDegradation) -> Tensor:
    """x (B,3,H,W) in [0,1], degraded and restored."""
    generator = torch.Generator().manual_seed(0)
    y = degradation.degrade(x, generator)
    *_, last = RELDFast().restore(prior, y, degradation, generator=generator)
    assert last.image is not None
    return last.image.clamp(0, 1)


def mean_and_least(name: str, estimate: Tensor, x: Tensor) -> dict[str, float]:
    """The PSNR of estimates of x: its mean, and the worst picture's."""
    psnr = -10 * torch.log10((estimate - x).square().mean((1, 2, 3)))
    return {name: round(psnr.mean().item(), 3), f"{name}_least": round(psnr.min().item(), 3)}


def new_model(vae: PatchAutoencoder, args: argparse.Namespace) -> LatentUNet:
    """The network to be trained: new, or with the weights of args.start, and beside it the FFDNet of
    args.fine.
    """
    fine = torch.load(args.fine, weights_only=True) if args.fine else {}
    sizes = {"widths": tuple(args.widths), "blocks": args.blocks, "patch_size": vae.config.patch_size}
    if fine:
        sizes |= {"fine_width": fine["model.0.weight"].shape[0], "fine_depth": len(fine) // 2}
    model = LatentUNet(latent_std=tuple((vae.std * vae.config.scaling_factor).tolist()), **sizes)
    if args.start:
        loop.start_from(model, f"{args.start}/unet")
    if model.fine is not None:
        model.set_codec(vae)
        model.fine.load_state_dict(fine)
        # it was trained long enough: left alone it takes a third of the time, and the U-Net learns what it
        # gets wrong
        model.fine.requires_grad_(False)
    return model


def parser(prog: str) -> argparse.ArgumentParser:
    """The command's arguments."""
    parser = loop.arguments(prog, __doc__, steps=100_000)
    loop.add_workers(parser)
    parser.add_argument(
        "--widths", type=int, nargs="+", default=(96, 192, 256), help="channels per resolution"
    )
    parser.add_argument("--blocks", type=int, default=2, help="residual blocks per resolution and direction")
    parser.add_argument(
        "--start", metavar="FOLDER", help="the prior whose U-Net to begin with; it may have fewer channels"
    )
    parser.add_argument(
        "--fine",
        metavar="FILE",
        help="the FFDNet to use beside the U-Net, as it is: its authors' ffdnet_color.pth (MIT)",
    )
    parser.add_argument(
        "--uneven",
        type=float,
        default=0.0,
        help="share of inputs whose noise is not white or weaker than told",
    )
    parser.add_argument("--camera", type=float, default=0.0, help="share of inputs with a camera's noise")
    parser.add_argument(
        "--states",
        type=int,
        default=0,
        help="pictures of every batch that are RELD's images instead of noisy",
    )
    return parser


def main(argv: list[str] | None = None, prog: str = "python -m restoration.training.denoiser") -> None:
    args = parser(prog).parse_args(argv)
    torch.manual_seed(args.seed)
    vae = PatchAutoencoder.from_pretrained(args.out, subfolder="vae").to(args.device)
    training, held_out = data.split(data.load_photographs(args.shards, args.limit), args.holdout)
    model = new_model(vae, args)
    # as many as tell, not more: a full set takes minutes of a slow machine
    objective = Objective(vae, training, data.centre_crops(held_out[::3], 128), args)
    size = sum(p.numel() for p in model.parameters())
    start = objective.evaluate(model.to(args.device))
    print(json.dumps({"parameters": size, "start": start}), flush=True)
    loop.train(model, objective.loss, objective.evaluate, lambda m: save(m, args), args)


def save(model: nn.Module, args: argparse.Namespace) -> None:
    """Write unet/ (half precision, shards below 15 MB), scheduler/ and model_index.json."""
    assert isinstance(model, LatentUNet)
    copy.deepcopy(model).half().save_pretrained(f"{args.out}/unet", max_shard_size="14MB")
    scheduler(model).save_pretrained(f"{args.out}/scheduler")
    index = {
        "_class_name": "DiffusionPipeline",
        "vae": ["restoration.priors.networks", "PatchAutoencoder"],
        "unet": ["restoration.priors.networks", "LatentUNet"],
        "scheduler": ["diffusers", "DDIMScheduler"],
    }
    Path(args.out, "model_index.json").write_text(json.dumps(index, indent=2) + "\n")


if __name__ == "__main__":
    main()
