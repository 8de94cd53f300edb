"""Train the damage meter: `python -m restoration.training.meter SHARD… --out FILE.safetensors`, on one
processor.

Photographs are damaged at random with known strength, the statistics of each damaged picture are taken once,
and a small network learns to read them. Part of the training's photographs, left clean, then place the
threshold of each kind of damage. Light and haze: light.py.
"""

from __future__ import annotations

import math

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor, nn
from tqdm import tqdm

from restoration.degradations.features import texture
from restoration.degradations.meter import KINDS, Reader
from restoration.parser import parser as command_parser
from restoration.training import data
from restoration.training.meter_damage import between, damage, labels

FALSE_ALARMS = {"noise": 0.006}  # of them, in these kinds
RARELY = 0.001  # and in the others
WHOLE = 256  # the short side of the photographs


def crop(photographs: list[Tensor], seed: int, step: int) -> Tensor:
    """One random crop, (1,3,s,s) in [0,1], 64 ≤ s ≤ WHOLE; many have all of a photograph's short side."""
    size = int(64 * 7 ** between(0, 1, torch.Generator().manual_seed(seed * 1_000_003 + step)))
    return (data.random_crops(photographs, 1, min(size, WHOLE), seed, step) + 1) / 2


def pixels_of(x: Tensor) -> np.ndarray:
    """(1,3,H,W) in [0,1] -> (H,W,3) in [0,255]."""
    return (x[0] * 255).permute(1, 2, 0).numpy()


def textured(photographs: list[Tensor], seed: int, step: int) -> tuple[np.ndarray, np.ndarray]:
    """Statistics and labels of one damaged crop."""
    x = crop(photographs, seed, step)
    sample = damage(x, torch.Generator().manual_seed(seed * 7_000_003 + step))
    light_left = (sample.quiet.mean() / x.mean().clamp_min(1e-3)).clamp(0.1, 1).item()
    truth = labels(KINDS, sample.values, light_left)
    if sample.values["blur"] > 0.5:  # a blurred picture has no detail for its size either
        truth[1, KINDS.index("enlargement")] = math.nan
    return texture(pixels_of(sample.y)), truth


def dataset(photographs: list[Tensor], steps: range, seed: int) -> tuple[Tensor, Tensor]:
    """Statistics (n,f) and labels (n,2,k) of what damage the seed draws at each step."""
    rows = [textured(photographs, seed, step) for step in tqdm(steps, desc="damage")]
    statistics, truths = zip(*rows, strict=True)
    return torch.from_numpy(np.stack(statistics)), torch.from_numpy(np.stack(truths))


def loss(reader: Reader, statistics: Tensor, truth: Tensor) -> Tensor:
    """Cross entropy of presence and the Huber loss of the values in their own spread, over what is taught."""
    logits, outputs = reader(statistics)
    present, value = truth[:, 0], truth[:, 1]
    presence = F.binary_cross_entropy_with_logits(logits, present.nan_to_num(), reduction="none")[
        ~present.isnan()
    ].mean()
    error = F.smooth_l1_loss(
        (outputs - value.nan_to_num()) / reader.value_spread,
        torch.zeros_like(outputs),
        reduction="none",
        beta=0.2,
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
def place_thresholds(reader: Reader, statistics: Tensor) -> None:
    """The logit of each kind counts from what FALSE_ALARMS of photographs taken to be clean, whose statistics
    (n,f) these are, exceed.
    """
    reader.threshold = torch.zeros(len(KINDS))
    logits, _ = reader(statistics)
    shares = [1 - FALSE_ALARMS.get(kind, RARELY) for kind in KINDS]
    reader.threshold = torch.stack([logits[:, k].quantile(share) for k, share in enumerate(shares)])


def main(argv: list[str] | None = None, prog: str = "python -m restoration.training.meter") -> None:
    parser = command_parser(prog, __doc__, "photographs-*.tar --out meter.safetensors")
    parser.add_argument(
        "shards", nargs="+", help="tar archives of photographs; the last --holdout pictures are not looked at"
    )
    parser.add_argument("--out", required=True, help="safetensors file to write")
    parser.add_argument("--crops", type=int, default=12_000, help="damaged crops to learn from")
    parser.add_argument(
        "--clean",
        type=int,
        default=1200,
        help="photographs that place the thresholds, the last of the training's",
    )
    parser.add_argument("--epochs", type=int, default=60, help="passes over the statistics")
    parser.add_argument("--holdout", type=int, default=64, help="last photographs, kept for evaluation")
    parser.add_argument("--seed", type=int, default=0, help="of the damage and of the training")
    args = parser.parse_args(argv)
    photographs, _ = data.split(data.load_photographs(args.shards), args.holdout)
    clean, photographs = photographs[-args.clean :], photographs[: -args.clean]
    reader = fit(*dataset(photographs, range(args.crops), args.seed), args.epochs, args.seed)
    rows = [
        texture(photograph.permute(1, 2, 0).numpy().astype(np.float32))
        for photograph in tqdm(clean, desc="clean")
    ]
    place_thresholds(reader, torch.from_numpy(np.stack(rows)))
    save_file({name: value.contiguous() for name, value in reader.state_dict().items()}, args.out)


if __name__ == "__main__":
    main()
