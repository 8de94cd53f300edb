"""Train LatentINDIGO's networks: `python -m restoration.training.inn SHARD… --out FOLDER --checkpoint FILE`.

Losses (docs/methods/latent-indigo.md): the forward model (8), (9) against the noise-free part of y, whose
expectation it is, and the swap loss of (10), ‖g⁻¹(y, d(x̃), γ) - x‖, with x̃ between the enlarged y and x: it
trains the very operation that the solver uses. A decimated network must return the y it is given, noise and
all, so it is trained with the noise-free one; a redundant one may clean it. F learns from the transfer loss,
|T(γ) - what the drawn degradation does to gratings|, with a linear T. `--domain first` trains the restorer
that makes the first estimate, |Rest(y) - x|, one per scale for all priors. FOLDER is
`restoration/weights/inn` for a network that `load_inn` and the page find.
"""

from __future__ import annotations

import argparse
import copy
import functools
import itertools
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import torch
import torch.nn.functional as F
from diffusers import ModelMixin
from torch import Tensor, nn

from restoration.degradations import realistic
from restoration.files.images import enlarge
from restoration.priors.latent import LatentPrior, load_prior
from restoration.solvers.inn import DOMAINS, LiftingINN
from restoration.solvers.inn_weights import codec_of, folder_name
from restoration.solvers.restorer import Restorer
from restoration.training import data, loop

# side of the blocks whose means alone are left of some of the estimates; crops are multiples of it
VAGUE = 16


def cameras(x: Tensor, args: argparse.Namespace, generator: torch.Generator) -> list[realistic.Realistic]:
    """A degradation of its own for every picture of x, the strengths in turn."""
    strengths = itertools.cycle(args.strength)
    return [realistic.draw(next(strengths), args.scale, generator) for _ in x]


def degraded(x: Tensor, drawn: list[realistic.Realistic], generator: torch.Generator) -> Tensor:
    """y of x (B,3,H,W) in [0,1]."""
    return torch.cat(
        [camera.degrade(picture, generator) for camera, picture in zip(drawn, x.split(1), strict=True)]
    )


def noise_free(x: Tensor, drawn: list[realistic.Realistic]) -> Tensor:
    """The deterministic part of y."""
    return torch.cat([camera.forward(picture) for camera, picture in zip(drawn, x.split(1), strict=True)])


def new_model(args: argparse.Namespace, prior: LatentPrior | None, x: Tensor) -> LiftingINN | Restorer:
    """The untrained network of the domain; x: photographs in [0,1], for the deviations of the latent's
    channels.
    """
    if args.domain == "first":
        return Restorer(scale=args.scale, width=args.width, cells=args.cells)
    size: dict[str, int] = {"width": args.width, "pairs": args.pairs, "cells": args.cells}
    if prior is None:
        return LiftingINN(scale=args.scale, **size)
    spread = tuple(prior.encode(x).std((0, 2, 3)).tolist())
    # 2×2 latent pixels together: half the time of 1×1 at this width; wide bounds, since updates must cancel
    # heavy-tailed channels
    return LiftingINN(scale=1, patch=2, offset=0.0, spread=spread, gain=8.0, codec=codec_of(prior), **size)


@dataclass(frozen=True)
class Seen:
    """Photographs x (B,3,H,W) in [0,1] and what a camera for each made of them, y."""

    x: Tensor
    drawn: list[realistic.Realistic]
    y: Tensor

    @functools.cached_property
    def clean(self) -> Tensor:
        """The noise-free part of y, which is its expectation."""
        return noise_free(self.x, self.drawn)


def seen(x: Tensor, args: argparse.Namespace, generator: torch.Generator) -> Seen:
    """x (B,3,H,W) in [0,1], each through a camera of its own."""
    drawn = cameras(x, args, generator)
    return Seen(x, drawn, degraded(x, drawn, generator))


class Lesson(NamedTuple):
    """What an invertible network learns from.

    y (B,3,h,w), its cameras' transfer, and in the network's domain the truth, what is to be measured of it
    without noise, an estimate on the way, and what was measured.
    """

    y: Tensor
    transfers: Tensor
    truth: Tensor
    target: Tensor
    start: Tensor
    observed: Tensor


@dataclass(frozen=True)
class Objective:
    """What a network learns, and how it is judged.

    prior: of the latent domain, None elsewhere. training: photographs, as data.split gives them; test: unseen
    ones. kept: lessons by number.
    """

    prior: LatentPrior | None
    training: list[Tensor]
    test: Seen
    args: argparse.Namespace
    kept: dict[int, Lesson] = field(default_factory=dict)

    @torch.no_grad()
    def represent(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """x and y in the domain of the network: as they are, or both as latents of one size (layout B)."""
        if self.prior is None:
            return x, y
        return self.prior.encode(x), self.prior.encode(enlarge(y, self.args.scale))

    def loss(self, model: nn.Module, step: int) -> Tensor:
        """Of a step's random crops."""
        # neither JPEG nor the invertible network is for half precision
        with torch.autocast(torch.device(self.args.device).type, enabled=False):
            if isinstance(model, LiftingINN):
                return self.invertible_loss(model, self.lesson(step))
            crop, _ = self.crop(step)
        return (model(crop.y) - crop.x).abs().mean()

    def crop(self, step: int) -> tuple[Seen, torch.Generator]:
        """A step's random crops, and the generator for all that is drawn after them."""
        args = self.args
        generator = torch.Generator().manual_seed(args.seed * 9_000_011 + step)
        crops = data.random_crops(self.training, args.batch, args.crop, args.seed, step)
        return seen(((crops + 1) / 2).to(args.device), args, generator), generator

    @torch.no_grad()
    def lesson(self, step: int) -> Lesson:
        """What a step shows an invertible network; of `--cache` batches each is encoded once and kept on the
        host.
        """
        if not self.args.cache:
            return self.encoded(step)
        number = step % self.args.cache
        if number not in self.kept:
            self.kept[number] = Lesson(*(part.cpu() for part in self.encoded(number)))
        return Lesson(*(part.to(self.args.device) for part in self.kept[number]))

    def encoded(self, step: int) -> Lesson:
        """A step's crops in the domain of the network."""
        crop, generator = self.crop(step)
        x, y = crop.x, crop.y
        # half the time all that is known at the start, y enlarged; else something between it and the truth,
        # as on the way
        share = (2 * torch.rand(len(x), 1, 1, 1, generator=generator) - 1).clamp_min(0).to(x)
        guess = enlarge(y, self.args.scale).lerp(x, share)
        # a quarter without any detail, as an estimate from strong noise is
        vague = F.interpolate(F.avg_pool2d(guess, VAGUE), scale_factor=VAGUE, mode="bilinear")
        guess = torch.where(torch.rand(len(x), 1, 1, 1, generator=generator).to(x) < 0.25, vague, guess)
        transfers = torch.stack([camera.transfer() for camera in crop.drawn]).to(x)
        return Lesson(y, transfers, *self.represent(x, crop.clean), *self.represent(guess, y))

    def invertible_loss(self, model: LiftingINN, seen: Lesson) -> Tensor:
        """Forward, swap and transfer loss."""
        gamma = model.embed(seen.y)
        transfer = (model.transfer(gamma) - seen.transfers).abs().mean()
        forward = (model.measure(seen.truth, gamma) - seen.target).abs().mean()
        observed = seen.target if model.config.scale > 1 else seen.observed
        restored, _ = model.swap(seen.start, observed, gamma)
        return forward + self.args.swap * (restored - seen.truth).abs().mean() + transfer

    def compared(
        self, model: nn.Module, x: Tensor, y: Tensor, clean: Tensor
    ) -> dict[str, tuple[Tensor, Tensor]]:
        """What is to be near to what, by name: the networks' results, and what they must beat."""
        enlarged = enlarge(y, self.args.scale)
        if not isinstance(model, LiftingINN):
            return {"first": (model(y), x), "bicubic_up": (enlarged, x)}
        gamma = model.embed(y)
        truth, target = self.represent(x, clean)
        start, observed = self.represent(enlarged, y)
        reduced = F.interpolate(x, clean.shape[-2:], mode="bicubic", antialias=True, align_corners=False)
        return {
            "forward": (model.measure(truth, gamma), target),
            "bicubic_down": (self.represent(x, reduced)[1], target),
            "forward_observed": (model.measure(truth, gamma), observed),
            "bicubic_down_observed": (self.represent(x, reduced)[1], observed),
            "noise": (target, observed),  # what no deterministic model of y can beat
            "swap": (model.swap(start, observed, gamma)[0], truth),
            "bicubic_up": (start, truth),
        }

    @torch.no_grad()
    def evaluate(self, model: nn.Module) -> dict[str, float]:
        """Mean PSNR on unseen photographs and degradations."""
        # a latent keeps C numbers of f×f×3 pixel values
        per_value = 1 if self.prior is None else self.prior.channels / (3 * self.prior.factor**2)
        errors: dict[str, list[Tensor]] = {}
        pictures = (part.split(8) for part in (self.test.x, self.test.y, self.test.clean))
        for x, y, clean in zip(*pictures, strict=True):
            for name, (a, b) in self.compared(model, x, y, clean).items():
                errors.setdefault(name, []).append((a - b).square().mean((1, 2, 3)) * per_value)
        return {name: round((-10 * torch.log10(torch.cat(e))).mean().item(), 3) for name, e in errors.items()}


def parser(prog: str) -> argparse.ArgumentParser:
    """The command's arguments."""
    parser = loop.arguments(
        prog,
        __doc__,
        "photographs-*.tar --domain pixel --scale 4 --out restoration/weights/inn --checkpoint inn.pt",
        batch=8,
        crop=128,
        rate=1e-3,
        holdout=48,
    )
    parser.add_argument("--domain", choices=(*DOMAINS, "first"), default="pixel", help="what is trained")
    parser.add_argument("--prior", default="embedded", help="whose latents (latent domain only)")
    parser.add_argument("--scale", type=int, choices=(1, 2, 4), default=4, help="output side over input side")
    parser.add_argument(
        "--strength",
        choices=realistic.STRENGTHS,
        nargs="+",
        default=["light"],
        help="of the drawn cameras, in turn",
    )
    parser.add_argument("--width", type=int, default=48, help="channels of the networks")
    parser.add_argument("--pairs", type=int, default=3, help="lifting pairs")
    parser.add_argument(
        "--cells", type=int, default=1, help="residual cells per network (first: 6 are well spent)"
    )
    parser.add_argument(
        "--start", metavar="FOLDER", help="the networks to begin with, as in --out; they may be smaller"
    )
    parser.add_argument("--swap", type=float, default=1.0, help="weight of the swap loss")
    parser.add_argument(
        "--cache",
        type=int,
        default=0,
        metavar="BATCHES",
        help="encode so many batches once and learn from them in turn (a large prior's encoder is most of a "
        "step); 0 encodes new ones at every step",
    )
    return parser


def main(argv: list[str] | None = None, prog: str = "python -m restoration.training.inn") -> None:
    args = parser(prog).parse_args(argv)
    torch.manual_seed(args.seed)
    prior = load_prior(args.prior, args.device) if args.domain == "latent" else None
    training, held_out = data.split(data.load_photographs(args.shards, args.limit), args.holdout)
    x = (data.centre_crops(held_out, 192).to(args.device) + 1) / 2
    model = new_model(args, prior, x)
    if args.start:
        start = Path(args.start, folder_name(args.domain, args.scale, args.prior))
        loop.start_from(model, str(start))
    if isinstance(model, LiftingINN):
        # the trained network is exact in float32; learning needs no exactness, and bfloat16 is more than
        # twice as fast
        for lift in (*model.predictors, *model.updaters):
            lift.forward = torch.autocast(torch.device(args.device).type, torch.bfloat16)(lift.forward)  # type: ignore[assignment]
    objective = Objective(prior, training, seen(x, args, torch.Generator().manual_seed(0)), args)
    size = sum(p.numel() for p in model.parameters())
    print(json.dumps({"parameters": size, "start": objective.evaluate(model.to(args.device))}))
    folder = Path(args.out, folder_name(args.domain, args.scale, args.prior))
    loop.train(model, objective.loss, objective.evaluate, lambda m: save(m, folder), args)


def save(model: nn.Module, folder: Path) -> None:
    """In half precision, which changes what the network learned by a thousandth; `load_inn` makes it float32
    again.
    """
    assert isinstance(model, ModelMixin)
    copy.deepcopy(model).half().save_pretrained(folder)


if __name__ == "__main__":
    main()
