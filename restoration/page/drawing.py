"""A mask painted over the photograph, with the mouse or a finger; static/draw.js does what it does."""

from __future__ import annotations

import html

import gradio as gr

from restoration.page.events import PRIVATE, browser

SHEET = """<div class="draw" data-method="{method}">
<p class="asked" role="alert"></p>
<p><b>Paint over what is missing</b>, with the mouse or a finger; or upload a mask below.</p>
<div class="tools">
<label>Brush <input type="range" min="1" max="20" value="6" aria-label="Width of the brush"></label>
<button type="button" data-draw="undo">Undo</button><button type="button" data-draw="clear">Clear</button>
</div>
<div class="sheet"><img alt=""><canvas role="img" aria-label="The photograph, to paint on"></canvas></div>
<p class="none">Upload a photograph first.</p>
</div>"""


def sheet(method: str) -> gr.Button:
    """The photograph of a tab to paint on; the button, unseen, that is pressed after every stroke."""
    gr.HTML(SHEET.format(method=html.escape(method)))
    return gr.Button(elem_id=f"drawn-{method}", visible="hidden")


def into(mask: gr.components.Component, drawn: gr.Button, method: str) -> None:
    """Let what is painted become the file of the mask's box; an uploaded mask takes its place."""
    event = drawn.click(None, None, mask, js=browser(f"drawnMask('{method}')"), **PRIVATE)
    event.then(None, None, None, js=browser("maskArrived()"), **PRIVATE)
    for change in (mask.upload, mask.clear):  # type: ignore[attr-defined]
        change(None, None, None, js=browser(f"forgetDrawing('{method}')"), **PRIVATE)
