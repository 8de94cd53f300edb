"""python -m restoration.timings --prior sd-2.1-base --task deblur: time and memory on the accelerator that is
there, without any download.

Neither depends on what the weights are, so the full-size architectures are built with random ones; what they
restore is meaningless. A run is the solver's loop until its picture is on the host, caches being filled by an
earlier one, as for a second picture. Its network calls are counted and each kind is timed in isolation, in
the same precision and size, decoding with its gradient where the run takes one; the quotient of the two says
what the method costs besides.
"""

from __future__ import annotations

import collections
import contextlib
import json
import platform
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from restoration.commands import cli, settings_help
from restoration.degradations.base import LinearDegradation
from restoration.files import images, recipe
from restoration.priors.architectures import ARCHITECTURES, random_prior
from restoration.priors.latent import LatentPrior, load_prior
from restoration.solvers.base import Solver


def seconds(function: Callable[[], Any], device: torch.device, repeats: int) -> float:
    """The median time of a call, the device having finished; one call more beforehand warms up."""
    times = []
    for _ in range(repeats + 1):
        _finish(device)
        began = time.perf_counter()
        function()
        _finish(device)
        times.append(time.perf_counter() - began)
    return statistics.median(times[1:])


def _finish(device: torch.device) -> None:
    if device.type != "cpu":
        torch.accelerator.synchronize(device)


# verb, shape of its tensor, and what else matters: size and gradient, or texts and whether levels are trusted
Call = tuple[str, tuple[int, ...], Any]


@contextlib.contextmanager
def counted(prior: LatentPrior) -> Iterator[collections.Counter[Call]]:
    """Count the calls of the prior's networks by kind while the block runs."""
    calls: collections.Counter[Call] = collections.Counter()
    encode, decode, denoise = prior.encode, prior.decode, prior.denoise

    def counting_encode(x: Tensor) -> Tensor:
        calls["encode", tuple(x.shape), None] += 1
        return encode(x)

    def counting_decode(z: Tensor, size: tuple[int, int]) -> Tensor:
        calls["decode", tuple(z.shape), (size, z.requires_grad and torch.is_grad_enabled())] += 1
        return decode(z, size)

    def counting_denoise(
        z_t: Tensor, t: int, text: Tensor | None = None, guidance: float = 1.0, *, trusting: bool = False
    ) -> Any:
        texts = 2 if text is not None and len(text) > 1 and guidance != 1 else 1
        calls["denoise", tuple(z_t.shape), (texts, trusting)] += 1
        return denoise(z_t, t, text, guidance, trusting=trusting)

    vars(prior).update(encode=counting_encode, decode=counting_decode, denoise=counting_denoise)
    try:
        yield calls
    finally:
        for verb in ("encode", "decode", "denoise"):
            del vars(prior)[verb]


def isolated(prior: LatentPrior, call: Call, repeats: int) -> float:
    """Seconds of one such call alone."""
    verb, shape, more = call
    data = torch.rand(shape, device=prior.device)
    if verb == "encode":
        with torch.no_grad():
            return seconds(lambda: prior.encode(data), prior.device, repeats)
    if verb == "denoise":
        texts, trusting = more
        # a prior may take less for a weak noise whose level it trusts
        text, t = prior.embed("a", "" if texts == 2 else "a"), 100 if trusting else 500
        return seconds(lambda: prior.denoise(data, t, text, 2.0, trusting=trusting), prior.device, repeats)
    size, gradient = more
    with torch.set_grad_enabled(gradient):
        leaf = data.requires_grad_(gradient)

        def decode() -> None:
            x = prior.decode(leaf, size)
            if gradient:
                torch.autograd.grad(x, leaf, torch.ones_like(x))

        return seconds(decode, prior.device, repeats)


def run(prior: LatentPrior, solver: Solver, y: Tensor, degradation: LinearDegradation | None) -> None:
    """The solver's loop until its picture is on the host."""
    for step in solver.restore(prior, y, degradation, generator=torch.Generator().manual_seed(0)):
        if step.image is not None:
            step.image.cpu()


def measure(
    prior: LatentPrior, solver: Solver, known: LinearDegradation | None, side: int, batch: int, repeats: int
) -> dict[str, Any]:
    """All figures of one solver at side×side restored pixels: seconds, GB; None where there is none."""
    small = side // solver.factor(known)
    y = torch.rand(1, 3, small, small, generator=torch.Generator().manual_seed(0)).to(prior.device)
    run(prior, solver, y, known)  # also fills the caches
    if prior.device.type != "cpu":
        torch.accelerator.reset_peak_memory_stats(prior.device)
    with counted(prior) as calls:
        run(prior, solver, y, known)
    peak = torch.accelerator.max_memory_allocated(prior.device) / 1e9 if prior.device.type != "cpu" else None
    whole = seconds(lambda: run(prior, solver, y, known), prior.device, repeats)
    alone = {call: isolated(prior, call, repeats) for call in calls}
    network = sum(count * alone[call] for call, count in calls.items())
    figures: dict[str, Any] = {
        "run": whole,
        "network calls alone": network,
        "run / network calls": whole / network,
        "peak memory": peak,
    }
    figures["predicted memory"] = prior.predicted(solver.demand(side**2)) / 1e9
    for verb in ("encode", "decode", "denoise"):
        figures[f"calls of {verb}"] = sum(count for call, count in calls.items() if call[0] == verb)
    if batch > 1:
        together = seconds(
            lambda: run(prior, solver, y.expand(batch, -1, -1, -1).contiguous(), known), prior.device, repeats
        )
        figures[f"batch of {batch} against {batch} single ones"] = batch * whole / together
    return figures


def machine(device: torch.device) -> str:
    """What was measured on."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{platform.machine()} {device.type}, {torch.get_num_threads()} threads"


def main(argv: list[str] | None = None, prog: str = "python -m restoration.timings") -> int:
    """0 after printing the table, 2 after one line about bad input."""
    parser = settings_help.parser(prog, __doc__, "--prior sd-2.1-base --task deblur --side 512")
    cli.add_options(parser)
    parser.add_argument(
        "--weights",
        action="store_true",
        help="load the prior's real weights; without, those of ARCHITECTURES are random",
    )
    parser.add_argument("--side", type=int, default=512, help="pixels of the restored picture")
    parser.add_argument(
        "--batch", type=int, default=1, help="compare so many pictures at once with single ones; 1 does not"
    )
    parser.add_argument("--repeats", type=int, default=5, help="take the median of so many")
    parser.add_argument("--device", help="cuda, cuda:1, cpu, …; the one with most free memory by default")
    parser.add_argument(
        "--dtype",
        choices=("float32", "bfloat16", "float16"),
        help="of the U-Net; by default what the device is good at",
    )
    parser.add_argument("--json", help="file for all figures")
    args = parser.parse_args(argv)
    try:
        if args.json:
            recipe.check_target(args.json)
        cli.check_least(args, side=images.MIN_SIDE, batch=1, repeats=1)
        solver, task = cli.build(args)
        known = task if isinstance(task, LinearDegradation) and not solver.blind else None
        random = args.prior in ARCHITECTURES and not args.weights
        if random:
            prior = random_prior(
                args.prior, args.side, args.device, getattr(torch, args.dtype) if args.dtype else None
            )
        else:
            prior = load_prior(args.prior, args.device)
        figures = measure(prior, solver, known, args.side, args.batch, args.repeats)
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    weights = " (random weights)" if random else ""
    title = f"{cli.named(solver, args)}, {args.prior}{weights}, {args.side}×{args.side}"
    print(f"{title}\n{machine(prior.device)}, torch {torch.__version__}. {prior.placement.note}\n")
    print(table(figures))
    if args.json:
        report = {
            "arguments": vars(args),
            "machine": machine(prior.device),
            "placement": prior.placement.note,
            "figures": figures,
        }
        Path(args.json).write_text(json.dumps(report, indent=1))
    return 0


def table(figures: dict[str, Any]) -> str:
    """One Markdown table, a row per figure."""
    units = {"run": " s", "network calls alone": " s", "peak memory": " GB", "predicted memory": " GB"}
    cells = {
        name: "–" if value is None else f"{value}" if isinstance(value, int) else f"{value:.3f}"
        for name, value in figures.items()
    }
    return "\n".join(
        [
            "| what | figure |",
            "|---|---|",
            *(
                f"| {name} | {cell}{units.get(name, '') if cell != '–' else ''} |"
                for name, cell in cells.items()
            ),
        ]
    )
