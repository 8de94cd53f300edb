"""The training loop that autoencoder and denoiser share: AMP, EMA, warm-up and final decay, checkpoints, JSON
metrics.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import os
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Generic, TypeVar

import torch
from diffusers import ModelMixin
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from tqdm import tqdm

from restoration.parser import parser as command_parser
from restoration.priors import eight_bits
from restoration.training.optimisers import OPTIMISERS, Optimiser

T = TypeVar("T")
JUDGED = 100  # steps whose mean loss says something
# a mean worse than the best by this share of it sends the run back to its last checkpoint, at half the rate;
# losses may be logarithms, and so negative
DIVERGED = 0.5


EXAMPLE = "photographs-*.tar --out prior --checkpoint training.pt --max-minutes 60"


def arguments(
    prog: str, description: str | None, example: str = EXAMPLE, **defaults: object
) -> argparse.ArgumentParser:
    """The options every training command has; `defaults` override theirs."""
    parser = command_parser(prog, description, example)
    parser.add_argument("shards", nargs="+", help="tar archives of photographs")
    parser.add_argument("--out", required=True, help="diffusers folder to write the trained component into")
    parser.add_argument("--checkpoint", required=True, help="file of the resumable training state")
    parser.add_argument("--steps", type=int, default=20_000, help="length of the run")
    parser.add_argument(
        "--max-minutes", type=float, default=float("inf"), help="stop (and decay the rate) by then, this call"
    )
    parser.add_argument("--batch", type=int, default=16, help="crops per step")
    parser.add_argument("--crop", type=int, default=96, help="side of the training crops in pixels")
    parser.add_argument("--rate", type=float, default=3e-4, help="learning rate")
    parser.add_argument(
        "--optimiser",
        choices=OPTIMISERS,
        default="adamw",
        help="muon takes a tenth more time a step and learned more in equal time where it was tried",
    )
    parser.add_argument("--ema", type=float, default=0.999, help="decay of the weight average that is saved")
    parser.add_argument("--seed", type=int, default=0, help="of the initialisation and of all draws")
    parser.add_argument("--limit", type=int, help="use only so many photographs")
    parser.add_argument("--holdout", type=int, default=64, help="last photographs, kept for evaluation")
    parser.add_argument(
        "--evaluate-every", type=int, default=500, metavar="STEPS", help="steps between two lines of figures"
    )
    parser.add_argument(
        "--save-every", type=float, default=120, metavar="SECONDS", help="seconds between two checkpoints"
    )
    parser.add_argument(
        "--device", default="cuda" if torch.cuda.is_available() else "cpu", help="where it is trained"
    )
    parser.set_defaults(**defaults)
    return parser


def add_workers(parser: argparse.ArgumentParser) -> None:
    """The option of commands whose batches are made by `Ahead`."""
    parser.add_argument(
        "--workers", type=int, default=0, help="processes that prepare batches ahead, as an accelerator needs"
    )


def start_from(model: ModelMixin, folder: str) -> None:
    """Take the weights of another network of its class, of no larger and no more layers.

    What is known reads nothing from what is wider or new here, which keeps its initial weights: at zero it
    would have no gradient.
    """
    known = eight_bits.read(type(model), Path(folder)).state_dict()
    state = model.state_dict()
    transposed = {f"{n}.weight" for n, m in model.named_modules() if isinstance(m, nn.ConvTranspose2d)}
    for name, value in known.items():
        if name not in state or any(a > b for a, b in zip(value.shape, state[name].shape, strict=True)):
            raise ValueError(f"{name} of {folder} does not fit into this network.")
        ours = state[name]
        outputs = 1 if name in transposed else 0
        if ours.ndim:
            ours.narrow(outputs, 0, value.shape[outputs]).zero_()
        ours[tuple(slice(side) for side in value.shape)] = value


class Ahead(Dataset[T], Generic[T]):
    """prepare(step), called ahead by `workers` processes for the steps in turn; none at 0.

    Of tensors on the host, since processes share no accelerator.
    """

    def __init__(self, prepare: Callable[[int], T], workers: int) -> None:
        self.prepare, self.workers = prepare, workers
        self.step, self.batches = -1, iter(list[T]())

    def __getitem__(self, step: int) -> T:
        return self.prepare(step)

    def __call__(self, step: int) -> T:
        """What was prepared for this step."""
        if step != self.step:  # the run begins, or goes back
            self.batches = self._from(step)
        self.step = step + 1
        return next(self.batches)

    def _from(self, step: int) -> Iterator[T]:
        if not self.workers:
            return map(self.prepare, itertools.count(step))
        turns: Any = itertools.count(step)  # any iterable will do; torch's stubs ask for more
        # the processes get this object: they need no batches of others
        self.batches = iter(list[T]())
        return iter(
            DataLoader(self, batch_size=None, sampler=turns, num_workers=self.workers, prefetch_factor=4)
        )


class Training:
    """A model that is being trained, the average of its weights, and what a checkpoint keeps of both."""

    def __init__(self, model: nn.Module, args: argparse.Namespace) -> None:
        self.device = torch.device(args.device)
        model.to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch's stubs lack memory_format alone
        self.model, self.args = model, args
        self.average = {k: v.detach().clone() for k, v in model.state_dict().items()}
        self.optimiser: Optimiser = OPTIMISERS[args.optimiser](model, args.rate)
        self.step, self.peak, self.best, self.warm_from = 0, args.rate, math.inf, 0
        self.began, self.before = time.monotonic(), 0.0
        if Path(args.checkpoint).exists():
            self.before = self.take_up()["seconds"]

    @property
    def elapsed(self) -> float:
        """Seconds of this call."""
        return time.monotonic() - self.began

    @property
    def seconds(self) -> float:
        """Seconds of this call and those before."""
        return self.before + self.elapsed

    def take_up(self) -> dict[str, Any]:
        """Go on from the last checkpoint; its content. ValueError where another optimiser wrote it."""
        state = torch.load(self.args.checkpoint, map_location=self.device, weights_only=True)
        self.model.load_state_dict(state["model"])
        try:
            self.optimiser.load_state_dict(state["optimiser"])
        except KeyError:
            at = self.args.checkpoint
            raise ValueError(f"{at} is of another --optimiser than {self.args.optimiser}.") from None
        self.average, self.step, self.best = state["average"], state["step"], state["best"]
        self.peak = min(self.peak, state["peak"])
        return state

    def checkpoint(self, save: Callable[[nn.Module], None]) -> None:
        """Write the checkpoint, and the average as a network."""
        kept = ("step", "seconds", "peak", "best", "average")
        state = {"model": self.model.state_dict(), "optimiser": self.optimiser.state_dict()}
        state |= {name: getattr(self, name) for name in kept}
        torch.save(state, f"{self.args.checkpoint}.part")
        os.replace(f"{self.args.checkpoint}.part", self.args.checkpoint)
        self.with_average(save)

    def with_average(self, action: Callable[[nn.Module], T]) -> T:
        """What an action makes of the averaged network."""
        current = {k: v.detach().clone() for k, v in self.model.state_dict().items()}
        self.model.load_state_dict(self.average)
        try:
            return action(self.model)
        finally:
            self.model.load_state_dict(current)

    def rate(self) -> float:
        """The learning rate of the next step."""
        progress = max(self.step / self.args.steps, self.elapsed / 60 / self.args.max_minutes)
        return self.peak * min(1.0, (self.step + 1 - self.warm_from) / 200, (1 - progress) / 0.25)

    def advance(self, loss: Callable[[nn.Module, int], Tensor]) -> Tensor:
        """One step; its loss, which the device may still be computing."""
        for group in self.optimiser.param_groups:
            group["lr"] = self.rate()
        with torch.autocast(self.device.type, torch.bfloat16):
            value = loss(self.model, self.step)
        self.optimiser.zero_grad(set_to_none=True)
        value.backward()
        if nn.utils.clip_grad_norm_(self.model.parameters(), 1.0).isfinite():
            self.optimiser.step()
        self.step += 1
        # a short average at first, so that it forgets the initialisation
        decay = min(self.args.ema, (self.step + 1) / (self.step + 10))
        with torch.no_grad():
            torch._foreach_lerp_(
                list(self.average.values()), list(self.model.state_dict().values()), 1 - decay
            )
        return value.detach()

    def diverged(self, losses: Sequence[Tensor]) -> bool:
        """Whether the losses since the last checkpoint leapt; then the run is at that checkpoint again, with
        half the rate.
        """
        mean = torch.stack(list(losses)).mean().item() if len(losses) >= JUDGED else self.best
        if not (mean - self.best > DIVERGED * abs(self.best) or math.isnan(mean)):
            self.best = min(self.best, mean)
            return False
        tqdm.write(json.dumps({"step": self.step, "diverged": mean}))
        self.peak /= 2  # and stays so: the checkpoint still says what it was before
        self.take_up()
        self.warm_from = self.step
        return True


def train(
    model: nn.Module,
    loss: Callable[[nn.Module, int], Tensor],
    evaluate: Callable[[nn.Module], dict[str, float]],
    save: Callable[[nn.Module], None],
    args: argparse.Namespace,
) -> None:
    """Minimise `loss(model, step)` under bf16 autocast; resume from and write `args.checkpoint`.

    The rate warms up over 200 steps, stays, and falls to zero over the last quarter of the steps or the
    minutes, whichever is further along. The exponential average is what is evaluated and saved. A run that
    diverges goes back to its last checkpoint and on at half the rate, and at a quarter if it does so again.
    """
    run = Training(model, args)
    saved, losses = time.monotonic(), list[Tensor]()
    bar = tqdm(total=args.steps, initial=run.step, mininterval=5)
    while run.step < args.steps and run.elapsed < 60 * args.max_minutes:
        losses.append(run.advance(loss))
        bar.update()
        if run.step % args.evaluate_every == 0:
            line = {"step": run.step, "seconds": round(run.seconds), "loss": round(losses[-1].item(), 5)}
            tqdm.write(json.dumps(line | run.with_average(evaluate)))
        if time.monotonic() - saved > args.save_every:
            if run.diverged(losses):
                bar.n = run.step
            else:
                run.checkpoint(save)
            saved, losses = time.monotonic(), []
    bar.close()
    run.checkpoint(save)
    print(json.dumps({"step": run.step, "final": True} | run.with_average(evaluate)))
