"""Train the damage meter: `python -m restoration.training.meter SHARD… --out FILE.safetensors`, on one
processor.

Photographs are damaged at random with known strength, the statistics of each damaged picture are taken once,
and small networks learn to read them: one for the texture of crops, one for the light of whole pictures, for
which small copies are enough. Part of the training's photographs, left clean, then place the threshold of
each kind of damage.
"""

from __future__ import annotations

import argparse
import math
from dataclasses import dataclass, field

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor, nn
from tqdm import tqdm

from restoration.degradations import camera
from restoration.degradations.blind import to_grey
from restoration.degradations.features import texture
from restoration.degradations.light import SMALL, light
from restoration.degradations.meter import KINDS, STATISTICS, Reader, to_units
from restoration.degradations.realistic import jpeg
from restoration.files.images import quantise
from restoration.training import data

FALSE_ALARMS = {"noise": 0.006, "veil": 0.006, "backlight": 0.002}  # of them, in these kinds
RARELY = 0.001  # and in the others
# what is surely there, and what is not worth a word; in between nothing is taught. Noise: as if the picture
# had its light, in 1/255
THERE = {"noise": 2.5, "blur": 0.8, "enlargement": 1.5, "darkness": 1.3, "backlight": 1.3, "veil": 0.15}
NOTHING = {"noise": 0.5, "blur": 0.0, "enlargement": 1.0, "darkness": 0.0, "backlight": 0.0, "veil": 0.0}
POOR, GOOD = 80, 93  # JPEG's quality
WHOLE = 256  # the short side of the photographs
FAINT = 0.4 / 255  # noise below this is not told from rounding


@dataclass
class Sample:
    """A picture on its way through damage: y and the same without noise, (1,3,H,W) in [0,1]; value: of each
    kind, nan: not to be taught.
    """

    y: Tensor
    quiet: Tensor
    values: dict[str, float] = field(default_factory=lambda: dict(NOTHING) | {"jpeg": 100.0})

    def both(self, change) -> None:  # type: ignore[no-untyped-def]
        """The same change to the noisy and the quiet picture."""
        self.y, self.quiet = change(self.y).clamp(0, 1), change(self.quiet).clamp(0, 1)


def damage(x: Tensor, generator: torch.Generator) -> Sample:
    """x (1,3,H,W) in [0,1], damaged at random, with the truth about it."""

    def chance(share: float) -> bool:
        return torch.rand((), generator=generator).item() < share

    x = to_grey(x) if chance(0.08) else x
    if chance(0.2):  # a background out of focus is no damage
        far = (camera.smooth_field(x, generator) > _between(0.3, 0.7, generator)).to(x)
        far = gaussian(far.expand_as(x), 4.0)
        x = x * (1 - far) + gaussian(x, _between(1.5, 6.0, generator)) * far
    sample = Sample(x, x)
    if chance(0.1):
        foggy, _ = camera.Fog().veil(x, generator)
        sample = Sample(foggy, foggy)
    if chance(0.4):
        _blur(sample, generator)
    enlarging, first = chance(0.2), chance(0.4)
    factor = _between(1.3, 4.0, generator)
    small = [max(8, round(side / factor)) for side in x.shape[-2:]]
    size = list(x.shape[-2:])
    if enlarging:
        sample.both(lambda a: F.interpolate(a, small, mode="bicubic", antialias=True))
        if first:  # noise that is enlarged with the picture
            _noise(sample, generator)
        mode = ("bilinear", "bicubic")[int(chance(0.6))]
        sample.both(lambda a: F.interpolate(a, size, mode=mode))
        sample.values |= {"enlargement": factor, "blur": math.nan}
    if not enlarging or not first:
        _noise(sample, generator)
    if chance(0.12):  # sharpened, as cameras do
        amount = _between(0.3, 1.2, generator)
        sample.both(lambda a: a + amount * (a - gaussian(a, 1.0)))
    if chance(0.45):
        quality = int(_between(10, 99, generator))
        sample.both(lambda a: jpeg(a, quality))
        sample.values["jpeg"] = float(quality)
    sample.y, sample.quiet = quantise(sample.y), quantise(sample.quiet)
    sample.values["noise"] = (sample.y - sample.quiet).square().mean().sqrt().item()
    return sample


def gaussian(x: Tensor, std: float, other: float | None = None) -> Tensor:
    """x blurred by a Gaussian of these standard deviations across and down, in pixels."""
    for axis, sigma in ((-1, std), (-2, std if other is None else other)):
        radius = max(1, math.ceil(3 * sigma))
        kernel = torch.exp(-(torch.arange(-radius, radius + 1) ** 2) / (2 * sigma**2))
        kernel = (
            (kernel / kernel.sum()).view((1, 1, 1, -1) if axis == -1 else (1, 1, -1, 1)).repeat(3, 1, 1, 1)
        )
        padding = (radius, radius, 0, 0) if axis == -1 else (0, 0, radius, radius)
        x = F.conv2d(F.pad(x, padding, mode="replicate"), kernel, groups=3)
    return x


def _blur(sample: Sample, generator: torch.Generator) -> None:
    std, ratio = _between(0.4, 3.6, generator), max(0.0, _between(-1.0, 1.0, generator))
    other = std * (1 - 0.5 * ratio)
    sample.both(lambda a: gaussian(a, std, other))
    sample.values["blur"] = math.sqrt((std**2 + other**2) / 2)


def _noise(sample: Sample, generator: torch.Generator) -> None:
    """None, white, alike in all channels, correlated by reduction, or a sensor's (also in less light)."""
    pick, x = torch.rand((), generator=generator).item(), sample.y
    strong = math.exp(_between(math.log(1.0), math.log(60.0), generator)) / 255
    if pick < 0.25:
        return
    if pick < 0.42:
        sample.y = x + strong * torch.randn(x.shape, generator=generator)
    elif pick < 0.48:
        sample.y = x + strong * torch.randn(x[:, :1].shape, generator=generator)
    elif pick < 0.6:  # reduced or enlarged after it arose
        grains = [max(4, round(side * _between(0.45, 2.2, generator))) for side in x.shape[-2:]]
        grain = 1.5 * strong * torch.randn((1, 3, *grains), generator=generator)
        sample.y = x + F.interpolate(grain, x.shape[-2:], mode="bicubic", antialias=True)
    else:
        dark, shot = (
            torch.rand((), generator=generator).item(),
            math.exp(_between(math.log(2e-5), math.log(2e-2), generator)),
        )
        gain, illumination = (
            math.exp(_between(math.log(1.5), math.log(16.0), generator)),
            torch.ones(1, 1, 1, 1),
        )
        if dark < 0.3:
            illumination, shot = illumination / gain, shot / 4
        elif dark < 0.5:
            illumination, shot = torch.exp(-math.log(gain) * camera.shade(x, generator)), shot / 4
        sample.y, sample.quiet = camera.sensor(x, illumination, shot, generator)
    sample.y = sample.y.clamp(0, 1)


def _between(low: float, high: float, generator: torch.Generator) -> float:
    return low + (high - low) * torch.rand((), generator=generator).item()


def darken(x: Tensor, generator: torch.Generator) -> tuple[Tensor, dict[str, float]]:
    """x (1,3,H,W) in [0,1], small, with too little light or in fog or neither, and the truth about it."""

    def chance(share: float) -> bool:
        return torch.rand((), generator=generator).item() < share

    values = {"darkness": 0.0, "backlight": 0.0, "veil": 0.0}
    if chance(0.3):  # pictures differ in colour and exposure without being damaged
        x = to_grey(x) + _between(0.3, 1.4, generator) * (x - to_grey(x))
        x = x.clamp(0, 1) ** math.exp(_between(-0.25, 0.25, generator))
    if chance(0.3):
        x, share = camera.Fog().veil(x, generator)
        values["veil"] = share.mean().item()
    kind, gain = (
        torch.rand((), generator=generator).item(),
        math.exp(_between(math.log(1.5), math.log(16.0), generator)),
    )
    development = camera.draw_development(generator)
    if kind < 0.25:
        values |= {"darkness": math.log2(gain), "backlight": math.nan}
        x = development.develop(development.undo(x) / gain)
    elif kind < 0.5:
        shade = camera.shade(x, generator)
        covered = 0.15 < shade.mean().item() < 0.85
        values |= {"darkness": math.nan, "backlight": math.log2(gain) if covered else math.nan}
        x = development.develop(development.undo(x) * torch.exp(-math.log(gain) * shade))
    x = x + _between(0, 0.015, generator) * torch.randn(x.shape, generator=generator)
    return quantise(x), values


def labels(kinds: tuple[str, ...], values: dict[str, float], light: float = 1.0) -> np.ndarray:
    """(2,k): whether each kind is there (0, 1) and its value as the network tells it; nan: not to be taught.

    light: the share of its light that the picture has, for how much its noise matters.
    """
    there, told = [], []
    for kind in kinds:
        value = values[kind]
        if kind == "jpeg":
            there.append(1.0 if value <= POOR else 0.0 if value >= GOOD else math.nan)
        else:
            seen = value * 255 / light if kind == "noise" else value
            there.append(1.0 if seen >= THERE[kind] else 0.0 if seen <= NOTHING[kind] else math.nan)
        nothing = FAINT if kind == "noise" else NOTHING.get(kind, 0.0)
        # how much is learned where there is some
        silent = math.isnan(value) or value <= nothing or (kind == "jpeg" and value == 100)
        told.append(math.nan if silent else to_units(kind, value))
    return np.array([there, told], dtype=np.float32)


def crop(photographs: list[Tensor], seed: int, step: int) -> Tensor:
    """One random crop, (1,3,s,s) in [0,1], 64 ≤ s ≤ WHOLE; many have all of a photograph's short side."""
    size = int(64 * 7 ** _between(0, 1, torch.Generator().manual_seed(seed * 1_000_003 + step)))
    return (data.random_crops(photographs, 1, min(size, WHOLE), seed, step) + 1) / 2


def small_copy(photographs: list[Tensor], seed: int, step: int) -> Tensor:
    """A large part of one photograph with SMALL pixels on its short side, (1,3,h,w) in [0,1]."""
    generator = torch.Generator().manual_seed(seed * 1_000_003 + step)
    photograph = photographs[int(torch.randint(len(photographs), (), generator=generator))]
    part = _between(0.6, 1.0, generator)
    height, width = (round(part * side) for side in photograph.shape[1:])
    top, left = (
        int(_between(0, whole - side + 1, generator))
        for whole, side in zip(photograph.shape[1:], (height, width), strict=True)
    )
    x = photograph[None, :, top : top + height, left : left + width].float() / 255
    scale = SMALL / min(height, width)
    x = F.interpolate(x, [round(height * scale), round(width * scale)], mode="area")
    return x.flip(-1) if torch.rand((), generator=generator).item() < 0.5 else x


def pixels_of(x: Tensor) -> np.ndarray:
    """(1,3,H,W) in [0,1] -> (H,W,3) in [0,255]."""
    return (x[0] * 255).permute(1, 2, 0).numpy()


def textured(photographs: list[Tensor], seed: int, step: int) -> tuple[np.ndarray, np.ndarray]:
    """Statistics and labels of one damaged crop."""
    x = crop(photographs, seed, step)
    sample = damage(x, torch.Generator().manual_seed(seed * 7_000_003 + step))
    light_left = (sample.quiet.mean() / x.mean().clamp_min(1e-3)).clamp(0.1, 1).item()
    truth = labels(KINDS["texture"], sample.values, light_left)
    if sample.values["blur"] > 0.5:  # a blurred picture has no detail for its size either
        truth[1, KINDS["texture"].index("enlargement")] = math.nan
    return texture(pixels_of(sample.y)), truth


def lit(photographs: list[Tensor], seed: int, step: int) -> tuple[np.ndarray, np.ndarray]:
    """Statistics and labels of one small copy."""
    y, values = darken(
        small_copy(photographs, seed, step), torch.Generator().manual_seed(seed * 7_000_003 + step)
    )
    return light(pixels_of(y)), labels(KINDS["light"], values)


MAKERS = {"texture": textured, "light": lit}


def dataset(name: str, photographs: list[Tensor], steps: range, seed: int) -> tuple[Tensor, Tensor]:
    """Statistics (n,f) and labels (n,2,k) of what damage the seed draws at each step."""
    rows = [MAKERS[name](photographs, seed, step) for step in tqdm(steps, desc=name)]
    statistics, truths = zip(*rows, strict=True)
    return torch.from_numpy(np.stack(statistics)), torch.from_numpy(np.stack(truths))


def loss(reader: Reader, statistics: Tensor, truth: Tensor) -> Tensor:
    """Cross entropy of presence and the Huber loss of the values in their own spread, over what is taught."""
    logits, told = reader(statistics)
    there, value = truth[:, 0], truth[:, 1]
    presence = F.binary_cross_entropy_with_logits(logits, there.nan_to_num(), reduction="none")[
        ~there.isnan()
    ].mean()
    error = F.smooth_l1_loss(
        (told - value.nan_to_num()) / reader.value_spread, torch.zeros_like(told), reduction="none", beta=0.2
    )
    return presence + 2 * error[~value.isnan()].mean()


def fit(statistics: Tensor, truth: Tensor, epochs: int, seed: int) -> Reader:
    """A network trained on all of it, its rate falling to nothing."""
    torch.manual_seed(seed)
    reader = Reader(statistics.shape[1], truth.shape[2])
    reader.centre, reader.spread = statistics.mean(0), statistics.std(0).clamp_min(1e-3)
    values = truth[:, 1]
    reader.value_centre = values.nanmean(0)
    reader.value_spread = (values - reader.value_centre).square().nanmean(0).sqrt().clamp_min(1e-3)
    optimiser = torch.optim.AdamW(reader.parameters(), 2e-3, weight_decay=1e-2)
    batch = min(128, len(statistics))
    steps = epochs * (len(statistics) // batch)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 2e-3, total_steps=max(2, steps))
    for step in tqdm(range(steps), desc="training"):
        picks = torch.randint(
            len(statistics), (batch,), generator=torch.Generator().manual_seed(seed * 31 + step)
        )
        optimiser.zero_grad()
        loss(reader, statistics[picks], truth[picks]).backward()
        nn.utils.clip_grad_norm_(reader.parameters(), 1.0)
        optimiser.step()
        schedule.step()
    return reader.eval()


@torch.no_grad()
def place_thresholds(name: str, reader: Reader, statistics: Tensor) -> None:
    """The logit of each kind counts from what FALSE_ALARMS of photographs taken to be clean, whose statistics
    (n,f) these are, exceed.
    """
    reader.threshold = torch.zeros(len(KINDS[name]))
    logits, _ = reader(statistics)
    shares = [1 - FALSE_ALARMS.get(kind, RARELY) for kind in KINDS[name]]
    reader.threshold = torch.stack([logits[:, k].quantile(share) for k, share in enumerate(shares)])


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "shards", nargs="+", help="tar archives of photographs; the last --holdout pictures are not looked at"
    )
    parser.add_argument("--out", required=True, help="safetensors file to write")
    parser.add_argument("--texture", type=int, default=12_000, help="damaged crops to learn from")
    parser.add_argument(
        "--light", type=int, default=20_000, help="darkened or fogged small copies to learn from"
    )
    parser.add_argument(
        "--clean",
        type=int,
        default=1200,
        help="photographs that place the thresholds, the last of the training's",
    )
    parser.add_argument("--epochs", type=int, default=60)
    parser.add_argument("--holdout", type=int, default=64)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args(argv)
    photographs, _ = data.split(data.load_photographs(args.shards), args.holdout)
    clean, photographs = photographs[-args.clean :], photographs[: -args.clean]
    state: dict[str, Tensor] = {}
    for name in KINDS:
        reader = fit(
            *dataset(name, photographs, range(getattr(args, name)), args.seed), args.epochs, args.seed
        )
        rows = [
            STATISTICS[name](photograph.permute(1, 2, 0).numpy().astype(np.float32))
            for photograph in tqdm(clean, desc="clean")
        ]
        place_thresholds(name, reader, torch.from_numpy(np.stack(rows)))
        state |= {f"{name}.{key}": value.contiguous() for key, value in reader.state_dict().items()}
    save_file(state, args.out)


if __name__ == "__main__":
    main()
