"""The pictures of a benchmark: crops of clean ones degraded here, or pairs of two folders."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import torch
from torch import Tensor

from restoration.commands import cli
from restoration.degradations.blind import Damage
from restoration.degradations.blur import Blur
from restoration.files import images


def crop_centre(x: Tensor, size: int, multiple: int) -> Tensor:
    """The centre size×size (or as much as there is), sides a multiple of `multiple`."""
    height, width = (min(side, size) // multiple * multiple for side in x.shape[-2:])
    top, left = (x.shape[-2] - height) // 2, (x.shape[-1] - width) // 2
    return x[..., top : top + height, left : left + width]


def crop_pair(y: Tensor, clean: Tensor, size: int, factor: int) -> tuple[Tensor, Tensor]:
    """The centre of both, size×size of the clean one (or as much as there is).

    ValueError unless that is `factor` times as large a side as y.
    """
    height, width = y.shape[-2:]
    if clean.shape[-2:] != (factor * height, factor * width):
        raise ValueError(
            f"The clean picture is {clean.shape[-1]}×{clean.shape[-2]}, the degraded one {width}×{height}: "
            f"not {factor} times smaller."
        )
    height, width = (min(side, size // factor) for side in y.shape[-2:])
    top, left = (y.shape[-2] - height) // 2, (y.shape[-1] - width) // 2
    large = clean[..., factor * top : factor * (top + height), factor * left : factor * (left + width)]
    return y[..., top : top + height, left : left + width], large


def pictures(folder: str, limit: int | None = None) -> list[Path]:
    """The pictures in the folder by name. ValueError when there are none."""
    if not Path(folder).is_dir():
        raise ValueError(f"{folder} is not a folder.")
    files = sorted(
        p
        for p in Path(folder).iterdir()
        if p.suffix.lower() in images.SUFFIXES and not p.name.startswith(".") and p.is_file()
    )[:limit]
    if not files:
        raise ValueError(f"No pictures in {folder}.")
    return files


def partners(targets: list[Path], folder: str) -> dict[Path, Path]:
    """The degraded picture in `folder` of each clean one, of the same file name up to the suffix.

    ValueError names those without.
    """
    degraded: dict[str, list[Path]] = {}
    for path in pictures(folder):
        degraded.setdefault(path.stem, []).append(path)
    lonely = [path.name for path in targets if len(degraded.get(path.stem, [])) != 1]
    if lonely:
        some = ", ".join(lonely[:5]) + ("…" if len(lonely) > 5 else "")
        raise ValueError(
            f"{len(lonely)} of {len(targets)} clean pictures have not exactly one of the same name "
            f"in {folder}: {some}."
        )
    return {path: degraded[path.stem][0] for path in targets}


def pairs(args: argparse.Namespace, task: Damage | None, factor: int) -> list[tuple[str, Tensor, Tensor]]:
    """(name, observation, clean) of every picture, matched by file name; `factor` is the clean side over the
    observation's.

    Pictures that cannot be read are named on stderr and left out; ValueError when there are no others.
    """
    if bool(args.clean) == bool(args.input and args.target):
        raise ValueError("Give either --clean DIR, or --input DIR and --target DIR.")
    if args.clean and task is None:
        raise ValueError("--clean needs a --task: what to do to the clean pictures.")
    cli.check_least(args, crop=images.MIN_SIDE, limit=1, enlarge=1)
    folder, size = args.clean or args.target, args.crop or 10**6
    files = pictures(folder, args.limit)
    inputs = {} if args.clean else partners(files, args.input)
    result = []
    for number, file in enumerate(files):
        try:
            clean = images.read_image(file)
            y, clean = (
                crop_pair(images.read_image(inputs[file]), clean, size, factor) if inputs else (None, clean)
            )
        except ValueError as error:
            print(f"{file.name}: {error}", file=sys.stderr)
            continue
        if y is None:
            assert task is not None
            y, clean = damaged(clean, task, args, factor, torch.Generator().manual_seed(args.seed + number))
        result.append((file.name, y, clean))
    if not result:
        raise ValueError(f"None of the {len(files)} pictures in {folder} can be used.")
    return result


def damaged(
    clean: Tensor, task: Damage, args: argparse.Namespace, factor: int, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """(observation, clean) of the centre crop.

    With --border real it is the interior of a blurred larger crop, else the blur is circular.
    """
    margin = task.margin if args.border == "real" and isinstance(task, Blur) else 0
    clean = crop_centre(clean, (args.crop or 10**6) + 2 * margin, factor)
    y = task.degrade(clean, generator)
    if not margin:
        return y, clean
    inside = (..., slice(margin, -margin), slice(margin, -margin))
    return images.quantise(y[inside]), clean[inside]
