"""A part of the photograph that alone is restored: a frame over it, which the mouse, a finger or keys move.

static/part.js draws the frame. What is in it becomes a photograph of its own, at all the detail of the file.
"""

from __future__ import annotations

import contextlib
import html
from typing import NamedTuple

import gradio as gr

from restoration.degradations.jpeg_traces import as_text, quality_of_file
from restoration.files import images
from restoration.files.recipe import parse_json
from restoration.page.uploads import checked_photo, new_file

LONGEST = 200  # characters of a frame's four numbers
SHEET = """<div class="part" data-place="{place}">
<p>A part is restored in finer detail than the whole of a large photograph. Drag the frame over it, or draw
another; by keys: arrows move it, + and − change its size.</p>
<div class="sheet"><img alt=""><div class="frame" tabindex="0" role="group"
aria-label="The part to restore: arrows move it, plus and minus change its size"></div></div>
<div class="tools"><button type="button" data-part="smaller">Smaller</button>
<button type="button" data-part="larger">Larger</button><output></output></div>
</div>"""


class PartFold(NamedTuple):
    """The fold; the button that takes the part, and the one that takes the whole photograph again; frame: the
    four numbers on their way to the server, as JSON.
    """

    fold: gr.Accordion
    take: gr.Button
    whole: gr.Button
    frame: gr.Textbox

    def shown(self, is_part: bool) -> dict[gr.blocks.Block, object]:
        """What an upload, or a part of it, makes of the fold."""
        return {self.fold: gr.update(visible=True, open=False), self.whole: gr.update(visible=is_part)}


def part_fold(place: str) -> PartFold:
    """The frame over the photograph of a tab, folded; there once a photograph is."""
    with gr.Accordion("Only a part of it", open=False, visible=False, elem_id=f"part-{place}") as fold:
        gr.HTML(SHEET.format(place=html.escape(place)), padding=False)
        with gr.Row():
            take = gr.Button("Take this part", size="sm", elem_id=f"take-{place}", min_width=120)
            words = "The whole photograph again"
            whole = gr.Button(words, size="sm", visible=False, elem_id=f"whole-{place}", min_width=120)
    return PartFold(fold, take, whole, gr.Textbox(visible=False))


def cut_out(photo: str | None, frame: str) -> str:
    """A file of the part of a photograph that `frame`, JSON of (left, top, right, bottom) in fractions of its
    sides, encloses; of a JPEG it tells the quality. ValueError, one sentence, where there is none.
    """
    if not photo:
        raise ValueError("Choose a photograph first.")
    checked_photo(photo)
    enclosed = sides(frame)  # all of a very large photograph is read at the size that is kept
    x, alpha, _ = images.read_photo(photo, 1, part=None if enclosed == [0, 0, 1, 1] else enclosed)
    part = images.to_pil(x)
    file = new_file("part.png")
    told = as_text(quality_of_file(photo))
    (images.see_through(part, alpha) if alpha else part).save(file, compress_level=1, pnginfo=told)
    return file


def sides(frame: str) -> list[float]:
    """(left, top, right, bottom) of what a browser sends. ValueError for anything else."""
    numbers = None
    with contextlib.suppress(ValueError):
        numbers = parse_json(frame) if isinstance(frame, str) and len(frame) <= LONGEST else None
    if (
        not isinstance(numbers, list)
        or len(numbers) != 4
        or any(type(number) not in (int, float) or not 0 <= number <= 1 for number in numbers)
        or numbers[0] >= numbers[2]
        or numbers[1] >= numbers[3]
    ):
        raise ValueError("Draw a frame over the part first.")
    return [float(number) for number in numbers]
