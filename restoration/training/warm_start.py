"""Train RELD's first image: `python -m restoration.training.warm_start SHARD… --out FOLDER --checkpoint PT`.

The damages are those that a solver is told, with random settings, and half of the pictures are rounded to 8
bits. Noise is often told stronger than it is, and a part of the blurred pictures shows only the interior of
their scene, as photographs do. The loss of a picture is its error in units of that of the better proximal
step. FOLDER is `restoration/weights/warm-start` for a network that RELD finds.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
from pathlib import Path
from typing import NamedTuple

import torch
import torch.nn.functional as F
from diffusers import ModelMixin
from torch import Tensor, nn

from restoration.degradations.base import LinearDegradation
from restoration.degradations.blur import GaussianBlur
from restoration.degradations.partial import MaskedBlur
from restoration.degradations.resampling import SuperResolution
from restoration.priors import eight_bits
from restoration.solvers.restorer import WarmStart
from restoration.solvers.warm_start import proximal
from restoration.training import data, loop
from restoration.training.states import between, log_between

# of the kinds of damage, bicubic reductions by their scale: most of what was furthest from its aim
SHARES = {"blur": 0.4, "2": 0.25, "4": 0.15, "3": 0.1, "blur-decimate": 0.1}
PARTIAL, GREY, OVERSTATED = 0.5, 0.1, 0.4  # shares of the degradations
HARDEST = 4.0  # a picture counts no more than this, whatever its error
CELLS = ("before", "deep", "after")  # the parts that are residual cells


class Lesson(NamedTuple):
    """x and what the network is shown of it; known (B,1,H,W): where x was seen."""

    x: Tensor
    known: Tensor
    sharp: Tensor
    smooth: Tensor
    sigma: Tensor


def draw(generator: torch.Generator) -> LinearDegradation:
    """Gaussian blur and reductions of all kinds."""
    drawn = torch.multinomial(torch.tensor([*SHARES.values()]), 1, generator=generator)
    kind = [*SHARES][int(drawn)]
    noise = log_between(0.5, 12, generator)
    if kind == "blur":
        return GaussianBlur(noise_std=noise, std=between(0.6, 3.2, generator))
    noise = noise / 4 if torch.rand((), generator=generator) < 0.5 else 0.0
    if kind == "blur-decimate":
        scale, blur = int(torch.randint(2, 5, (), generator=generator)), between(0.6, 2.4, generator)
        return SuperResolution(noise_std=noise, scale=scale, reduction=kind, blur=blur)
    return SuperResolution(noise_std=noise, scale=int(kind))


def shown(x: Tensor, generator: torch.Generator) -> Lesson:
    """x (B,3,H,W) in [0,1] through one drawn degradation."""
    chance = torch.rand(4, generator=generator).tolist()
    if chance[0] < GREY:
        x = x.mean(1, keepdim=True).expand_as(x)
    degradation = draw(generator)
    y = degradation.degrade(x, generator)
    if chance[1] < 0.5:
        y = (255 * y.clamp(0, 1)).round() / 255
    if chance[2] < OVERSTATED:
        told = max(degradation.noise_std, 0.5) * log_between(1, 2, generator)
        degradation = dataclasses.replace(degradation, noise_std=told)
    known = torch.ones_like(x[:, :1])
    if chance[3] < PARTIAL and isinstance(degradation, GaussianBlur):
        m = degradation.margin
        known = F.pad(known[..., m:-m, m:-m], (m,) * 4)
        y = F.pad(y[..., m:-m, m:-m], (m,) * 4, mode="replicate")
        degradation = MaskedBlur(noise_std=degradation.noise_std, blur=degradation, known=known[:1])
    return Lesson(x, known, *proximal(degradation, y))


@torch.no_grad()
def lesson(crops: Tensor, generator: torch.Generator, shared: int) -> Lesson:
    """Of crops (B,3,H,W) in [-1,1], with a degradation for each `shared` of them."""
    parts = [shown(x, generator) for x in ((crops + 1) / 2).split(shared)]
    return Lesson(*(torch.cat(column) for column in zip(*parts, strict=True)))


def errors(estimate: Tensor, seen: Lesson) -> Tensor:
    """Root mean square error of each picture where it was seen, (B,).

    By the mean absolute error, fine stripes that the sharp step shows were left out as noise.
    """
    squares = (seen.known * (estimate - seen.x)).square().sum((1, 2, 3)) / (3 * seen.known.sum((1, 2, 3)))
    return (squares + 1e-8).sqrt()


def evaluate(model: nn.Module, tests: dict[str, Lesson]) -> dict[str, float]:
    """Mean PSNR by degradation, of the sharp proximal step and of the network."""

    def psnr(estimate: Tensor, seen: Lesson) -> float:
        squares = (estimate.clamp(0, 1) - seen.x).square().mean((1, 2, 3))
        return round((-10 * squares.log10()).mean().item(), 3)

    with torch.no_grad():
        found = {name: psnr(model(*seen[2:]), seen) for name, seen in tests.items()}
    return found | {f"{name}_prox": psnr(seen.sharp, seen) for name, seen in tests.items()}


def tests(x: Tensor) -> dict[str, Lesson]:
    """What it is judged by: x (B,3,H,W) in [0,1] through the page's defaults."""
    kinds = {"deblur": GaussianBlur()} | {f"x{scale}": SuperResolution(scale=scale) for scale in (2, 3, 4)}
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        return {
            name: Lesson(x, torch.ones_like(x[:, :1]), *proximal(kind, kind.degrade(x, generator)))
            for name, kind in kinds.items()
        }


def parser(prog: str) -> argparse.ArgumentParser:
    """The command's arguments."""
    parser = loop.arguments(
        prog,
        __doc__,
        "photographs-*.tar --out restoration/weights/warm-start --checkpoint warm.pt --max-minutes 60",
        batch=8,
        crop=132,
        rate=1e-3,
        optimiser="muon",
    )
    loop.add_workers(parser)
    parser.add_argument("--width", type=int, default=48, help="channels at half resolution")
    parser.add_argument("--deep-width", type=int, default=96, help="channels at a quarter of the resolution")
    parser.add_argument("--cells", type=int, default=2, help="residual cells before and after the deep level")
    parser.add_argument("--deep-cells", type=int, default=6, help="residual cells of the deep level")
    parser.add_argument("--shared", type=int, default=2, help="pictures of a batch that have one degradation")
    parser.add_argument("--start", metavar="FOLDER", help="the network to begin with; it may be smaller")
    return parser


def main(argv: list[str] | None = None, prog: str = "python -m restoration.training.warm_start") -> None:
    args = parser(prog).parse_args(argv)
    torch.manual_seed(args.seed)
    training, held_out = data.split(data.load_photographs(args.shards, args.limit), args.holdout)
    judged = tests((data.centre_crops(held_out[:16], 192).to(args.device) + 1) / 2)
    model = WarmStart(args.width, args.deep_width, args.cells, args.deep_cells)
    if args.start:
        loop.start_from(model, args.start)

    def prepare(step: int) -> Lesson:
        generator = torch.Generator().manual_seed(args.seed * 9_000_011 + step)
        crops = data.random_crops(training, args.batch, args.crop, args.seed, step)
        with torch.autocast("cpu", enabled=False):  # Fourier transforms are exact
            return lesson(crops, generator, args.shared)

    ahead = loop.Ahead(prepare, args.workers)

    def loss(model: nn.Module, step: int) -> Tensor:
        seen = Lesson(*(part.to(args.device) for part in ahead(step)))
        unit = torch.minimum(errors(seen.sharp, seen), errors(seen.smooth, seen)) + 1e-3
        return (errors(model(*seen[2:]).float(), seen) / unit).clamp_max(HARDEST).mean()

    print(json.dumps({"parameters": sum(p.numel() for p in model.parameters())}))
    loop.train(model, loss, lambda m: evaluate(m, judged), lambda m: save(m, Path(args.out)), args)


def save(model: nn.Module, folder: Path) -> None:
    """The kernels of the cells in 8 bits, which costs 0.01 dB, the others, whose input is large, in 16."""
    assert isinstance(model, ModelMixin)
    eight_bits.write(model, folder, lambda name: name.startswith(CELLS))


if __name__ == "__main__":
    main()
