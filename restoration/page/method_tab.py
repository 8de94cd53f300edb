"""A method's tab: its controls on the left, its result on the right, and what it answers with."""

from __future__ import annotations

import contextlib
import dataclasses
import html
from collections.abc import Iterator, Mapping
from typing import Any

import gradio as gr

from restoration.page import actions, display, history, share_row, shares, state
from restoration.page.compare_choices import COMPARE
from restoration.page.controls import (
    NO_EXAMPLE,
    Inputs,
    Parts,
    heading,
    link_box,
    picture_column,
    result_rest,
    result_top,
    settings_column,
)
from restoration.page.device import ON_DEVICE, UNKNOWN_SECONDS, on_gpu
from restoration.page.events import AT_ONCE, PRIVATE, SILENT, begin, browser, stoppable
from restoration.page.part import PartFold
from restoration.solvers import SOLVERS, preset_for, resolve

Shown = dict[Any, Any]  # what an event shows, by component


@dataclasses.dataclass(frozen=True, eq=False)
class MethodTab:
    """A tab's components, and what its events answer with.

    outputs: the result's places, the second of which is the status line; linked: whether a link has filled in
    the controls; entry: a run on its way to or from the browser's history; bring: pressed by the history;
    runs: the events that restore.
    """

    method: str
    tabs: gr.Tabs
    inputs: Inputs
    outputs: list[gr.components.Component]
    sharing: share_row.ShareRow
    address: gr.Textbox
    past: gr.HTML
    bring: gr.Button
    linked: gr.Checkbox
    entry: gr.Textbox
    runs: list[Any] = dataclasses.field(default_factory=list)

    @property
    def parts(self) -> Parts:
        """The controls by the names of `state.Values`."""
        return self.inputs.parts

    @property
    def start(self) -> gr.Button:
        return self.inputs.given.start

    @property
    def seen(self) -> gr.HTML:
        """The line about the photograph."""
        return self.inputs.given.seen

    @property
    def part(self) -> PartFold:
        return self.inputs.given.part

    @property
    def budget(self) -> gr.HTML:
        """The forecast of a run."""
        return self.inputs.given.budget

    @property
    def status(self) -> gr.components.Component:
        return self.outputs[1]

    @property
    def everything(self) -> list[gr.blocks.Block]:
        """What another run fills in."""
        filled = [self.address, self.seen, self.budget, self.part.fold, *self.sharing.places]
        return [*self.parts.values(), *self.outputs, *filled]

    @property
    def own_knobs(self) -> Parts:
        """What a preset fills in: not the prompt, which belongs to the picture."""
        return {key: part for key, part in self.parts.items() if key[0] == self.method and key[1] != "prompt"}

    def values(self, posted: Shown) -> state.Values:
        """The values of all controls by name, from an event's by component."""
        return {name: posted[part] for name, part in self.parts.items()}

    def priors(self, posted: Shown) -> list[str]:
        """What a run has to load."""
        return [state.known_prior(self.values(posted)["prior"])]

    def seconds(self, posted: Shown) -> float:
        """How long a run will take."""
        with contextlib.suppress(ValueError):  # the run itself will say what is wrong
            return actions.seconds_needed(self.method, self.values(posted))
        return UNKNOWN_SECONDS

    def foresee(self, posted: Shown) -> str:
        return actions.forecast(self.method, self.values(posted))

    def restored(self, posted: Shown) -> Iterator[tuple[Any, ...]]:
        yield from self._with_entry(posted, actions.run(self.method, self.values(posted)))

    def restored_twice(self, posted: Shown) -> Iterator[tuple[Any, ...]]:
        yield from self._with_entry(posted, actions.caption_pair(self.method, self.values(posted)))

    def _with_entry(self, posted: Shown, runs: Iterator[tuple[Any, ...]]) -> Iterator[tuple[Any, ...]]:
        """What a run yields, with its last words, its entry for the history and what Share gives away."""
        values = self.values(posted)
        for shown in actions.with_last_words(runs, 6, 1, 5):
            run = history.finished(self.method, values, shown) if shown[5] else None
            yield *shown, history.entry(self.method, values, shown[:6]), run and (run, None)

    def open_page(self, request: gr.Request) -> Shown:
        """What the link says, where it is for this tab, or else the first example."""
        query = dict(request.query_params)
        if not self._is_meant(query):
            return self.first_example()
        here = {self.tabs: gr.update(selected=self.method)}
        try:
            return self._from_link(query) | here
        except shares.Gone as error:
            return {self.sharing.note: "", self.status: f'<b class="gone">{error}</b>'} | here
        except ValueError as error:
            instead = " Here is an example instead." if state.stored_examples(self.method) else ""
            return self.first_example() | {self.status: html.escape(f"{error}{instead}")} | here

    def _is_meant(self, query: Mapping[str, str]) -> bool:
        """Whether a link is for this tab; the first one answers for methods that there are not."""
        asked = resolve(query.get("method", ""), query.get("preset", ""))[0]
        if asked in SOLVERS or asked == COMPARE:
            return asked == self.method
        return bool(asked or "share" in query) and self.method == next(iter(SOLVERS))

    def _from_link(self, query: Mapping[str, str]) -> Shown:
        if "share" in query:
            filled = self.show_run(*history.shared(self.method, query["share"]))
            return filled | self.sharing.opened(filled, query)
        if "image" not in query:
            return self.first_example()
        values = state.from_query(query)[1]
        filled = {self.parts[name]: value for name, value in values.items()}
        return filled | {self.budget: actions.forecast(self.method, values), self.linked: True}

    def first_example(self) -> Shown:
        return self.show_example(0) if state.stored_examples(self.method) else {self.status: NO_EXAMPLE}

    def show_example(self, index: int) -> Shown:
        rows = state.stored_examples(self.method)
        if type(index) is not int or not 0 <= index < len(rows):
            raise gr.Error("There is no such example.", print_exception=False)
        return self.show_run(state.example_values(rows[index]), display.example_outputs(rows[index]))

    def bring_back(self, text: str) -> Shown:
        return self.show_run(*history.recall(self.method, text))

    def show_run(self, values: state.Values, shown: tuple[Any, ...]) -> Shown:
        """A run of before with its controls; shown: of the result's places."""
        run = history.finished(self.method, values, shown)
        filled: Shown = {self.parts[name]: value for name, value in values.items()}
        filled[self.parts["size"]] = gr.update(value=values["size"], visible=False)
        filled[self.part.fold] = gr.update(visible=False)
        filled |= {self.address: "", self.seen: "", self.budget: actions.forecast(self.method, values)}
        filled |= self.sharing.of(run)
        return filled | dict(zip(self.outputs, shown, strict=True))

    def apply_preset(self, name: str) -> Shown:
        values = state.preset_values(self.method, name)
        return {part: values[key] for key, part in self.own_knobs.items()}

    def apply_prior(self, prior: str, chosen: str) -> Shown:
        preset = self.parts["preset"]
        suited = preset_for(self.method, state.known_prior(prior), chosen)
        if suited == chosen:
            return {preset: gr.skip()}
        gr.Info(f"The preset {suited} suits {prior}: it is chosen now.")
        return {preset: suited} | self.apply_preset(suited)


def method_tab(method: str, page: gr.Blocks, tabs: gr.Tabs) -> MethodTab:
    """Controls on the left, result on the right, filled with the first stored example, or what the link says,
    as it opens.
    """
    tab = _laid_out(method, tabs)
    tab.runs.extend(_run_events(tab))
    _opening_events(tab, page)
    _history_events(tab, page)
    return tab


def _laid_out(method: str, tabs: gr.Tabs) -> MethodTab:
    gr.Markdown(heading(method)[1])
    linked = gr.Checkbox(visible=False)
    entry = gr.Textbox(visible=False)
    # on a phone one below the other; on a desk the result stands beside both
    with gr.Row(elem_classes="method"):
        with gr.Column(min_width=0):
            given = picture_column(method)
        with gr.Column(min_width=0):
            comparison, status = result_top(method)
            sharing = share_row.share_row(method)
            outputs = [comparison, status, *result_rest(comparison, SOLVERS[method].blind)]
            title = "Settings link: repeats this run anywhere, for ever"
            address = link_box(title)
            with gr.Accordion("History (kept in your browser alone)"):
                past = gr.HTML()
            bring = gr.Button(elem_id=f"bring-back-{method}", visible="hidden")
        with gr.Column(min_width=0):
            inputs = settings_column(method, given)
    return MethodTab(method, tabs, inputs, outputs, sharing, address, past, bring, linked, entry)


def _run_events(tab: MethodTab) -> list[Any]:
    """What starts a run and what stops it; returned are the events that run."""
    start, caption_pair = tab.start, tab.inputs.caption_pair
    comparison, status, *_, file = tab.outputs
    last_words = gr.State("")
    posted: set[gr.blocks.Block] = set(tab.parts.values())
    # the place in the queue is shown over the status line
    running: Any = {"show_progress": "minimal", "show_progress_on": status} | ON_DEVICE | PRIVATE
    # the button cannot be pressed during a run, but while one that an upload has stopped is in its last step;
    # "once" would drop that press
    running["trigger_mode"] = "multiple"
    running["outputs"] = [*tab.outputs, last_words, tab.entry, tab.sharing.shown]
    for button in (start, caption_pair):
        if button:
            places = [start, comparison, status, file]
            button.click(None, comparison, places, js=begin(tab.method), **PRIVATE)
    runs = [start.click(on_gpu(tab.restored, tab.seconds, tab.priors), posted, **running)]
    if caption_pair:
        twice = on_gpu(tab.restored_twice, lambda values: 2 * tab.seconds(values), tab.priors)
        runs.append(caption_pair.click(twice, posted, **running))
    for run in runs:  # the next takes what was measured now, with the settings that there are by now
        run.then(tab.foresee, posted, tab.budget, **AT_ONCE)
    stoppable(tab.inputs.given.stop, runs, status, last_words, start)
    if "inpaint" in tab.inputs.groups:
        for run in runs:
            run.failure(None, None, None, js=browser(f"askForMask('{tab.method}')"), **PRIVATE)
    return runs


def _opening_events(tab: MethodTab, page: gr.Blocks) -> None:
    """What the page opens with; the run of a link begins by itself."""
    opened = page.load(tab.open_page, None, [*tab.everything, tab.linked, tab.tabs], **AT_ONCE)
    pressed = browser(f"tabOpened(linked, '{tab.method}')", "linked")
    opened.then(None, tab.linked, None, js=pressed, **PRIVATE)


def _history_events(tab: MethodTab, page: gr.Blocks) -> None:
    """The browser keeps what has run, and brings it back."""
    kept = browser("keepRun(text)", "text")
    places = [tab.address, tab.past]
    travelled = [run.success(None, tab.entry, places, js=kept, **PRIVATE) for run in tab.runs]
    page.load(None, None, tab.past, js=browser(f"showRuns('{tab.method}')"), **PRIVATE)
    picked = browser("pickedRun()")
    brought = tab.bring.click(tab.bring_back, tab.entry, tab.everything, js=picked, **SILENT)
    brought.then(None, None, None, js=browser(f"seeRun('{tab.method}')"), **PRIVATE)
    travelled.append(brought)
    for event in travelled:
        event.then(lambda: "", None, tab.entry, **AT_ONCE)
