"""The pictures of a comparison: the table of their scores, and all of them as one archive."""

from __future__ import annotations

import functools
import io
import re
import tempfile
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from restoration.evaluation import metrics
from restoration.files import images, recipe

GIVEN = {"clean", "input"}  # the titles of what a visitor gave


@dataclass(frozen=True)
class Cell:
    """One picture of a comparison: image (1,3,H,W) in [0,1], and its scores where it has any."""

    title: str
    image: Tensor
    scores: Mapping[str, float]
    recipe: Mapping[str, Any] | None = None  # of a run

    @functools.cached_property
    def png(self) -> bytes:
        """The image as a file: encoded once, shown again with every further result."""
        buffer = io.BytesIO()
        images.to_pil(self.image).save(buffer, format="PNG")
        return buffer.getvalue()


def spread(pictures: Sequence[Tensor]) -> tuple[Tensor, Tensor, float]:
    """(mean, heat map, largest deviation) of n results (1,3,H,W) of one picture: where the seeds disagree,
    the prior invents.

    The heat map shows the standard deviation over the pictures, mean over channels, black at 0 to bright at
    its largest.
    """
    from matplotlib import colormaps

    stack = torch.cat(list(pictures))
    deviation = stack.std(0, correction=0).mean(0)
    top = deviation.max().item()
    colours = colormaps["inferno"]((deviation / max(top, 1e-6)).numpy())[..., :3]
    return stack.mean(0, keepdim=True), torch.from_numpy(colours).float().permute(2, 0, 1)[None], top


def columns(cells: Sequence[Cell]) -> dict[str, tuple[bool, float | None]]:
    """Of every score that a cell has: whether more is better, and the best value; None where there is no
    contest.
    """
    table: dict[str, tuple[bool, float | None]] = {}
    for name in [*metrics.METRICS, "consistency", "seconds"]:
        values = [cell.scores[name] for cell in cells if name in cell.scores]
        rising = name != "seconds" and (name not in metrics.METRICS or metrics.METRICS[name].higher_is_better)
        if values:
            table[name] = (
                rising,
                None if name == "seconds" or len(values) == 1 else (max if rising else min)(values),
            )
    return table


def score_table(cells: Sequence[Cell]) -> dict[str, list[str]]:
    """Columns of a table, a row per scored cell; the best of every metric is starred."""
    scored = [cell for cell in cells if cell.scores]
    table: dict[str, list[str]] = {"picture": [cell.title for cell in scored]}
    for name, (rising, best) in columns(scored).items():
        table[f"{name} {'↑' if rising else '↓'}"] = [_cell(cell.scores.get(name), best) for cell in scored]
    return table


def won(cell: Cell, cells: Sequence[Cell]) -> list[str]:
    """The scores in which a cell is the best."""
    return [
        name
        for name, (_, best) in columns(cells).items()
        if best is not None and cell.scores.get(name) == best
    ]


def _cell(value: float | None, best: float | None) -> str:
    return "–" if value is None else f"{value:.3f}" + (" ★" if value == best else "")


def results_alone(cells: Sequence[Cell]) -> list[Cell]:
    """The cells without the photograph: neither as it was nor as it was damaged."""
    return [cell for cell in cells if cell.title not in GIVEN]


def archive(cells: Sequence[Cell], path: str) -> None:
    """All pictures as a ZIP, those of runs with their recipes, the table of scores and a contact sheet."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as file, tempfile.TemporaryDirectory() as folder:
        for number, cell in enumerate(cells):
            name = re.sub(r"[^\w.+-]+", "-", cell.title).strip("-")
            png = Path(folder, f"{number:02d}-{name}.png")
            if cell.recipe is None:
                png.write_bytes(cell.png)
            else:
                recipe.save_png(cell.image, png, cell.recipe, cell.scores)
            file.write(png, png.name)
        sheet = images.sheet([(cell.title, images.to_pil(cell.image)) for cell in cells], columns=4)
        sheet.save(picture := Path(folder, "contact-sheet.png"))
        file.write(picture, picture.name)
        table = score_table(cells)
        file.writestr(
            "scores.csv",
            "\n".join(",".join(row) for row in [table.keys(), *zip(*table.values(), strict=True)]) + "\n",
        )
