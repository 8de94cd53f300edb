"""The pictures of a comparison: side by side, the table of their scores, and all of them as one archive."""

from __future__ import annotations

import functools
import html
import io
import re
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

import torch
from PIL import Image
from torch import Tensor

from restoration.evaluation import metrics
from restoration.files import images, recipe
from restoration.files.whole import whole_file
from restoration.page.state import EXAMPLES
from restoration.page.uploads import new_file

GIVEN = {"clean", "input"}  # the titles of what a visitor gave
CLASSICAL = "classical: "  # how the titles of the baselines begin
SHEET_SIDE = 512  # pixels of a picture in the contact sheet, at most
TOOLS = {
    "out": ("−", "Zoom out"), "in": ("+", "Zoom in"), "fit": ("Fit", "Whole pictures"), "pixels": ("1:1",
    "One to one"),
    "input": ("Hold: input", "Show the input as long as this is held"),
}  # fmt: skip
KEYS = (
    "All zoom and move together: wheel, drag, pinch, or + − arrows, 0 whole, 1 for 1:1, hold i for the input."
)
FINGERS = "All zoom and move together: pinch, then drag."


class Figure(NamedTuple):
    """A picture of a comparison as the page shows it: a file of the server, and its scores where it has any.

    The file is one of EXAMPLES or among the uploads; that of a run carries its recipe.
    """

    title: str
    scores: Mapping[str, float]
    file: str

    @property
    def source(self) -> str:
        """What an <img> of the page loads, relative to the page."""
        path = Path(self.file)
        if path.parent == EXAMPLES:
            return f"restoration/examples/{quote(path.name)}"
        return f"gradio_api/file={quote(self.file)}"


@dataclass(frozen=True)
class Cell:
    """One picture of a comparison: image (1,3,H,W) in [0,1], and its scores where it has any."""

    title: str
    image: Tensor
    scores: Mapping[str, float]
    recipe: Mapping[str, Any] | None = None  # of a run

    @functools.cached_property
    def figure(self) -> Figure:
        """The cell with its image as a file: written once, shown again with every further result."""
        file = new_file(f"{_plain(self.title)}.png")
        if self.recipe is None:
            images.to_pil(self.image).save(file, compress_level=1)
        else:
            recipe.save_png(self.image, file, self.recipe, self.scores)
        return Figure(self.title, self.scores, file)


def _plain(title: str) -> str:
    """A title as the name of a file."""
    return re.sub(r"[^\w.+-]+", "-", title).strip("-")[:80]


Scored = Cell | Figure  # what has a title and scores


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


def columns(cells: Sequence[Scored]) -> dict[str, tuple[bool, float | None]]:
    """Of every score that a cell has: whether more is better, and the best value; None where there is no
    contest, as before the first result.
    """
    early = all(cell.title in GIVEN or cell.title.startswith(CLASSICAL) for cell in cells)
    table: dict[str, tuple[bool, float | None]] = {}
    for name in [*metrics.METRICS, "consistency", "seconds"]:
        values = [cell.scores[name] for cell in cells if name in cell.scores]
        rising = name != "seconds" and (name not in metrics.METRICS or metrics.METRICS[name].higher_is_better)
        if values:
            table[name] = (
                rising,
                None if early or name == "seconds" or len(values) == 1 else (max if rising else min)(values),
            )
    return table


def score_table(cells: Sequence[Scored]) -> dict[str, list[str]]:
    """Columns of a table, a row per scored cell; the best of every metric is starred."""
    scored = [cell for cell in cells if cell.scores]
    table: dict[str, list[str]] = {"picture": [cell.title for cell in scored]}
    for name, (rising, best) in columns(scored).items():
        table[_headed(name, rising)] = [_cell(cell.scores.get(name), best) for cell in scored]
    return table


def score_list(cell: Scored, cells: Sequence[Scored]) -> str:
    """The scores of one cell as a list in HTML, marked as in the table; "" where it has none."""
    rows = "".join(
        f"<dt>{html.escape(_headed(name, rising))}</dt><dd>{_cell(cell.scores[name], best)}</dd>"
        for name, (rising, best) in columns(cells).items()
        if name in cell.scores
    )
    return rows and f'<dl class="scores">{rows}</dl>'


def won(cell: Scored, cells: Sequence[Scored]) -> list[str]:
    """The scores in which a cell is the best."""
    return [
        name
        for name, (_, best) in columns(cells).items()
        if best is not None and cell.scores.get(name) == best
    ]


def _headed(name: str, rising: bool) -> str:
    """A score's name, and which way is better."""
    return f"{name} {'↑' if rising else '↓'}"


def _cell(value: float | None, best: float | None) -> str:
    return "–" if value is None else f"{value:.3f}" + (" ★" if value == best else "")


def results_alone(figures: Sequence[Figure]) -> list[Figure]:
    """The pictures without the photograph: neither as it was nor as it was damaged."""
    return [figure for figure in figures if figure.title not in GIVEN]


def grid(figures: Sequence[Figure]) -> str:
    """The pictures of a comparison side by side, each with the scores in which it is the best; they zoom
    together.
    """
    drawn = []
    for figure in figures:
        title, best = html.escape(figure.title), html.escape(", ".join(won(figure, figures)))
        mark = f' <span class="won">★ best {best}</span>' if best else ""
        with Image.open(figure.file) as picture:  # its header: the page does not move as pictures arrive
            size = f'width="{picture.width}" height="{picture.height}"'
        role = " data-input" if figure.title == "input" else ""
        image = f'<img alt="{title}" src="{html.escape(figure.source)}" {size} draggable="false"{role}>'
        below = score_list(figure, figures)  # on a phone, for which the table is too wide
        drawn.append(f"<figure><figcaption>{title}{mark}</figcaption><div>{image}</div>{below}</figure>")
    buttons = "".join(
        f'<button type="button" data-tool="{tool}" aria-label="{name}" title="{name}">{sign}</button>'
        for tool, (sign, name) in TOOLS.items()
    )
    label = f'tabindex="0" role="group" aria-label="Results side by side. {KEYS}"'
    tools = f'<div class="tools">{buttons}<small>{KEYS}</small><small>{FINGERS}</small></div>'
    return f'{tools}<div class="zoom" {label}>{"".join(drawn)}</div>'


def archive(figures: Sequence[Figure], path: str | Path) -> None:
    """All pictures as a ZIP, those of runs with their recipes, the table of scores and a contact sheet."""
    with whole_file(path) as target, zipfile.ZipFile(target, "w", zipfile.ZIP_STORED) as file:
        for number, figure in enumerate(figures):
            file.write(figure.file, f"{number:02d}-{_plain(figure.title)}.png")
        file.writestr("contact-sheet.png", _sheet(figures))
        table = score_table(figures)
        rows = [table.keys(), *zip(*table.values(), strict=True)]
        file.writestr("scores.csv", "\n".join(map(",".join, rows)) + "\n")


def _sheet(figures: Sequence[Figure]) -> bytes:
    """The contact sheet of all pictures, a PNG; large ones are reduced."""
    small = []
    for figure in figures:
        picture = images.to_pil(images.read_image(figure.file))
        picture.thumbnail((SHEET_SIDE, SHEET_SIDE))
        small.append((figure.title, picture))
    images.sheet(small, columns=4).save(buffer := io.BytesIO(), format="PNG")
    return buffer.getvalue()
