"""Train the latent denoiser: `python -m restoration.training.denoiser SHARD… --out FOLDER --checkpoint FILE`.

FOLDER must hold the codec (`vae/`, from restoration.training.autoencoder); `unet/`, `scheduler/` and `model_index.json`
are written beside it, after which `load_prior(FOLDER)` opens it.
"""

from __future__ import annotations

import argparse
import copy
import json
import math
from pathlib import Path

import torch
from diffusers import DDIMScheduler
from torch import Tensor, nn

from restoration.priors.networks import LatentUNet, PatchAutoencoder
from restoration.training import data, loop

LEVELS = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0)  # noise levels of the evaluation, in latent units (= [0,1] pixel units)
LOW = (2 / 255, 120 / 255)  # the range that the solvers visit most
FAR = 4.0  # times the Wiener filter's error: from here on a crop's error counts by its logarithm; the loss that training prints is 0.3 to 0.7


def geometric_betas(sigma_min: float, sigma_max: float, steps: int) -> list[float]:
    """betas whose levels sqrt((1-ᾱ)/ᾱ) are geometric from sigma_min to sigma_max."""
    sigma = torch.exp(torch.linspace(math.log(sigma_min), math.log(sigma_max), steps, dtype=torch.float64))
    alpha_bar = torch.cat([torch.ones(1, dtype=torch.float64), 1 / (1 + sigma**2)])
    return (1 - alpha_bar[1:] / alpha_bar[:-1]).tolist()


def draw_timesteps(model: LatentUNet, count: int, generator: torch.Generator) -> Tensor:
    """(count,) timesteps: three quarters log-uniform in LOW, the rest over the whole schedule."""
    c = model.config
    span = math.log(c.sigma_max / c.sigma_min)
    low, high = (math.log(level / c.sigma_min) / span for level in LOW)
    u, whole = torch.rand(count, generator=generator), torch.rand(count, generator=generator) < 0.25
    position = torch.where(whole, u, low + (high - low) * u)
    return (position * (c.num_train_timesteps - 1)).round().long()


def bounded(error: Tensor) -> Tensor:
    """The error itself up to FAR, beyond it FAR (1 + log(error / FAR)), elementwise.

    A network without normalisation comes to explode on single crops: the gradient of their squares ruins it, and left out of training
    they become more, unseen by the others' loss. By its logarithm an explosion pulls about as much as a usual crop, and is unlearned.
    """
    return torch.where(error < FAR, error, FAR * (1 + (error.clamp_min(FAR) / FAR).log()))


def main(argv: list[str] | None = None) -> None:
    parser = loop.arguments(__doc__.splitlines()[0], steps=100_000)
    parser.add_argument("--widths", type=int, nargs="+", default=(96, 192, 256), help="channels per resolution")
    parser.add_argument("--blocks", type=int, default=2, help="residual blocks per resolution and direction")
    args = parser.parse_args(argv)
    torch.manual_seed(args.seed)
    vae = PatchAutoencoder.from_pretrained(args.out, subfolder="vae").to(args.device)
    scale = vae.config.scaling_factor
    training, held_out = data.split(data.load_photographs(args.shards, args.limit), args.holdout)
    std = tuple((vae.std * scale).tolist())
    model = LatentUNet(latent_std=std, widths=tuple(args.widths), blocks=args.blocks)

    @torch.no_grad()
    def latents(x: Tensor) -> Tensor:
        with torch.autocast(x.device.type, enabled=False):
            return vae.encode(x.to(args.device)).latent * scale

    test = latents(data.centre_crops(held_out, 192))
    power = (model.std**2).to(args.device)

    def noisy(z: Tensor, t: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """(z_t, σ) at timesteps t."""
        sigma = model.sigma(t)[:, None, None, None].to(z.device)
        noise = torch.randn(z.shape, generator=generator).to(z.device)
        return (z + sigma * noise) / (1 + sigma**2).sqrt(), sigma

    def loss(model: nn.Module, step: int) -> Tensor:
        assert isinstance(model, LatentUNet)
        generator = torch.Generator().manual_seed(args.seed * 7_000_003 + step)
        z = latents(data.random_crops(training, args.batch, args.crop, args.seed, step))
        t = draw_timesteps(model, len(z), generator).to(z.device)
        z_t, sigma = noisy(z, t, generator)
        # mean squared error over that of the per-channel Wiener filter: 1 at every level for the untrained network,
        # and equal weight for every channel of one level, that is, for pixels
        wiener = (power * sigma**2 / (power + sigma**2)).mean(1, keepdim=True)
        return bounded(((model(z_t, t).sample - z).square() / wiener).mean((1, 2, 3))).mean()

    @torch.no_grad()
    def evaluate(model: nn.Module) -> dict[str, float]:
        """PSNR (of latents, which are isometric to pixels but for what the codec drops) of the clean estimate per level."""
        assert isinstance(model, LatentUNet)
        result = {}
        for level in LEVELS:
            c = model.config
            t = round(math.log(level / c.sigma_min) / math.log(c.sigma_max / c.sigma_min) * (c.num_train_timesteps - 1))
            errors = []
            for i, z in enumerate(test.split(16)):
                times = torch.full((len(z),), t, device=z.device)
                z_t, _ = noisy(z, times, torch.Generator().manual_seed(i))
                per_pixel = vae.config.latent_channels / (3 * vae.config.patch_size**2)
                errors.append((model(z_t, times).sample - z).square().mean((1, 2, 3)) * per_pixel)
            result[f"psnr@{level}"] = round((-10 * torch.log10(torch.cat(errors))).mean().item(), 3)
        return result

    print(json.dumps({"parameters": sum(p.numel() for p in model.parameters()), "wiener": evaluate(model.to(args.device))}))
    loop.train(model, loss, evaluate, lambda m: save(m, args), args)


def save(model: nn.Module, args: argparse.Namespace) -> None:
    """Write unet/ (half precision, shards below 15 MB), scheduler/ and model_index.json."""
    assert isinstance(model, LatentUNet)
    c = model.config
    copy.deepcopy(model).half().save_pretrained(f"{args.out}/unet", max_shard_size="14MB")
    betas = geometric_betas(c.sigma_min, c.sigma_max, c.num_train_timesteps)
    DDIMScheduler(
        num_train_timesteps=c.num_train_timesteps, trained_betas=betas, prediction_type="sample", clip_sample=False, set_alpha_to_one=True
    ).save_pretrained(f"{args.out}/scheduler")
    index = {
        "_class_name": "DiffusionPipeline",
        "vae": ["restoration.priors.networks", "PatchAutoencoder"],
        "unet": ["restoration.priors.networks", "LatentUNet"],
        "scheduler": ["diffusers", "DDIMScheduler"],
    }
    Path(args.out, "model_index.json").write_text(json.dumps(index, indent=2) + "\n")


if __name__ == "__main__":
    main()
