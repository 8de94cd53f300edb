"""What follows from a choice in a method's tab: settings, the boxes that they need, the forecast."""

from __future__ import annotations

from typing import Any

import gradio as gr

from restoration.page.events import AT_ONCE, PRIVATE, chosen, shown_where
from restoration.page.method_tab import MethodTab
from restoration.page.state import DEGRADED
from restoration.solvers import SOLVERS


def choice_events(tab: MethodTab) -> None:
    """What follows from a choice: settings, the boxes that they need, the forecast."""
    left: Any = tab.inputs
    mode, task, prior, preset = (tab.parts[name] for name in ("mode", "task", "prior", "preset"))
    knobs = list(tab.own_knobs.values())
    last: Any = {"trigger_mode": "always_last"} | AT_ONCE  # not "once", which drops a press during another
    left.examples.click(tab.show_example, left.examples, tab.everything, **last)
    applied = [
        prior.input(tab.apply_prior, [prior, preset], [preset, *knobs], **AT_ONCE),  # type: ignore[attr-defined]
        preset.input(tab.apply_preset, preset, knobs, **AT_ONCE),  # type: ignore[attr-defined]
    ]
    boxes = [left.reference, task]  # a blind method finds the damage out
    real = chosen(DEGRADED)
    needed = shown_where(real, f"!({real})" if SOLVERS[tab.method].blind else "true")
    mode.change(None, mode, boxes, js=needed, **PRIVATE)  # type: ignore[attr-defined]
    if left.groups:
        told = shown_where(*map(chosen, left.groups))
        task.change(None, task, list(left.groups.values()), js=told, **PRIVATE)  # type: ignore[attr-defined]
    _forecast_events(tab, [*applied, *left.picks])


def _forecast_events(tab: MethodTab, applied: list[Any]) -> None:
    """A visitor's own changes, and what is applied by them, bring another forecast.

    What fills in the whole tab brings its forecast along: Gradio tells all inputs of each event that has run
    of the progress of any other.
    """
    asked: Any = {"fn": tab.foresee, "inputs": set(tab.parts.values()), "outputs": tab.budget}
    triggers: list[Any] = [tab.inputs.given.photo.clear]
    for key, part in tab.parts.items():
        if isinstance(part, gr.File):
            triggers.append(part.change)
        elif key not in {"photo", "size", "prior", "preset", "reference"} and key[-1] != "prompt":
            triggers.append(part.input)  # type: ignore[attr-defined]
    gr.on(triggers, **asked, trigger_mode="always_last", **AT_ONCE)
    for event in applied:
        event.then(**asked, **AT_ONCE)
