"""The page's buttons, pressed without a page."""

from __future__ import annotations

import gradio as gr

from restoration.page import actions, state
from restoration.page.method_tab import MethodTab


def filled(photo: str | None, task: str = "denoise", method: str = "reld", **changes) -> dict:
    """The page's values as it opens, with a picture."""
    return state.opening_values(method) | {"photo": photo, "task": task} | changes


def press(values: dict, method: str = "reld") -> list[tuple]:
    return list(actions.run(method, values))


def method_tabs(page: gr.Blocks) -> dict[str, MethodTab]:
    """The tabs of a page by method."""
    tabs = [event.fn.__self__ for event in page.fns.values() if event.name == "foresee"]
    return {tab.method: tab for tab in tabs}
