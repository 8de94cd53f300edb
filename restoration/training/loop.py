"""The training loop that autoencoder and denoiser share: AMP, EMA, warm-up and final decay, checkpoints, JSON
metrics.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn
from tqdm import tqdm

from restoration.parser import parser as command_parser

JUDGED = 100  # steps whose mean loss says something
# such a mean, this many times the best, sends the run back to its last checkpoint, at half the rate
DIVERGED = 1.5


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
    parser.add_argument("--rate", type=float, default=3e-4, help="AdamW learning rate")
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


def train(
    model: nn.Module,
    loss: Callable[[nn.Module, int], Tensor],
    evaluate: Callable[[nn.Module], dict[str, float]],
    save: Callable[[nn.Module], None],
    args: argparse.Namespace,
) -> None:
    """Minimise `loss(model, step)` with AdamW under bf16 autocast; resume from and write `args.checkpoint`.

    The rate warms up over 200 steps, stays, and falls to zero over the last quarter of the steps or the
    minutes, whichever is further along. The exponential average is what is evaluated and saved. A run that
    diverges goes back to its last checkpoint and on at half the rate, and at a quarter if it does so again.
    """
    device = torch.device(args.device)
    model.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch's stubs lack memory_format alone
    average = {k: v.detach().clone() for k, v in model.state_dict().items()}
    optimiser = torch.optim.AdamW(
        model.parameters(), lr=args.rate, betas=(0.9, 0.99), weight_decay=1e-4, fused=True
    )
    step, seconds, peak, best, warm_from = 0, 0.0, args.rate, math.inf, 0

    def resume() -> float:
        """Take up the last checkpoint; the seconds that had been spent by then."""
        nonlocal average, step, peak, best
        state = torch.load(args.checkpoint, map_location=device, weights_only=True)
        model.load_state_dict(state["model"])
        optimiser.load_state_dict(state["optimiser"])
        average, step, best, peak = state["average"], state["step"], state["best"], min(peak, state["peak"])
        return state["seconds"]

    if Path(args.checkpoint).exists():
        seconds = resume()

    def with_average(action: Callable[[nn.Module], object]) -> object:
        current = {k: v.detach().clone() for k, v in model.state_dict().items()}
        model.load_state_dict(average)
        try:
            return action(model)
        finally:
            model.load_state_dict(current)

    def checkpoint() -> None:
        state = {"model": model.state_dict(), "optimiser": optimiser.state_dict(), "average": average,
        "step": step,
                 "seconds": seconds + time.monotonic() - start, "peak": peak, "best": best}  # fmt: skip
        torch.save(state, f"{args.checkpoint}.part")
        os.replace(f"{args.checkpoint}.part", args.checkpoint)
        with_average(save)

    start = saved = time.monotonic()
    losses = list[float]()
    bar = tqdm(total=args.steps, initial=step, mininterval=5)
    while step < args.steps and time.monotonic() - start < 60 * args.max_minutes:
        elapsed = time.monotonic() - start
        progress = max(step / args.steps, elapsed / 60 / args.max_minutes)
        rate = peak * min(1.0, (step + 1 - warm_from) / 200, (1 - progress) / 0.25)
        for group in optimiser.param_groups:
            group["lr"] = rate
        with torch.autocast(device.type, torch.bfloat16):
            value = loss(model, step)
        optimiser.zero_grad(set_to_none=True)
        value.backward()
        if nn.utils.clip_grad_norm_(model.parameters(), 1.0).isfinite():
            optimiser.step()
        losses.append(value.item())
        step += 1
        bar.update()
        # a short average at first, so that it forgets the initialisation
        decay = min(args.ema, (step + 1) / (step + 10))
        with torch.no_grad():
            torch._foreach_lerp_(list(average.values()), list(model.state_dict().values()), 1 - decay)
        if step % args.evaluate_every == 0:
            metrics = with_average(evaluate)
            line = {
                "step": step,
                "seconds": round(seconds + time.monotonic() - start),
                "loss": round(value.item(), 5),
            }
            tqdm.write(json.dumps(line | metrics))  # type: ignore[operator]
        if time.monotonic() - saved > args.save_every:
            mean = sum(losses) / len(losses) if len(losses) >= JUDGED else best
            if mean > DIVERGED * best or math.isnan(mean):
                tqdm.write(json.dumps({"step": step, "diverged": mean}))
                peak /= 2  # and stays so: the checkpoint still says what it was before
                resume()
                bar.n, warm_from = step, step
            else:
                best = min(best, mean)
                checkpoint()
            saved, losses = time.monotonic(), []
    bar.close()
    checkpoint()
    print(json.dumps({"step": step, "final": True} | with_average(evaluate)))  # type: ignore[operator]
