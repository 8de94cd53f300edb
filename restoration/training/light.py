"""Train the part of the damage meter that judges light and haze:
`python -m restoration.training.light SHARD… --out FILE.safetensors --checkpoint FILE`.

Small copies of photographs are darkened, backlit and fogged with known maps; the network learns the maps with
which the photograph comes back best, and whether there is damage at all. Clean photographs that it has not
learned from then place the threshold of each kind.
"""

from __future__ import annotations

from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor, nn
from tqdm import tqdm

from restoration.degradations.light import KINDS, SIDE, UNITS, Light, LightNet, clear, load_light
from restoration.degradations.tone import relit
from restoration.training import data, loop
from restoration.training.light_damage import Lit, draw

# what is surely there: stops, stops, mean share of haze; between nothing and this, nothing is taught
THERE = (1.3, 1.3, 0.15)
FALSE_ALARMS = {"darkness": 0.006, "backlight": 0.006, "veil": 0.006}  # of clean photographs
FLOOR = 4e-4  # a mean square error below this is not worth more
WEIGHTS = {"picture": 1.0, "stops": 0.15, "presence": 0.7, "amount": 0.2}
EXAMPLE = "photographs-*.tar --out light.safetensors --checkpoint light.pt --max-minutes 60"


def restored(y: Tensor, light: Light, dark: Tensor, foggy: Tensor) -> Tensor:
    """y (B,3,SIDE,SIDE) as the maps restore it of what there is: dark, foggy (B,1,1,1) are 0 or 1."""
    stops, veil = (F.interpolate(part, y.shape[-2:], mode="bilinear") for part in (light.stops, light.veil))
    lit = torch.where(dark > 0, relit(y.clamp(1e-4, 1 - 1e-4), stops, light.share), y)
    return torch.where(foggy > 0, clear(lit, veil, light.air), lit)


def losses(network: nn.Module, rows: list[Lit]) -> dict[str, Tensor]:
    """Of WEIGHTS: the logarithm of the restored picture's error, of the maps where the curve is known, of
    presence and of amounts.
    """
    x, y, truth = (torch.cat([getattr(row, name) for row in rows]) for name in ("x", "y", "stops"))
    dark, foggy, curved = (
        torch.tensor([float(getattr(row, name)) for row in rows])[:, None, None, None]
        for name in ("dark", "foggy", "curved")
    )
    amounts = torch.tensor([row.amounts for row in rows])
    light = network(y)
    error = (restored(y, light, dark, foggy) - x).square().mean((1, 2, 3))
    damaged, known = (dark + foggy).flatten().clamp_max(1), (dark * curved).flatten()
    truth = F.adaptive_avg_pool2d(truth, light.stops.shape[-2:])
    apart = F.smooth_l1_loss(light.stops, truth, reduction="none", beta=0.3).mean((1, 2, 3))
    there = (amounts >= torch.tensor(THERE)).float()
    taught = there.bool() | (amounts <= 0)
    presence = F.binary_cross_entropy_with_logits(light.logits, there, reduction="none")[taught]
    units = amounts.new_tensor(UNITS)
    some = amounts > 0  # False for nan
    amount = F.smooth_l1_loss(light.amounts / units, amounts.nan_to_num() / units, reduction="none", beta=0.3)
    return {
        "picture": (torch.log(error + FLOOR) / 2 * damaged).sum() / damaged.sum().clamp_min(1),
        "stops": (apart * known).sum() / known.sum().clamp_min(1),
        "presence": presence.sum() / len(presence) if len(presence) else presence.sum(),
        "amount": amount[some].sum() / some.sum().clamp_min(1),
    }


@torch.no_grad()
def place_thresholds(network: LightNet, clean: list[Tensor]) -> None:
    """The logit of each kind counts from what FALSE_ALARMS of clean photographs, uint8 (3,h,w), exceed."""
    network.threshold.zero_()
    copies = [F.adaptive_avg_pool2d(x.float() / 255, SIDE) for x in clean]
    logits = torch.cat([network(torch.stack(copies[k : k + 64])).logits for k in range(0, len(copies), 64)])
    shares = [1 - FALSE_ALARMS[kind] for kind in KINDS]
    network.threshold.copy_(torch.stack([logits[:, k].quantile(q) for k, q in enumerate(shares)]))


def main(argv: list[str] | None = None, prog: str = "python -m restoration.training.light") -> None:
    parser = loop.arguments(
        prog, __doc__, EXAMPLE, batch=24, rate=1.5e-3, steps=8000, ema=0.995, device="cpu"
    )
    parser.add_argument(
        "--clean", type=int, default=1200, help="photographs that place the thresholds, the training's last"
    )
    parser.add_argument("--start", type=Path, metavar="FILE", help="the network to begin with, as in --out")
    args = parser.parse_args(argv)
    torch.manual_seed(args.seed)
    network = LightNet()
    if args.start:
        network.load_state_dict(load_light(args.start).state_dict())
        network.threshold.zero_()  # it is placed anew
    photographs, held_out = data.split(data.load_photographs(args.shards, args.limit), args.holdout)
    # copies of somewhat more than SIDE take a tenth of the memory, and of the time to make small ones
    photographs = [_reduced(x) for x in tqdm(photographs, desc="copies")]
    clean, photographs = photographs[-args.clean :], photographs[: -args.clean]
    test = [draw(held_out, torch.Generator().manual_seed(k)) for k in range(4 * len(held_out))]

    def loss(model: nn.Module, step: int) -> Tensor:
        seed = (args.seed * 1_000_003 + step) * args.batch
        rows = [draw(photographs, torch.Generator().manual_seed(seed + k)) for k in range(args.batch)]
        with torch.autocast("cpu", enabled=False):  # powers and sines of small numbers
            parts = losses(model, rows)
        return sum((WEIGHTS[name] * value for name, value in parts.items()), torch.zeros(()))

    @torch.no_grad()
    def evaluate(model: nn.Module) -> dict[str, float]:
        return {name: round(value.item(), 3) for name, value in losses(model, test).items()}

    def save(model: nn.Module) -> None:
        assert isinstance(model, LightNet)
        place_thresholds(model, clean)
        save_file({name: value.half().contiguous() for name, value in model.state_dict().items()}, args.out)

    loop.train(network, loss, evaluate, save, args)


def _reduced(photograph: Tensor) -> Tensor:
    """uint8 (3,h,w) with a short side of 5/4 SIDE."""
    scale = 1.25 * SIDE / min(photograph.shape[1:])
    size = [round(side * scale) for side in photograph.shape[1:]]
    return F.interpolate(photograph[None].float(), size, mode="area")[0].round().byte()


if __name__ == "__main__":
    main()
