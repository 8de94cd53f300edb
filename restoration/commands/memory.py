"""python -m restoration.memory: the memory that runs on published priors take, predicted and counted, without
an accelerator or a download.

A run is rehearsed on tensors that have sizes but no values (PyTorch's meta device) with the full-size
architecture: every tensor is counted while it is alive, weights included; the context of a device is not. The
prediction is what the page and the commands place a prior by.
"""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import sys
from collections.abc import Iterator
from typing import Any
from unittest import mock

import torch
from torch import Tensor

from restoration.degradations.base import LinearDegradation
from restoration.degradations.estimate import Guess
from restoration.degradations.linear import TASKS
from restoration.files import images
from restoration.parser import parser as command_parser
from restoration.priors import placement
from restoration.priors.architectures import ARCHITECTURES, assembled, networks
from restoration.priors.latent import LatentPrior
from restoration.priors.memory import Live
from restoration.priors.placement import Placement
from restoration.solvers import ld_rps, ld_rps_fast
from restoration.solvers.base import Solver
from restoration.solvers.latent_indigo import LatentINDIGO
from restoration.solvers.ld_rps import LDRPS
from restoration.solvers.ld_rps_fast import LDRPSFast
from restoration.solvers.reld import RELD
from restoration.solvers.reld_fast import RELDFast

# two steps of each, after which nothing new is held
SOLVERS: dict[str, tuple[Solver, LinearDegradation | None]] = {
    "reld": (RELDFast(steps=2), TASKS["deblur"]()),
    "reld-paper": (RELD(steps=2), TASKS["deblur"]()),
    "latent-indigo": (LatentINDIGO(domain="pixel", steps=2), None),
    "ld-rps": (LDRPSFast(steps=2, all_steps_below=100.0), None),
    "ld-rps-paper": (LDRPS(steps=2, first=90, recurrences=0), None),
}
NOWHERE: dict[str, Any] = {"tiled": False, "twice": False}
PLACES: dict[str, dict[str, Any]] = {"whole": {}, "twice": {"twice": True}, "tiled": {"tiled": True}}


class Rehearsal(Live):
    """Counts as Live does; a number that the host asks of a tensor without values is made up."""

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if function is torch.ops.aten._local_scalar_dense.default and args[0].is_meta:
            return False if args[0].dtype == torch.bool else 0.5
        to_host = str((kwargs or {}).get("device")) == "cpu"
        if function is torch.ops.aten._to_copy.default and args[0].is_meta and to_host:
            return torch.full(args[0].shape, 0.5, dtype=args[0].dtype)
        return super().__torch_dispatch__(function, types, args, kwargs)


class Attention(torch.autograd.Function):
    """What an accelerator's fused attention keeps, and no matrix of all pairs, which it never makes."""

    @staticmethod
    def forward(context: Any, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        out = query.new_empty(*query.shape[:-1], value.shape[-1])
        context.save_for_backward(query, key, value, out)
        return out

    @staticmethod
    def backward(context: Any, *gradients: Tensor) -> tuple[Tensor, ...]:
        return tuple(torch.empty_like(tensor) for tensor in context.saved_tensors[:3])


@contextlib.contextmanager
def stand_ins() -> Iterator[None]:
    """Fused attention, VGG-16's layers without their weights, the damage that costs most, colour that is
    missing beside noise, in the place of one that is measured, and no autocast, which tensors without values
    do not know, while the block runs.
    """
    from torchvision.models import vgg16

    def first_guess(y: Tensor, *_: Any) -> Guess:
        nothing = y.new_zeros(1, 1, 1, 1)
        return Guess(nothing, 1.0, nothing, 1.0, grey=True, noise=0.1, told=0.1)

    def attention(query: Tensor, key: Tensor, value: Tensor, *_: Any, **__: Any) -> Tensor:
        return Attention.apply(query, key, value)

    with torch.device("meta"):
        vgg = vgg16(weights=None).features[:9].requires_grad_(False)
    with (
        mock.patch("torch.nn.functional.scaled_dot_product_attention", attention),
        mock.patch.object(ld_rps, "vgg_features", lambda: vgg),
        mock.patch.object(ld_rps_fast, "first_guess", first_guess),
        mock.patch("torch.autocast", lambda *_, **__: contextlib.nullcontext()),
    ):
        yield


def valueless(name: str) -> LatentPrior:
    """The prior of ARCHITECTURES on the meta device, in half precision."""
    with torch.device("meta"):
        parts = networks(ARCHITECTURES[name], torch.bfloat16)
    prior = assembled(name, parts, Placement("meta", torch.bfloat16))
    widths = [encoder.config.hidden_size for encoder in prior.parts.text_encoders]
    tokens = 77 + (len(widths) > 1)  # SDXL's summary is one row more
    prior.embed = lambda prompt, negative="": torch.zeros(1, tokens, sum(widths), device="meta")  # type: ignore[method-assign]
    return prior


def counted(prior: LatentPrior, solver: Solver, known: LinearDegradation | None, side: int) -> float:
    """Bytes at the peak of a run for a result of side×side pixels, the weights of denoiser and codec among
    them.
    """
    weights = [
        tensor
        for part in (prior.parts.unet, prior.parts.vae)
        for tensor in (*part.parameters(), *part.buffers())
    ]
    small = side // solver.factor(known)
    y = torch.zeros(1, 3, small, small, device="meta")
    with stand_ins(), Rehearsal(weights) as live:
        for _ in solver.restore(prior, y, known, generator=torch.Generator().manual_seed(0)):
            pass
    return live.peak + sum(placement.size(part) for part in (prior.parts.unet, prior.parts.vae))


def main(argv: list[str] | None = None, prog: str = "python -m restoration.memory") -> int:
    """0 after printing the table, 2 after one line about bad input."""
    parser = command_parser(prog, __doc__, "--prior sd-2.1-base --side 512")
    for name, choices, what in (
        ("prior", list(ARCHITECTURES), "architectures"),
        ("solver", list(SOLVERS), "methods"),
        ("place", list(PLACES), "whole · twice: no graph kept while ψ learns · tiled: in tiles of 512"),
    ):
        first = choices[1:] if name == "prior" else choices
        parser.add_argument(f"--{name}", choices=choices, nargs="+", default=first, help=what)
    parser.add_argument("--side", type=int, nargs="+", default=[512, 768, 1024], help="pixels of the result")
    args = parser.parse_args(argv)
    try:
        for side in args.side:
            images.check_size(side, side)
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print("| prior | method | pixels | networks | predicted | counted |\n|---|---|---|---|---|---|")
    for name in args.prior:
        prior = valueless(name)
        for method, side, place in itertools.product(args.solver, args.side, args.place):
            solver, known = SOLVERS[method]
            if place == "twice" and not solver.demand(side**2).learns:
                continue  # nothing learns
            prior._move(dataclasses.replace(prior.placement, **(NOWHERE | PLACES[place])))
            figures = prior.predicted(solver.demand(side**2)), counted(prior, solver, known, side)
            cells = " | ".join(f"{figure / 1e9:.2f} GB" for figure in figures)
            print(f"| {name} | {method} | {side}×{side} | {place} | {cells} |", flush=True)
    return 0
