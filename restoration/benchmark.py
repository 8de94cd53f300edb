"""python -m restoration.benchmark --clean DIR --task TASK: a table of scores, beside the input's and a classical baseline's.

Blind solvers also take photographs whose degradation nobody knows: --input DIR --target DIR without a task.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from restoration import cli, images, metrics
from restoration.baselines import BASELINES
from restoration.corruptions import Corruption
from restoration.degradations import Denoise, LinearDegradation, SuperResolution, _Blur
from restoration.prior import LatentPrior, load_prior
from restoration.run import restore
from restoration.solvers.base import Solver

SUFFIXES = {".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff"}
WIENER_BALANCES = (0.0003, 0.001, 0.003, 0.01, 0.03, 0.1)


def non_local_means(y: Tensor, degradation: LinearDegradation) -> Tensor:
    """scikit-image's fast non-local means with the true noise level."""
    from skimage.restoration import denoise_nl_means

    sigma = degradation.noise
    out = denoise_nl_means(_array(y), patch_size=5, patch_distance=6, h=0.8 * sigma, sigma=sigma, fast_mode=True, channel_axis=-1)
    return _tensor(out)


def wiener(y: Tensor, degradation: LinearDegradation, balance: float) -> Tensor:
    """scikit-image's Wiener-Hunt deconvolution, channel by channel."""
    from skimage.restoration import wiener as skimage_wiener

    assert isinstance(degradation, _Blur)
    kernel = degradation._kernel.numpy()
    return _tensor(np.stack([skimage_wiener(c, kernel, balance, clip=False) for c in _array(y).transpose(2, 0, 1)], -1))


def baselines(degradation: LinearDegradation | None, task: str | None) -> dict[str, Callable[[Tensor], Tensor]]:
    """The classical methods to beat, by name; several Wiener balances, of which the best on the set is reported."""
    if isinstance(degradation, Denoise):
        return {"non-local means": lambda y: non_local_means(y, degradation)}
    if isinstance(degradation, _Blur):
        return {f"Wiener {b}": lambda y, b=b: wiener(y, degradation, b) for b in WIENER_BALANCES}  # type: ignore[misc]
    if degradation is None:
        return {BASELINES[task][0]: BASELINES[task][1]} if task in BASELINES else {}
    return {"bicubic" if isinstance(degradation, SuperResolution) else "fill": degradation.start}


def _array(x: Tensor) -> np.ndarray:
    return x[0].permute(1, 2, 0).double().numpy()


def _tensor(a: np.ndarray) -> Tensor:
    return torch.from_numpy(a).float().permute(2, 0, 1)[None]


def crop_centre(x: Tensor, size: int, multiple: int) -> Tensor:
    """The centre size×size (or as much as there is), sides a multiple of `multiple`."""
    height, width = (min(side, size) // multiple * multiple for side in x.shape[-2:])
    top, left = (x.shape[-2] - height) // 2, (x.shape[-1] - width) // 2
    return x[..., top : top + height, left : left + width]


def pairs(args: argparse.Namespace, task: LinearDegradation | Corruption | None, factor: int) -> list[tuple[str, Tensor, Tensor]]:
    """(name, observation, clean) of every picture, matched by file name; `factor` is the clean side over the observation's."""
    if bool(args.clean) == bool(args.input and args.target):
        raise ValueError("Give either --clean DIR, or --input DIR and --target DIR.")
    if args.clean and task is None:
        raise ValueError("--clean needs a --task: what to do to the clean pictures.")
    files = sorted(p for p in Path(args.clean or args.target).iterdir() if p.suffix.lower() in SUFFIXES)[: args.limit]
    if not files:
        raise ValueError(f"No pictures in {args.clean or args.target}.")
    result = []
    for number, file in enumerate(files):
        clean = images.read_image(file)
        if task is not None and args.clean:
            clean = crop_centre(clean, args.crop or 10**6, factor)
            y = task.degrade(clean, torch.Generator().manual_seed(args.seed + number))
        else:
            y = images.read_image(Path(args.input) / file.name)
        result.append((file.name, y, clean))
    return result


def run_one(
    y: Tensor, clean: Tensor, solver: Solver, prior: LatentPrior, degradation: LinearDegradation | None, args: argparse.Namespace
) -> tuple[dict[str, float], dict[str, float]]:
    """(scores, the solver's own figures at its last step) of one picture."""
    result, scalars = None, {}
    for step in restore(y, solver, prior, degradation, reference=clean, seed=args.seed, periodic=bool(args.clean)):
        result, scalars = step.result, dict(step.scalars)
    assert result is not None
    ceiling = prior.decode(prior.encode(clean), (clean.shape[-2], clean.shape[-1])).cpu()
    return dict(result.scores) | {"seconds": result.seconds, "ceiling": metrics.psnr(images.quantise(ceiling), clean)}, scalars


def mean(rows: list[dict[str, Any]], key: str) -> dict[str, float]:
    """Mean over the pictures of every score of `key`."""
    return {name: float(np.mean([row[key][name] for row in rows])) for name in rows[0][key]}


def main(argv: list[str] | None = None) -> int:
    """0 after printing the table, 2 after one line about bad input."""
    parser = argparse.ArgumentParser(prog="python -m restoration.benchmark", description=__doc__)
    parser.add_argument("--clean", help="folder of clean pictures, degraded here")
    parser.add_argument("--input", help="folder of degraded pictures")
    parser.add_argument("--target", help="folder of their clean versions, same file names")
    parser.add_argument("--crop", type=int, help="use the centre crop of this side")
    parser.add_argument("--limit", type=int, help="use only the first pictures")
    parser.add_argument("--json", help="file for all figures")
    cli.add_options(parser)
    args = parser.parse_args(argv)
    try:
        solver, task = cli.build(args)
        degradation = task if isinstance(task, LinearDegradation) and not solver.blind else None
        factor = solver.factor(degradation)
        todo = pairs(args, task, factor)
        prior = load_prior(args.prior)
        methods = baselines(degradation, args.task)
        rows: list[dict[str, Any]] = []
        for name, y, clean in tqdm(todo):
            whole = y if degradation is None or y.shape == clean.shape else degradation.start(y)
            row: dict[str, Any] = {"name": name, "input": metrics.score(images.quantise(whole), clean)}
            for method, function in methods.items():
                began = time.perf_counter()
                row[method] = metrics.score(images.quantise(function(y)), clean) | {"seconds": time.perf_counter() - began}
            row["result"], row["scalars"] = run_one(y, clean, solver, prior, degradation, args)
            rows.append(row)
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    keys = ["input", *methods, "result"]
    means = {key: mean(rows, key) for key in keys}
    if isinstance(degradation, _Blur):
        best = max(methods, key=lambda m: means[m]["PSNR"])
        means = {k: v for k, v in means.items() if k in {"input", best, "result"}}
    print(table(means))
    print(improved(rows))
    if args.json:
        settings = {"arguments": vars(args), "torch": torch.__version__, "threads": torch.get_num_threads()}
        Path(args.json).write_text(json.dumps({"settings": settings, "mean": means, "images": rows}, indent=1))
    return 0


def improved(rows: list[dict[str, Any]]) -> str:
    """How many results beat their input in both PSNR and SSIM, and the worst of them."""
    ratios = [row["result"]["SSIM"] / row["input"]["SSIM"] for row in rows]
    better = [row["result"]["PSNR"] > row["input"]["PSNR"] and ratio > 1 for row, ratio in zip(rows, ratios, strict=True)]
    return f"PSNR and SSIM above the input's: {sum(better)} of {len(rows)}; lowest SSIM {min(ratios):.2f} times the input's."


def table(means: dict[str, dict[str, float]]) -> str:
    """One Markdown table, a row per method."""
    columns = list(means["result"])
    lines = ["| | " + " | ".join(columns) + " |", "|---" * (len(columns) + 1) + "|"]
    for name, scores in means.items():
        cells = (f"{scores[c]:.3f}" if c in scores else "–" for c in columns)
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
