"""The tab that restores one picture with several methods and shows the results side by side."""

from __future__ import annotations

import functools
import html
import json
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import gradio as gr
import pandas as pd

from restoration import pace
from restoration.files import images
from restoration.page import compare, compare_cells, compare_choices, device
from restoration.page.actions import loaded, steps_of, time_limit
from restoration.page.controls import picture
from restoration.page.device import ON_DEVICE, on_gpu
from restoration.page.display import bar, data_uri, one_sentence, remaining, sentence
from restoration.page.events import AT_ONCE, PRIVATE, begin, stoppable
from restoration.page.part import PartFold, part_fold
from restoration.page.sizes import SIZES, usual_size
from restoration.page.state import EXAMPLES
from restoration.page.uploads import checked_photo, new_file
from restoration.priors.catalogue import PRIORS
from restoration.priors.latent import LatentPrior, in_memory

NOTHING = "Choose a picture and at least one method."
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


def loaders(priors: Sequence[str]) -> dict[str, Callable[[], LatentPrior]]:
    """What loads each prior, by its name."""
    return {name: functools.partial(loaded, name) for name in priors}


def compared(
    photo: str | None, damage: str, choices: list[str], seeds: float, priors: list[str]
) -> Iterator[tuple[Any, ...]]:
    """Restore the picture with every choice, seed and prior; yield (status, grid, table, files, what to say
    should this be the end).
    """
    if not photo or not choices:
        raise gr.Error(NOTHING, print_exception=False)
    with one_sentence():
        checked_photo(photo)
        runs, count, names = compare_choices.checked(damage, choices, seeds, priors)
        most = SIZES[usual_size()]
        read = html.escape(images.how_read(photo, 1, most))
        yield f"{read}. Getting ready…" if read else "Getting ready…", None, None, None, "Stopped."
        given = images.read_photo(photo, 1, most).x
        needed = compare.seconds((given.shape[-1], given.shape[-2]), damage, runs, count, names)
        if needed > device.TIME_LIMIT:
            fewer = "fewer methods, fewer seeds, fewer priors, a smaller picture"
            limit = f"{device.TIME_LIMIT:.0f} s is the limit: {fewer}"
            raise ValueError(f"This would take about {needed:.0f} s, and {limit}.")
        restore_until, began = functools.partial(steps_of, until=time_limit()), time.monotonic()
        for now in compare.compare(given, damage, runs, count, loaders(names), restore_until):
            spent = time.monotonic() - began
            whole = spent / now.share if now.share > 0.1 else needed  # models are loaded before the first run
            status = bar(int(1000 * now.share), 1000, f"{now.note} · {remaining(whole * (1 - now.share))}")
            yield status, *_shown(now), None, "Stopped: this is how far it got."
        if not now.cells:
            raise ValueError(now.note)
        note = html.escape(now.note) + (f" The picture: {read}." if read else "")
        yield note, gr.skip(), gr.skip(), archives(now.cells), ""


def _shown(now: compare.State) -> tuple[Any, Any]:
    """(grid, table) where there is a new picture."""
    if not now.new:
        return gr.skip(), gr.skip()
    return grid(now.cells), pd.DataFrame(compare_cells.score_table(now.cells))


def archives(cells: Sequence[compare_cells.Cell]) -> list[str]:
    """The files of two ZIPs: of all pictures, and of all but the photograph itself."""
    kinds = {"comparison.zip": cells, "without-your-photograph.zip": compare_cells.results_alone(cells)}
    files = []
    for name, kept in kinds.items():
        compare_cells.archive(kept, file := new_file(name))
        files.append(file)
    return files


def needed_seconds(
    photo: str | None, damage: str, choices: list[str], seeds: float, priors: list[str]
) -> float:
    """What a comparison takes, UNKNOWN_SECONDS where it cannot be run: the run itself will say why."""
    try:
        chosen = compare_choices.checked(damage, choices, seeds, priors)
        return compare.seconds(images.size_read(photo or "", 1, SIZES[usual_size()]), damage, *chosen)
    except (ValueError, OSError):
        return device.UNKNOWN_SECONDS


def forecast(photo: str | None, damage: str, choices: list[str], seeds: float, priors: list[str]) -> str:
    """How long it will take, as HTML, or why it cannot be."""
    if not photo or not choices:
        return NOTHING
    try:
        checked_photo(photo)
        chosen = compare_choices.checked(damage, choices, seeds, priors)
        width, height = images.size_read(photo, 1, SIZES[usual_size()])
        needed = compare.seconds((width, height), damage, *chosen)
    except (ValueError, OSError, MemoryError) as error:
        return html.escape(sentence(error))
    over = f", and {device.TIME_LIMIT:.0f} s is the limit" if needed > device.TIME_LIMIT else ""
    absent = [prior for prior in chosen.priors if not in_memory(prior, device.DEVICE)]
    pixels = chosen.total * width * height
    wait = pace.estimate_wait(needed, chosen.priors[0], pixels, loaded=chosen.priors[0] not in absent)
    wait += sum(
        pace.estimate_wait(0, prior, 0, loaded=False) for prior in absent if prior != chosen.priors[0]
    )
    what = f"the model{'s' if len(absent) > 1 else ''} loaded first"
    first = f", {what}" if absent else ""
    return f"{chosen.total} run{'s' if chosen.total > 1 else ''}: {pace.about(wait)}{first}{over}."


class CompareTab(NamedTuple):
    """What an upload fills in: controls, the line about the photograph, the result's places, and the button
    to the method that is likely the best, named in a hidden box.
    """

    photo: gr.Image
    part: PartFold
    damage: gr.Dropdown
    methods: gr.CheckboxGroup
    seen: gr.HTML
    likely: gr.Textbox
    quick: gr.Button
    start: gr.Button
    outputs: list[gr.components.Component]  # status, pictures, scores, file
    run: Any  # the event that compares

    @property
    def filled(self) -> list[gr.components.Component]:
        """All that an upload fills in."""
        return [self.photo, self.damage, self.methods, self.seen, self.likely, self.quick, *self.outputs]


class Choices(NamedTuple):
    """What is compared, in the order of `compared`'s arguments after the photograph."""

    damage: gr.Dropdown
    methods: gr.CheckboxGroup
    seeds: gr.Slider
    priors: gr.CheckboxGroup


def choices_fold() -> Choices:
    """The choices, folded: what an upload fills in is what most visitors want."""
    damages = [(title, name) for name, title in compare_choices.damages().items()]
    with gr.Accordion("What is compared: damage, methods, tries, models", open=False):
        info = "Without a clean picture only the scores that need none are shown"
        damage = gr.Dropdown(damages, value="denoise", label="What is done to it first", info=info)
        offered, first = compare_choices.titled(), compare_choices.first({})
        methods = gr.CheckboxGroup(offered, value=first, label="Methods and presets")
        info = "Each begins with other random numbers (seeds); of several: the mean, and where they differ"
        seeds = gr.Slider(1, compare_choices.MOST_SEEDS, value=1, step=1, label="Tries", info=info)
        info = "What knows how photographs look; all but embedded are downloaded at first use"
        priors = gr.CheckboxGroup(list(PRIORS), value=["embedded"], label="Models", info=info)
    return Choices(damage, methods, seeds, priors)


def results() -> list[gr.components.Component]:
    """The places of (status, pictures, scores, files), which take the whole width."""
    status = gr.HTML(elem_id="status-compare", elem_classes="status")
    pictures = gr.HTML(padding=False, elem_id="compared")
    scores = gr.Dataframe(headers=["picture"], label="Scores: ★ is the best of its column", interactive=False)
    title = "Download: pictures with their recipes, scores, contact sheet; with your photograph, or without"
    file = gr.File(label=title, file_count="multiple", height=110, interactive=False, elem_classes="download")
    return [status, pictures, scores, file]


def compare_tab(page: gr.Blocks) -> CompareTab:
    """The picture, the choices and the results; a stored comparison at first."""
    gr.Markdown("Your photograph, restored by every method, side by side.")
    with gr.Row():
        with gr.Column(scale=1, min_width=300):
            photo = picture(
                value=str(EXAMPLES / "chelsea.png"),
                label="Your picture",
                height=240,
                alt_text="The picture to compare methods on",
                elem_id="photo-compare",
            )
            part = part_fold("compare")
        with gr.Column(scale=1, min_width=300):
            seen = gr.HTML(elem_id="seen-compare")
            likely = gr.Textbox(visible=False)
            quick = gr.Button(variant="primary", visible=False, elem_id="quick")
            with gr.Row():
                start = gr.Button("Compare", variant="primary", elem_id="start-compare")
                stop = gr.Button("Stop", min_width=80)
            budget = gr.HTML("&nbsp;")
            choices = choices_fold()
    outputs = results()
    status, pictures, _, file = outputs
    last_words, inputs = gr.State(""), [photo, *choices]
    waiting = begin("compare", "Comparing…")
    start.click(None, None, [start, pictures, status, file], js=waiting, **PRIVATE)
    event = start.click(
        on_gpu(compared, needed_seconds, lambda *values: values[-1]),
        inputs,
        [*outputs, last_words],
        show_progress="minimal",
        show_progress_on=status,
        trigger_mode="multiple",  # as in a method's tab
        **ON_DEVICE,
        **PRIVATE,
    )
    changes = [part.change for part in (photo, *choices)]  # type: ignore[attr-defined]
    gr.on(changes, forecast, inputs, budget, trigger_mode="always_last", **AT_ONCE)
    stoppable(stop, [event], status, last_words, start)
    page.load(stored, None, outputs[:3], **AT_ONCE)
    return CompareTab(
        photo, part, choices.damage, choices.methods, seen, likely, quick, start, outputs, event
    )


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
