"""The tab that restores one picture with several methods and shows the results side by side."""

from __future__ import annotations

import functools
import html
import json
import time
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import gradio as gr
import pandas as pd

from restoration import pace
from restoration.files import images
from restoration.page import compare, compare_cells, compare_choices, device
from restoration.page.actions import loaded, steps_of, time_limit
from restoration.page.controls import begin, picture, stoppable
from restoration.page.device import ON_DEVICE, on_gpu
from restoration.page.display import bar, data_uri, one_sentence, sentence
from restoration.page.events import AT_ONCE, PRIVATE
from restoration.page.state import EXAMPLES
from restoration.page.uploads import checked_photo, new_file
from restoration.priors.latent import in_memory

TOOLS = {
    "out": ("−", "Zoom out"), "in": ("+", "Zoom in"), "fit": ("Fit", "Whole pictures"), "pixels": ("1:1",
    "One to one"),
    "input": ("Hold: input", "Show the input as long as this is held"),
}  # fmt: skip
KEYS = (
    "All zoom and move together: wheel, drag, pinch, or + − arrows, 0 whole, 1 for 1:1, hold i for the input."
)


def grid(cells: Sequence[compare_cells.Cell]) -> str:
    """The pictures of a comparison side by side, each with the scores in which it is the best; they zoom
    together.
    """
    figures = []
    for cell in cells:
        title, won = html.escape(cell.title), html.escape(", ".join(compare_cells.won(cell, cells)))
        best = f' <span class="won">★ best {won}</span>' if won else ""
        role = " data-input" if cell.title == "input" else ""
        image = f'<img alt="{title}" src="{data_uri(cell.png)}" draggable="false"{role}>'
        figures.append(f"<figure><figcaption>{title}{best}</figcaption><div>{image}</div></figure>")
    buttons = "".join(
        f'<button type="button" data-tool="{tool}" aria-label="{name}" title="{name}">{sign}</button>'
        for tool, (sign, name) in TOOLS.items()
    )
    label = f'tabindex="0" role="group" aria-label="Results side by side. {KEYS}"'
    tools = f'<div class="tools">{buttons}<small>{KEYS}</small></div>'
    return f'{tools}<div class="zoom" {label}>{"".join(figures)}</div>'


def compared(photo: str | None, damage: str, choices: list[str], seeds: float) -> Iterator[tuple[Any, ...]]:
    """Restore the picture with every choice and seed; yield (status, grid, table, file, what to say should
    this be the end).
    """
    if not photo or not choices:
        raise gr.Error("Choose a picture and at least one method.", print_exception=False)
    with one_sentence():
        checked_photo(photo)
        runs, count = compare_choices.checked(damage, choices, seeds)
        read = html.escape(images.how_read(photo))
        yield f"{read}. Getting ready…" if read else "Getting ready…", None, None, None, "Stopped."
        given = images.read_image(photo, 1)
        needed = compare.seconds((given.shape[-1], given.shape[-2]), damage, runs, count)
        if needed > device.TIME_LIMIT:
            limit = f"{device.TIME_LIMIT:.0f} s is the limit: fewer methods, fewer seeds, a smaller picture"
            raise ValueError(f"This would take about {needed:.0f} s, and {limit}.")
        prior, began = loaded("embedded"), time.monotonic()
        restore_until = functools.partial(steps_of, until=time_limit())
        for now in compare.compare(given, damage, runs, count, prior, restore_until):
            spent = time.monotonic() - began
            left = spent / now.share * (1 - now.share) if now.share > 0.1 else max(0.0, needed - spent)
            status = bar(int(1000 * now.share), 1000, f"{now.note} · {left:.0f} s left")
            shown = (
                (grid(now.cells), pd.DataFrame(compare_cells.score_table(now.cells)))
                if now.new
                else (gr.skip(), gr.skip())
            )
            yield status, *shown, None, "Stopped: this is how far it got."
        if not now.cells:
            raise ValueError(now.note)
        compare_cells.archive(now.cells, file := new_file("comparison.zip"))
        note = html.escape(now.note) + (f" The picture: {read}." if read else "")
        yield note, gr.skip(), gr.skip(), file, ""


def forecast(photo: str | None, damage: str, choices: list[str], seeds: float) -> str:
    """How long it will take, as HTML, or why it cannot be."""
    if not photo or not choices:
        return "Choose a picture and at least one method."
    try:
        checked_photo(photo)
        runs, count = compare_choices.checked(damage, choices, seeds)
        width, height = images.size_read(photo)
        needed = compare.seconds((width, height), damage, runs, count)
    except (ValueError, OSError, MemoryError) as error:
        return html.escape(sentence(error))
    over = f", and {device.TIME_LIMIT:.0f} s is the limit" if needed > device.TIME_LIMIT else ""
    there = in_memory("embedded", device.DEVICE)
    pixels = len(runs) * count * width * height
    wait = pace.estimate_wait(needed, "embedded", pixels, loaded=there)
    first = "" if there else ", the model loaded first"
    return f"{len(runs) * count} runs: {pace.about(wait)}{first}{over}."


class CompareTab(NamedTuple):
    """What an upload fills in: controls, the line about the photograph, the result's places, and the button
    to the method that is likely the best, named in a hidden box.
    """

    photo: gr.Image
    damage: gr.Dropdown
    methods: gr.CheckboxGroup
    seen: gr.HTML
    likely: gr.Textbox
    quick: gr.Button
    start: gr.Button
    outputs: list[gr.components.Component]  # status, pictures, scores, file

    @property
    def filled(self) -> list[gr.components.Component]:
        """All that an upload fills in."""
        return [self.photo, self.damage, self.methods, self.seen, self.likely, self.quick, *self.outputs]


def compare_tab(page: gr.Blocks) -> CompareTab:
    """The picture, the choices and the results, which take the whole width; a stored comparison at first."""
    gr.Markdown("Your photograph, restored by every method, side by side.")
    damages = [(title, name) for name, title in compare_choices.damages().items()]
    with gr.Row():
        with gr.Column(scale=1, min_width=300):
            alt = "The picture to compare methods on"
            photo = picture(
                value=str(EXAMPLES / "chelsea.png"),
                label="Your picture",
                height=240,
                alt_text=alt,
                elem_id="photo-compare",
            )
        with gr.Column(scale=1, min_width=300):
            seen = gr.HTML(elem_id="seen-compare")
            likely = gr.Textbox(visible=False)
            quick = gr.Button(visible=False, elem_id="quick")
            with gr.Row():
                start = gr.Button("Compare", variant="primary", elem_id="start-compare")
                stop = gr.Button("Stop")
            budget = gr.HTML("&nbsp;")
            with gr.Accordion("What is compared: damage, methods, presets, seeds", open=False):
                info = "Without a clean picture only the scores that need none are shown"
                damage = gr.Dropdown(damages, value="denoise", label="What is done to it first", info=info)
                first = compare_choices.first({})
                methods = gr.CheckboxGroup(
                    compare_choices.choices(), value=first, label="Methods and presets"
                )
                info = "With several: their mean, and where they differ"
                seeds = gr.Slider(1, compare_choices.MOST_SEEDS, value=1, step=1, label="Seeds", info=info)
    status = gr.HTML(elem_id="status-compare", elem_classes="status")
    pictures = gr.HTML(padding=False, elem_id="compared")
    scores = gr.Dataframe(headers=["picture"], label="Scores: ★ is the best of its column", interactive=False)
    file = gr.File(
        label="Download: all pictures with their recipes, scores, contact sheet",
        height=80,
        interactive=False,
        elem_classes="download",
    )
    outputs = [status, pictures, scores, file]
    last_words, inputs = gr.State(""), [photo, damage, methods, seeds]

    def needed(photo: str | None, damage: str, choices: list[str], seeds: float) -> float:
        try:
            return compare.seconds(
                images.size_read(photo or ""), damage, *compare_choices.checked(damage, choices, seeds)
            )
        except (ValueError, OSError):  # the run itself will say what is wrong
            return device.UNKNOWN_SECONDS

    waiting = begin("compare", "Comparing…")
    start.click(None, None, [start, pictures, status, file], js=waiting, **PRIVATE)
    event = start.click(
        on_gpu(compared, needed),
        inputs,
        [*outputs, last_words],
        show_progress="minimal",
        show_progress_on=status,
        **ON_DEVICE,
        **PRIVATE,
    )
    gr.on(
        [photo.change, damage.change, methods.change, seeds.change],
        forecast,
        inputs,
        budget,
        trigger_mode="always_last",
        **AT_ONCE,
    )
    stoppable(stop, [event], status, last_words, start)
    page.load(stored, None, outputs[:3], **AT_ONCE)
    return CompareTab(photo, damage, methods, seen, likely, quick, start, outputs)


@functools.cache
def stored() -> tuple[str, str, pd.DataFrame]:
    """(status, grid, table) of the comparison that `python examples/make.py` has stored, without any
    computation.
    """
    rows = json.loads((EXAMPLES / "comparison.json").read_text())
    cells = [
        compare_cells.Cell(row["title"], images.read_image(EXAMPLES / row["file"]), row["scores"])
        for row in rows
    ]
    status = "An example, computed beforehand. Every method gets the same damaged picture: drop yours above."
    return status, grid(cells), pd.DataFrame(compare_cells.score_table(cells))
