"""One photograph for all tabs: what is uploaded into one is looked at once, and is there in every other."""

from __future__ import annotations

import dataclasses
import functools
import html
from typing import Any

import gradio as gr

from restoration.page import actions, compare_choices, display, inspection, state
from restoration.page.compare_actions import forecast
from restoration.page.compare_choices import COMPARE
from restoration.page.compare_tab import CompareTab
from restoration.page.controls import CHOOSE
from restoration.page.events import AT_ONCE, PRIVATE, browser, press_again, uploaded
from restoration.page.method_tab import MethodTab, Shown
from restoration.page.part import PartFold, cut_out
from restoration.page.state import DEGRADED
from restoration.solvers import SOLVERS


@dataclasses.dataclass(frozen=True, eq=False)
class OnePhotograph:
    """What an upload into any tab fills in, and the file that was uploaded, of which a part may be taken."""

    methods: dict[str, MethodTab]
    compared: CompareTab
    uploaded: gr.State

    @property
    def photos(self) -> dict[str, Any]:
        """The photograph's box by tab."""
        return {COMPARE: self.compared.photo} | {
            name: tab.parts["photo"] for name, tab in self.methods.items()
        }

    @property
    def folds(self) -> dict[str, PartFold]:
        """By tab."""
        return {COMPARE: self.compared.part} | {name: tab.part for name, tab in self.methods.items()}

    @property
    def fold_boxes(self) -> list[gr.blocks.Block]:
        return [box for fold in self.folds.values() for box in (fold.fold, fold.whole)]

    @property
    def everything(self) -> list[gr.blocks.Block]:
        places = [
            [*tab.parts.values(), *tab.outputs, tab.address, tab.seen, tab.budget, *tab.sharing.places]
            for tab in self.methods.values()
        ]
        filled = [*self.compared.filled, *(part for parts in places for part in parts)]
        return [*filled, self.uploaded, *self.fold_boxes]

    @property
    def runs(self) -> list[Any]:
        """What an upload ends: it would show what was made of another photograph."""
        return [*self.compared.runs, *(run for tab in self.methods.values() for run in tab.runs)]

    def line(self, where: str) -> gr.HTML:
        """The line about the photograph of a tab."""
        return self.compared.seen if where == COMPARE else self.methods[where].seen

    def look(self, where: str, photo: str | None, size: str, *priors: str, frame: str = "") -> Shown:
        """All that is filled in for a photograph; priors: what the methods' tabs have chosen; frame: of the
        part that is taken, as `cut_out` reads it.
        """
        try:
            file = cut_out(photo, frame) if frame else photo
            inspected = inspection.inspect(file or "", size)
        except (ValueError, OSError, MemoryError) as error:
            return {self.line(where): html.escape(display.sentence(error))}
        width, height = inspected.size
        told = f'data-width="{width}" data-height="{height}" data-preview="{inspected.preview}"'
        seen = f"<span {told}>{html.escape(inspected.sentences)}</span>"
        filled = _compare(self.compared, inspected, seen, size)
        for (name, tab), prior in zip(self.methods.items(), priors, strict=True):
            values = state.opening_values(name) | inspected.values[name] | {"size": size, "prior": prior}
            filled |= {tab.budget: actions.forecast(name, values)}
            filled |= {tab.parts[key]: value for key, value in inspected.values[name].items()}
            shown = (inspected.before, inspected.before), "Press Restore.", None, None, None, None
            filled |= dict(zip(tab.outputs, shown, strict=True))
            filled |= {tab.address: "", tab.seen: seen} | tab.sharing.of()
            filled[tab.parts["size"]] = gr.update(value=size, visible=inspected.large)
        for fold in self.folds.values():
            filled |= fold.shown(bool(frame))
        return filled

    def look_at_part(self, where: str, photo: str | None, size: str, frame: str, *priors: str) -> Shown:
        return self.look(where, photo, size, *priors, frame=frame)

    def look_at_upload(self, where: str, photo: str | None, size: str, *priors: str) -> Shown:
        filled = self.look(where, photo, size, *priors)
        if self.photos[where] not in filled:
            return filled | self.refused(where)
        return filled | {self.uploaded: photo}

    def refused(self, where: str) -> Shown:
        """A tab without the file that cannot be read, of which its line speaks; the others keep theirs."""
        nothing: Shown = {self.photos[where]: None, self.folds[where].fold: gr.update(visible=False)}
        if where == COMPARE:
            return nothing | self.compared.leading("") | self.compared.emptied("")
        tab = self.methods[where]
        empty = None, CHOOSE, None, None, None, None
        nothing |= {tab.address: "", tab.budget: "&nbsp;"} | tab.sharing.of()
        return nothing | dict(zip(tab.outputs, empty, strict=True))

    def look_again(self, where: str, photo: str | None, size: str, mode: str, *priors: str) -> Shown:
        if not photo or mode != DEGRADED:
            return {self.line(where): gr.skip()}
        filled = self.look(where, photo, size, *priors)
        for box in (self.photos[where], *self.fold_boxes):
            filled.pop(box, None)  # which stay as they are
        return filled

    def follow(self, where: str) -> None:
        """Look at what is uploaded into one tab, at a part of it, and at another size."""
        photo, fold, everything = self.photos[where], self.folds[where], self.everything
        start: gr.Button = self.compared.start
        mode: gr.components.Component = self.compared.damage
        size: Any = next(iter(self.methods.values())).parts["size"]  # an upload makes all the same
        priors: list[Any] = [tab.parts["prior"] for tab in self.methods.values()]
        value = compare_choices.REAL
        if where in self.methods:
            tab = self.methods[where]
            start, mode, size, value = tab.start, tab.parts["mode"], tab.parts["size"], DEGRADED
            again = functools.partial(self.look_again, where)
            looked = size.input(again, [photo, size, mode, *priors], everything, **AT_ONCE)
            press_again(looked, start)
            looked.then(tab.foresee, set(tab.parts.values()), tab.budget, **AT_ONCE)
        upload, part, whole = (
            functools.partial(look, where) for look in (self.look_at_upload, self.look_at_part, self.look)
        )
        framed = browser(f"framed('{where}', photo, size, priors)", "photo", "size", "frame", "...priors")
        triggers = photo.upload, fold.take.click, fold.whole.click
        looking = [mode, start, self.line(where)]
        gr.on(triggers, None, None, looking, js=uploaded(value), cancels=self.runs, **PRIVATE)
        # the page may still be opening: an example would take the photograph's place
        opened = browser(f"onceOpened({len(self.photos)}, given)", "...given")
        for trigger, called, given, script in (
            (photo.upload, upload, [photo, size], opened),
            (fold.take.click, part, [self.uploaded, size, fold.frame], framed),
            (fold.whole.click, whole, [self.uploaded, size], None),
        ):
            looked = trigger(called, [*given, *priors], everything, js=script, **AT_ONCE)
            press_again(looked, start)
            # how long it takes depends on what was measured, which changes nothing that is seen
            looked.then(forecast, self.compared.asked, self.compared.budget, **AT_ONCE)


def one_photograph(methods: dict[str, MethodTab], compared: CompareTab, tabs: gr.Tabs) -> None:
    """Let an upload into any tab fill all of them, with the settings that suit the photograph.

    The tab stays: Compare names the method that is likely the best, and Restore goes there.
    """
    photograph = OnePhotograph(methods, compared, gr.State())
    for where in photograph.photos:
        photograph.follow(where)
    chosen = compared.quick.click(
        lambda name: gr.update(selected=name if name in SOLVERS else COMPARE),
        compared.likely,
        tabs,
        **AT_ONCE,
    )
    pressed = browser("pressIf(likely, 'start-' + likely)", "likely")
    chosen.then(None, compared.likely, None, js=pressed, **PRIVATE)


def _compare(tab: CompareTab, inspected: inspection.Inspection, seen: str, size: str) -> dict[Any, Any]:
    """What Compare shows of a photograph that has been looked at, to be restored at one of SIZES."""
    presets = {name: values["preset"] for name, values in inspected.values.items()}
    return {
        tab.photo: inspected.values[next(iter(SOLVERS))]["photo"],
        tab.damage: compare_choices.REAL,
        tab.choices.methods: compare_choices.first(presets),
        tab.seen: f"{seen} {_likely(inspected, size)}",
        **tab.leading(inspected.method),
        **tab.emptied("Press Restore, or Compare." if inspected.method else "Press Compare."),
    }


def _likely(inspected: inspection.Inspection, size: str) -> str:
    """Which method Restore takes, and how long that is, as HTML; "" where nothing is wrong."""
    method = inspected.method
    if not method:
        return ""
    values = state.opening_values(method) | inspected.values[method] | {"size": size}
    wait = actions.waiting(actions.plan(method, values), values["prior"])
    return html.escape(f"{SOLVERS[method].title} is likely the best for it, and takes {wait}.")
