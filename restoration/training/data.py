"""Photographs straight from tar shards, and random crops that depend on (seed, step) alone, so that a resumed
run sees the batches an undisturbed one would have seen."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor
from tqdm import tqdm


def load_photographs(shards: Sequence[str | Path], limit: int | None = None) -> list[Tensor]:
    """Every picture of the tar shards as uint8 (3,H,W) RGB, in the order of the archives.

    ValueError when there is none.
    """
    photographs: list[Tensor] = []
    with ThreadPoolExecutor() as pool:
        for shard in tqdm(shards, desc="photographs", leave=False):
            with tarfile.open(shard) as archive:
                files = [archive.extractfile(member) for member in archive.getmembers() if member.isfile()]
                wanted = files if limit is None else files[: limit - len(photographs)]
                photographs += pool.map(_decoded, [file.read() for file in wanted if file is not None])
    if not photographs:
        raise ValueError(f"no photographs in {len(shards)} shard(s): {', '.join(map(str, shards))}")
    return photographs


def _decoded(file: bytes) -> Tensor:
    pixels = np.array(Image.open(io.BytesIO(file)).convert("RGB"))
    return torch.from_numpy(pixels).permute(2, 0, 1).contiguous()


def split(photographs: list[Tensor], holdout: int) -> tuple[list[Tensor], list[Tensor]]:
    """(training, held-out): the last `holdout` pictures are never trained on."""
    return photographs[:-holdout], photographs[-holdout:]


def random_crops(
    photographs: list[Tensor], count: int, size: int, seed: int, step: int, reduced: float = 0.0
) -> Tensor:
    """`count` random size×size crops with flips and transpositions, (count,3,size,size) float32 in [-1,1].

    reduced: the share of them that are reduced up to twice, as far as their picture is large enough.
    """
    generator = torch.Generator().manual_seed(seed * 1_000_003 + step)
    picks = torch.randint(len(photographs), (count,), generator=generator).tolist()
    crops = []
    for pick in picks:
        picture = photographs[pick]
        u, v, flip, transpose = torch.rand(4, generator=generator).tolist()
        side = _side(size, min(picture.shape[1:]), reduced, generator) if reduced else size
        top, left = int(u * (picture.shape[1] - side + 1)), int(v * (picture.shape[2] - side + 1))
        crop = shrunk(picture[:, top : top + side, left : left + side], size, size)
        crop = crop.flip(-1) if flip < 0.5 else crop
        crops.append(crop.transpose(1, 2) if transpose < 0.5 else crop)
    return torch.stack(crops).float() / 127.5 - 1


def _side(size: int, most: int, reduced: float, generator: torch.Generator) -> int:
    """The side in pixels of what becomes `size` pixels, in a picture of `most`."""
    chance, u = torch.rand(2, generator=generator).tolist()
    smallest = max(0.5, min(1.0, size / most))
    return round(size / (smallest + (1 - smallest) * u)) if chance < reduced else size


def shrunk(picture: Tensor, height: int, width: int) -> Tensor:
    """picture (3,H,W) uint8 reduced to (3,height,width) uint8."""
    if picture.shape[-2:] == (height, width):
        return picture
    small = F.interpolate(picture[None].float(), (height, width), mode="bicubic", antialias=True)[0]
    return small.round().clamp(0, 255).byte()


def centre_crops(photographs: list[Tensor], size: int) -> Tensor:
    """Centre crops, (N,3,size,size) float32 in [-1,1]."""
    crops = []
    for picture in photographs:
        top, left = (picture.shape[1] - size) // 2, (picture.shape[2] - size) // 2
        crops.append(picture[:, top : top + size, left : left + size])
    return torch.stack(crops).float() / 127.5 - 1
