"""One photograph for all tabs: what is uploaded into one is looked at once, and is there in every other."""

from __future__ import annotations

import functools
import html
from typing import Any

import gradio as gr

from restoration.page import compare_choices, display, inspection
from restoration.page.compare_tab import CompareTab
from restoration.page.events import AT_ONCE, PRIVATE, browser, press_again, uploaded
from restoration.page.method_tab import MethodTab
from restoration.page.part import cut_out
from restoration.page.state import DEGRADED
from restoration.solvers import SOLVERS

COMPARE = "compare"  # the tab's id


def one_photograph(methods: dict[str, MethodTab], compared: CompareTab, tabs: gr.Tabs) -> None:
    """Let an upload into any tab fill all of them, with the settings that suit the photograph.

    The tab stays: Compare names the method that is likely the best, and its button goes there.
    """
    photos: dict[str, Any] = {COMPARE: compared.photo} | {
        name: tab.parts["photo"] for name, tab in methods.items()
    }
    sizes = [tab.parts["size"] for tab in methods.values()]  # which an upload makes the same
    folds = {COMPARE: compared.part} | {name: tab.part for name, tab in methods.items()}
    places = [[*tab.parts.values(), *tab.outputs, tab.address, tab.seen] for tab in methods.values()]
    uploaded_file = gr.State()  # of which a part may be taken
    everything: list[gr.blocks.Block] = [
        *compared.filled,
        *(part for parts in places for part in parts),
        uploaded_file,
    ]
    everything += [box for fold in folds.values() for box in (fold.fold, fold.whole)]
    # which would show what was made of another photograph
    runs = [compared.run, *(run for tab in methods.values() for run in tab.runs)]

    def look(where: str, photo: str | None, size: str, frame: str = "") -> dict[Any, Any]:
        try:
            file = cut_out(photo, frame) if frame else photo
            inspected = inspection.inspect(file or "", size)
        except (ValueError, OSError, MemoryError) as error:
            line = compared.seen if where == COMPARE else methods[where].seen
            return {line: html.escape(display.sentence(error))}
        width, height = inspected.size
        told = f'data-width="{width}" data-height="{height}" data-preview="{inspected.preview}"'
        seen = f"<span {told}>{html.escape(inspected.sentences)}</span>"
        filled = _compare(compared, inspected, seen)
        for name, tab in methods.items():
            filled |= {tab.parts[key]: value for key, value in inspected.values[name].items()}
            shown = (inspected.before, inspected.before), "Press Restore.", None, None, None, None
            filled |= dict(zip(tab.outputs, shown, strict=True))
            filled |= {tab.address: "", tab.seen: seen}
            filled[tab.parts["size"]] = gr.update(value=size, visible=inspected.large)
        for fold in folds.values():
            filled |= fold.shown(bool(frame))
        return filled

    def look_at_upload(where: str, photo: str | None, size: str) -> dict[Any, Any]:
        filled = look(where, photo, size) | {uploaded_file: photo}
        filled.pop(photos[where], None)  # which shows it already
        return filled

    def look_again(where: str, photo: str | None, size: str, mode: str) -> dict[Any, Any]:
        if not photo or mode != DEGRADED:
            return {methods[where].seen: gr.skip()}
        filled = look(where, photo, size)
        for box in (photos[where], *(box for fold in folds.values() for box in (fold.fold, fold.whole))):
            filled.pop(box, None)  # which stay as they are
        return filled

    for where, photo in photos.items():
        start: gr.Button = compared.start
        mode: gr.components.Component = compared.damage
        value = compare_choices.REAL
        size: Any = sizes[0]
        line = compared.seen
        if where in methods:
            line = methods[where].seen
            start, mode, value = methods[where].start, methods[where].parts["mode"], DEGRADED
            size = methods[where].parts["size"]
            again = functools.partial(look_again, where)
            press_again(size.input(again, [photo, size, mode], everything, **AT_ONCE), start)
        fold, part = folds[where], functools.partial(look, where)
        upload = functools.partial(look_at_upload, where)
        framed = browser(f"framed(photo, size, '{where}')", "photo", "size", "frame")
        for trigger, called, given, script in (
            (photo.upload, upload, [photo, size], None),
            (fold.take.click, part, [uploaded_file, size, fold.frame], framed),
            (fold.whole.click, part, [uploaded_file, size], None),
        ):
            trigger(None, None, [mode, start, line], js=uploaded(value), cancels=runs, **PRIVATE)
            press_again(trigger(called, given, everything, js=script, **AT_ONCE), start)
    chosen = compared.quick.click(
        lambda name: gr.update(selected=name if name in SOLVERS else COMPARE),
        compared.likely,
        tabs,
        **AT_ONCE,
    )
    pressed = browser("pressIf(likely, 'start-' + likely)", "likely")
    chosen.then(None, compared.likely, None, js=pressed, **PRIVATE)


def _compare(tab: CompareTab, inspected: inspection.Inspection, seen: str) -> dict[Any, Any]:
    """What Compare shows of a photograph that has been looked at."""
    likely = inspected.method
    title = f"Restore: {SOLVERS[likely].title} is likely the best" if likely else ""
    presets = {name: values["preset"] for name, values in inspected.values.items()}
    return {
        tab.photo: inspected.values[next(iter(SOLVERS))]["photo"],
        tab.damage: compare_choices.REAL,
        tab.methods: compare_choices.first(presets),
        tab.seen: seen,
        tab.likely: likely,
        tab.quick: gr.update(value=title, visible=bool(likely)),
    } | dict(zip(tab.outputs, ("Press Compare.", None, None, None), strict=True))
