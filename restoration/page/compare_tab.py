"""The tab that restores one picture with several methods and shows the results side by side."""

from __future__ import annotations

import functools
import html
import json
from typing import Any, NamedTuple

import gradio as gr

from restoration.page import compare_choices, comparisons, shares
from restoration.page.compare_actions import drawn, forecast, needed_seconds, with_last_words
from restoration.page.compare_cells import Figure
from restoration.page.compare_choices import COMPARE
from restoration.page.comparisons import Asked
from restoration.page.controls import link_box, picture
from restoration.page.device import ON_DEVICE, on_gpu
from restoration.page.display import sentence
from restoration.page.events import AT_ONCE, PRIVATE, SILENT, begin, browser, stoppable
from restoration.page.part import PartFold, part_fold
from restoration.page.share_row import ShareRow, share_row
from restoration.page.state import EXAMPLES
from restoration.priors.catalogue import PRIORS

Shown = dict[Any, Any]  # what an event shows, by component


class Choices(NamedTuple):
    """What is compared, in the order of `compared`'s arguments after the photograph."""

    damage: gr.Dropdown
    methods: gr.CheckboxGroup
    seeds: gr.Slider
    priors: gr.CheckboxGroup


class CompareTab(NamedTuple):
    """What an upload, a link and the history fill in: controls, the line about the photograph, the result's
    places, and the button to the method that is likely the best, named in a hidden box.

    linked: whether a link has filled in the controls; entry: a comparison on its way to or from the browser's
    history; bring: pressed by the history.
    """

    tabs: gr.Tabs
    photo: gr.Image
    part: PartFold
    choices: Choices
    seen: gr.HTML
    likely: gr.Textbox
    quick: gr.Button
    start: gr.Button
    stop: gr.Button
    budget: gr.HTML
    sharing: ShareRow
    outputs: list[gr.components.Component]  # status, pictures, scores, file
    address: gr.Textbox
    past: gr.HTML
    bring: gr.Button
    linked: gr.Checkbox
    entry: gr.Textbox
    runs: list[Any]  # the event that compares

    @property
    def asked(self) -> list[gr.components.Component]:
        """The controls, in the order of `compared`'s arguments."""
        return [self.photo, *self.choices]

    @property
    def damage(self) -> gr.Dropdown:
        return self.choices.damage

    @property
    def filled(self) -> list[gr.blocks.Block]:
        """All that an upload or a comparison of before fills in."""
        beside = [self.seen, self.likely, self.quick, self.start, self.address, *self.sharing.places]
        return [*self.asked, *self.outputs, *beside]

    def leading(self, likely: str) -> Shown:
        """One button is the plain one to press: Restore where a method is likely the best, else Compare."""
        quick, start = gr.update(visible=bool(likely)), "secondary" if likely else "primary"
        return {self.likely: likely, self.quick: quick, self.start: gr.update(variant=start)}

    def emptied(self, status: str) -> Shown:
        """No result, and nothing to share."""
        nothing = {self.address: ""} | self.sharing.of()
        return nothing | dict(zip(self.outputs, (status, None, None, None), strict=True))

    def open_page(self, request: gr.Request) -> Shown:
        """What the link says, where it is for this tab, or else the stored comparison."""
        query = dict(request.query_params)
        if query.get("method") != COMPARE:
            return self.show(stored())
        here = {self.tabs: gr.update(selected=COMPARE)}
        try:
            if "share" in query:
                filled = self.show(comparisons.shared(query["share"]))
                return filled | self.sharing.opened(filled, query) | here
            if "image" not in query:
                return self.show(stored()) | here
            asked = comparisons.from_query(query)
            return dict(zip(self.asked, asked, strict=True)) | {self.linked: True} | here
        except shares.Gone as error:
            return self.emptied(f'<b class="gone">{error}</b>') | here
        except ValueError as error:
            said = html.escape(f"{sentence(error)} Here is an example instead.")
            return self.show(stored()) | {self.outputs[0]: said} | here

    def bring_back(self, text: str) -> Shown:
        return self.show(comparisons.recall(text))

    def show(self, past: comparisons.Shown) -> Shown:
        """A comparison of before with its controls."""
        filled: Shown = dict(zip(self.asked, past.asked, strict=True))
        shown = past.status, *drawn(past.figures), None
        filled |= {self.seen: ""} | self.leading("")
        filled |= self.emptied("") | dict(zip(self.outputs, shown, strict=True))
        return filled | {self.part.fold: gr.update(visible=False)} | self.sharing.of(past.run)


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


def results() -> tuple[ShareRow, list[gr.components.Component]]:
    """The Share button, and the places of (status, pictures, scores, files), which take the whole width."""
    status = gr.HTML(elem_id="status-compare", elem_classes="status")
    sharing = share_row(COMPARE, comparisons.share, "comparison", "Compare")
    pictures = gr.HTML(padding=False, elem_id="compared")
    scores = gr.Dataframe(
        headers=["picture"],
        label="Scores: ★ is the best of its column",
        interactive=False,
        elem_classes=["of-result", "of-all"],
    )
    title = "Download: pictures with their recipes, scores, contact sheet; with your photograph, or without"
    file = gr.File(label=title, file_count="multiple", interactive=False, elem_classes="download")
    return sharing, [status, pictures, scores, file]


def compare_tab(page: gr.Blocks, tabs: gr.Tabs) -> CompareTab:
    """The picture, the choices and the results; as it opens a stored comparison, or what the link says."""
    tab = _laid_out(tabs)
    _run_events(tab)
    _opening_events(tab, page)
    _history_events(tab, page)
    return tab


def _laid_out(tabs: gr.Tabs) -> CompareTab:
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
            part = part_fold(COMPARE)
        with gr.Column(scale=1, min_width=300):
            seen = gr.HTML(elem_id="seen-compare")
            likely = gr.Textbox(visible=False)
            quick = gr.Button("Restore", variant="primary", visible=False, elem_id="quick")
            with gr.Row():
                start = gr.Button("Compare", variant="primary", elem_id="start-compare")
                stop = gr.Button("Stop", min_width=80, elem_classes="ends-run")
            budget = gr.HTML("&nbsp;")
            choices = choices_fold()
    sharing, outputs = results()
    title = "Settings link: compares the same again anywhere, for ever"
    address = link_box(title)
    with gr.Accordion("History (kept in your browser alone)"):
        past = gr.HTML()
    bring = gr.Button(elem_id="bring-back-compare", visible="hidden")
    linked, entry = gr.Checkbox(visible=False), gr.Textbox(visible=False)
    given = tabs, photo, part, choices, seen, likely, quick, start, stop, budget
    return CompareTab(*given, sharing, outputs, address, past, bring, linked, entry, [])


def _run_events(tab: CompareTab) -> None:
    """What starts a comparison and what stops it, and the forecast."""
    status, pictures, _, file = tab.outputs
    last_words = gr.State("")
    waiting = begin(COMPARE, "Comparing…")
    tab.start.click(None, None, [tab.start, pictures, status, file], js=waiting, **PRIVATE)
    event = tab.start.click(
        on_gpu(with_last_words, needed_seconds, lambda *values: values[-1]),
        tab.asked,
        [*tab.outputs, tab.entry, tab.sharing.shown, last_words],
        show_progress="minimal",
        show_progress_on=status,
        trigger_mode="multiple",  # as in a method's tab
        **ON_DEVICE,
        **PRIVATE,
    )
    tab.runs.append(event)
    changes = [part.change for part in tab.asked]  # type: ignore[attr-defined]
    gr.on(changes, forecast, tab.asked, tab.budget, trigger_mode="always_last", **AT_ONCE)
    event.then(forecast, tab.asked, tab.budget, **AT_ONCE)  # by what was measured now
    stoppable(tab.stop, [event], status, last_words, tab.start)


def _opening_events(tab: CompareTab, page: gr.Blocks) -> None:
    """What the page opens with; the comparison of a settings link begins by itself, and the downloads of a
    shared one follow its pictures."""
    places = [*tab.filled, tab.part.fold, tab.linked, tab.tabs]
    opened = page.load(tab.open_page, None, places, **AT_ONCE)
    pressed = browser(f"tabOpened(linked, '{COMPARE}')", "linked")
    opened.then(None, tab.linked, None, js=pressed, **PRIVATE)

    def downloads(now: Any) -> Any:
        return (now and comparisons.shared_archives(now[0])) or gr.skip()

    opened.then(downloads, tab.sharing.shown, tab.outputs[3], **AT_ONCE)


def _history_events(tab: CompareTab, page: gr.Blocks) -> None:
    """The browser keeps what has been compared, and brings it back."""
    (event,) = tab.runs
    kept = browser("keepRun(text)", "text")
    travelled = [event.success(None, tab.entry, [tab.address, tab.past], js=kept, **PRIVATE)]
    page.load(None, None, tab.past, js=browser(f"showRuns('{COMPARE}')"), **PRIVATE)
    filled = [*tab.filled, tab.part.fold]
    picked = browser("pickedRun()")
    brought = tab.bring.click(tab.bring_back, tab.entry, filled, js=picked, **SILENT)
    brought.then(None, None, None, js=browser(f"seeRun('{COMPARE}')"), **PRIVATE)
    travelled.append(brought)
    for event in travelled:
        event.then(lambda: "", None, tab.entry, **AT_ONCE)


@functools.cache
def stored() -> comparisons.Shown:
    """The comparison that `python examples/make.py` has stored, without any computation."""
    rows = json.loads((EXAMPLES / "comparison.json").read_text())
    figures = [Figure(row["title"], row["scores"], str(EXAMPLES / row["file"])) for row in rows]
    asked = Asked(str(EXAMPLES / "chelsea.png"), "denoise", compare_choices.first({}), 1, ["embedded"])
    status = "An example, computed beforehand. Every method gets the same damaged picture: drop yours above."
    return comparisons.Shown(asked, status, figures)
