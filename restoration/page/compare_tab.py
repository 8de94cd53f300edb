"""The tab that restores one picture with several methods and shows the results side by side."""

from __future__ import annotations

import functools
import html
import time
from collections.abc import Iterator, Sequence
from typing import Any

import gradio as gr
import pandas as pd

from restoration.files import images
from restoration.page import compare, compare_cells, compare_choices, device
from restoration.page.actions import steps_of, time_limit
from restoration.page.controls import picture
from restoration.page.device import ON_DEVICE, on_gpu
from restoration.page.display import bar, data_uri, one_sentence, sentence
from restoration.page.events import AT_ONCE, PRIVATE
from restoration.page.state import EXAMPLES
from restoration.page.uploads import checked_photo, new_file
from restoration.priors.latent import load_prior
from restoration.solvers import PAPERS, PRESETS, SOLVERS

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
        prior, began = load_prior("embedded", device.DEVICE), time.monotonic()
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
        needed = compare.seconds(images.size_read(photo), damage, runs, count)
    except (ValueError, OSError, MemoryError) as error:
        return html.escape(sentence(error))
    over = f", and {device.TIME_LIMIT:.0f} s is the limit" if needed > device.TIME_LIMIT else ""
    return f"{len(runs) * count} runs: about {max(1, needed):.0f} s once the model is loaded{over}."


def compare_tab() -> None:
    """The picture, the choices and the results, which take the whole width."""
    first = [
        f"{method}{compare_choices.SEPARATOR}{next(iter(PRESETS[method]))}"
        for method in SOLVERS
        if method not in PAPERS
    ]
    damages = [(title, name) for name, title in compare_choices.damages().items()]
    with gr.Row():
        with gr.Column(scale=1, min_width=300):
            alt = "The picture to compare methods on"
            photo = picture(
                value=str(EXAMPLES / "chelsea.png"), label="Your picture", height=240, alt_text=alt
            )
            with gr.Row():
                start, stop = gr.Button("Compare", variant="primary"), gr.Button("Stop")
            budget = gr.HTML()
        with gr.Column(scale=1, min_width=300):
            told = "Without a clean picture only the scores that need none are shown"
            damage = gr.Dropdown(damages, value="denoise", label="What is done to it first", info=told)
            methods = gr.CheckboxGroup(compare_choices.choices(), value=first, label="Methods and presets")
            told = "With several: their mean, and where they differ"
            seeds = gr.Slider(1, compare_choices.MOST_SEEDS, value=1, step=1, label="Seeds", info=told)
    words = "Every method gets the same damaged picture. One that cannot treat the damage says so."
    status = gr.HTML(words, elem_id="status-compare", elem_classes="status")
    pictures = gr.HTML()
    scores = gr.Dataframe(headers=["picture"], label="Scores: ★ is the best of its column", interactive=False)
    file = gr.File(
        label="Download: all pictures with their recipes, scores, contact sheet", height=80, interactive=False
    )
    last_words, inputs = gr.State(""), [photo, damage, methods, seeds]

    def needed(photo: str | None, damage: str, choices: list[str], seeds: float) -> float:
        try:
            return compare.seconds(
                images.size_read(photo or ""), damage, *compare_choices.checked(damage, choices, seeds)
            )
        except (ValueError, OSError):  # the run itself will say what is wrong
            return device.UNKNOWN_SECONDS

    event = start.click(
        on_gpu(compared, needed),
        inputs,
        [status, pictures, scores, file, last_words],
        show_progress="minimal",
        show_progress_on=status,
        scroll_to_output=True,
        **ON_DEVICE,
        **PRIVATE,
    )
    # an upload means: restore my photograph
    photo.upload(lambda: compare_choices.REAL, None, damage, **AT_ONCE)
    gr.on(
        [photo.change, damage.change, methods.change, seeds.change],
        forecast,
        inputs,
        budget,
        trigger_mode="always_last",
        **AT_ONCE,
    )
    stop.click(None, cancels=[event], **PRIVATE)
    event.then(lambda words: words or gr.skip(), last_words, status, **AT_ONCE)
