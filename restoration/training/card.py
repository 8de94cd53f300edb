"""The figures of a prior's model card: `python -m restoration.training.card FOLDER SHARD… [--samples
samples.png]`.

Prints a Markdown table of the clean estimate's error against the noise level, on the photographs that
training held out, and draws a grid of unconditional samples.
"""

from __future__ import annotations

import torch
from torch import Tensor

from restoration.diffusion import ddim_step, randn
from restoration.files import images
from restoration.parser import parser as command_parser
from restoration.priors.latent import LatentPrior, load_prior
from restoration.training import data

LEVELS = (1, 2, 5, 10, 15, 25, 50, 100, 255, 765, 2550)  # in 1/255
SIDE = 192


def psnr(error: Tensor) -> float:
    """Mean PSNR in dB over pictures of errors (N,·,·,·) in [0,1] pixel units."""
    return (-10 * torch.log10(error.square().mean((1, 2, 3)))).mean().item()


@torch.no_grad()
def levels(prior: LatentPrior, x: Tensor) -> list[tuple[int, float, float, float]]:
    """(level, latent PSNR of the Wiener filter per channel, of the prior, pixel PSNR 1/e(s)² of the decoded
    estimate) on x (N,3,H,W) in [0,1].

    Latent errors are scaled to pixels as an isometric codec would; e(s) is that of docs/methods/reld.md (15)
    and holds the codec's own loss.
    """
    z = torch.cat([prior.encode(part) for part in x.split(8)])
    power = z.square().mean((0, 2, 3), keepdim=True)
    per_pixel = (prior.channels / (3 * prior.factor**2)) ** 0.5
    rows = []
    for level in LEVELS:
        sigma = level / 255
        s = z + sigma * randn(z.shape, torch.Generator().manual_seed(0), z.device)
        z0 = torch.cat([prior.denoise_at(part, sigma) for part in s.split(8)])
        decoded = torch.cat([prior.picture(part, (x.shape[-2], x.shape[-1])) for part in z0.split(8)])
        wiener = power / (power + sigma**2) * s
        rows.append((level, psnr((wiener - z) * per_pixel), psnr((z0 - z) * per_pixel), psnr(decoded - x)))
    return rows


@torch.no_grad()
def samples(prior: LatentPrior, count: int, size: int, steps: int, seed: int) -> Tensor:
    """(count,3,size,size) unconditional samples: DDIM from pure noise over `steps` levels, evenly spaced in
    timesteps.
    """
    side = size // prior.factor
    z_t = randn((count, prior.channels, side, side), torch.Generator().manual_seed(seed), prior.device)
    times = torch.linspace(len(prior.alpha_bar) - 1, 0, steps).round().long().tolist()
    for t, following in zip(times, [*times[1:], None], strict=True):
        estimate = prior.denoise(z_t, t)
        z_t = (
            estimate.z0
            if following is None
            else ddim_step(estimate.z0, estimate.eps, prior.alpha_bar[following])
        )
    return prior.picture(z_t, (size, size))


def main(argv: list[str] | None = None, prog: str = "python -m restoration.training.card") -> None:
    parser = command_parser(prog, __doc__, "prior photographs-*.tar --samples samples.png")
    parser.add_argument("folder", help="the prior: a diffusers folder")
    parser.add_argument(
        "shards",
        nargs="+",
        help="tar archives that training used; the last --holdout photographs are measured",
    )
    parser.add_argument(
        "--holdout", type=int, default=64, help="photographs that training kept for evaluation"
    )
    parser.add_argument("--samples", help="PNG to write: 4×4 unconditional samples of 128×128")
    args = parser.parse_args(argv)
    prior = load_prior(args.folder)
    _, held_out = data.split(data.load_photographs(args.shards), args.holdout)
    x = (data.centre_crops(held_out, SIDE) + 1) / 2
    print("| noise level, 1/255 | Wiener filter, dB | this prior, dB | decoded, dB |\n|---|---|---|---|")
    for level, wiener, ours, decoded in levels(prior, x):
        print(f"| {level} | {wiener:.2f} | {ours:.2f} | {decoded:.2f} |")
    if args.samples:
        grid = (
            samples(prior, 16, 128, 100, 0)
            .unflatten(0, (4, 4))
            .permute(2, 0, 3, 1, 4)
            .reshape(1, 3, 512, 512)
        )
        images.to_pil(grid).save(args.samples)


if __name__ == "__main__":
    main()
