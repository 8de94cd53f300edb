from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor

import gradio as gr

from restoration.page.visitors import Session


def test_what_an_update_changes_reaches_the_browser():
    """Though nothing of it is kept: a choice, what is shown and a tab are such updates."""
    with gr.Blocks() as page:
        button, box = gr.Button("a", visible=False), gr.Textbox()
        page.load(lambda: [gr.update(visible=True), gr.update(label="new")], None, [button, box])
    session = Session(page)
    updates = [gr.update(visible=True), gr.update(label="new")]
    with ThreadPoolExecutor(1) as pool:  # another test's browser may have left a running loop in this thread
        sent = pool.submit(asyncio.run, page.postprocess_data(page.fns[0], updates, session)).result()
    assert sent[0]["visible"] is True and sent[1]["label"] == "new"
    assert session[button._id] is button and session[box._id] is box and not button.visible
