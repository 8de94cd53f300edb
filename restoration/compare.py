"""Many results of one picture side by side: the spread over seeds, the table of scores, the contact sheet."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from restoration import images, metrics

CAPTION = 20  # pixels of a contact sheet's captions


@dataclass(frozen=True)
class Cell:
    """One picture of a comparison: image (1,3,H,W) in [0,1], and its scores where it has any."""

    title: str
    image: Tensor
    scores: Mapping[str, float]


def spread(pictures: Sequence[Tensor]) -> tuple[Tensor, Tensor, float]:
    """(mean, heat map, largest deviation) of n results (1,3,H,W) of one picture: where the seeds disagree, the prior invents.

    The heat map shows the standard deviation over the pictures, mean over channels, black at 0 to bright at its largest.
    """
    from matplotlib import colormaps

    stack = torch.cat(list(pictures))
    deviation = stack.std(0, correction=0).mean(0)
    top = deviation.max().item()
    colours = colormaps["inferno"]((deviation / max(top, 1e-6)).numpy())[..., :3]
    return stack.mean(0, keepdim=True), torch.from_numpy(colours).float().permute(2, 0, 1)[None], top


def score_table(cells: Sequence[Cell]) -> dict[str, list[str]]:
    """Columns of a table, a row per scored cell; the best of every metric is starred."""
    scored = [cell for cell in cells if cell.scores]
    names = [name for name in [*metrics.METRICS, "consistency", "seconds"] if any(name in cell.scores for cell in scored)]
    table: dict[str, list[str]] = {"picture": [cell.title for cell in scored]}
    for name in names:
        rising = name not in {"seconds"} and (name not in metrics.METRICS or metrics.METRICS[name].higher_is_better)
        values = [cell.scores[name] for cell in scored if name in cell.scores]
        best = max(values) if rising else min(values)
        title = f"{name} {'↑' if rising else '↓'}"
        table[title] = [_cell(cell.scores.get(name), best if name != "seconds" else None) for cell in scored]
    return table


def _cell(value: float | None, best: float | None) -> str:
    return "–" if value is None else f"{value:.3f}" + (" ★" if value == best else "")


def contact_sheet(cells: Sequence[Cell], columns: int = 4) -> Image.Image:
    """All pictures at their own size under their titles, in rows of `columns`."""
    side = [max(cell.image.shape[axis] for cell in cells) for axis in (-1, -2)]
    columns = min(columns, len(cells))
    sheet = Image.new("RGB", (columns * side[0], -(-len(cells) // columns) * (side[1] + CAPTION)), "white")
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(13)
    for k, cell in enumerate(cells):
        left, top = k % columns * side[0], k // columns * (side[1] + CAPTION)
        draw.text((left + 4, top + 2), cell.title, fill="black", font=font)
        sheet.paste(images.to_pil(cell.image), (left, top + CAPTION))
    return sheet
