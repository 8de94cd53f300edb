"""The Repeat tab: a PNG of this page repeats its run."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import gradio as gr

from restoration.page import actions
from restoration.page.controls import result_rest, result_top, upload
from restoration.page.device import ON_DEVICE, on_gpu
from restoration.page.events import PRIVATE, begin, stoppable


def repeat_tab() -> None:
    """A PNG of this page repeats its run."""
    with gr.Row():
        with gr.Column(scale=2, min_width=320):
            title = "A PNG that this page wrote"
            file = upload(label=title, file_types=[".png"])
            refusal = gr.HTML(elem_classes="notice")  # page.css takes the button away where there is one
            with gr.Row():
                start = gr.Button("Repeat", variant="primary", elem_id="start-repeat", min_width=160)
                stop = gr.Button("Stop", min_width=80, elem_classes="ends-run")
            text = gr.Code(
                label="Its recipe", language=None, interactive=False, max_lines=10, elem_classes="if-any"
            )
        with gr.Column(scale=3, min_width=320):
            comparison, status = result_top("repeat")
            outputs = [comparison, status, *result_rest(comparison, True)]
            status.value = "Drop a picture that carries its recipe and press Repeat."  # type: ignore[attr-defined]
    last_words = gr.State("")

    def repeated(path: str | None) -> Iterator[tuple[Any, ...]]:
        yield from actions.with_last_words(actions.repeat(path), 6, 1, 5)

    file.change(actions.read_recipe, file, [text, refusal], show_progress="hidden", **PRIVATE)
    comparison, status, *_, result = outputs
    places = [start, comparison, status, result]
    start.click(None, comparison, places, js=begin("repeat", "Repeating…"), **PRIVATE)
    event = start.click(
        on_gpu(
            repeated, lambda path: actions.repeat_needs(path)[0], lambda path: actions.repeat_needs(path)[1]
        ),
        file,
        [*outputs, last_words],
        show_progress="minimal",
        show_progress_on=outputs[1],
        **ON_DEVICE,
        **PRIVATE,
    )
    stoppable(stop, [event], outputs[1], last_words, start)
