"""A method's tab: its controls on the left, its result on the right, and which action each control starts."""

from __future__ import annotations

import contextlib
import html
from collections.abc import Iterator
from typing import Any, NamedTuple

import gradio as gr

from restoration.page import actions, display, history, share_row, shares, state
from restoration.page.controls import (
    NO_EXAMPLE,
    Parts,
    begin,
    heading,
    picture_column,
    result_rest,
    result_top,
    stoppable,
)
from restoration.page.device import ON_DEVICE, UNKNOWN_SECONDS, on_gpu
from restoration.page.events import AT_ONCE, PRIVATE, browser
from restoration.page.state import DEGRADED
from restoration.solvers import SOLVERS, preset_for, resolve


class MethodTab(NamedTuple):
    """What an upload fills in: the controls by the names of `state.Values`, the result's places, the line
    about the photograph.
    """

    parts: Parts
    outputs: list[gr.components.Component]
    seen: gr.HTML
    address: gr.Textbox
    start: gr.Button


def method_tab(method: str, page: gr.Blocks, tabs: gr.Tabs) -> MethodTab:
    """Controls on the left, result on the right, filled with the first stored example, or what the link says,
    as it opens.
    """
    gr.Markdown(heading(method)[1])
    linked = gr.Checkbox(visible=False)  # whether a link has filled in the controls
    entry = gr.Textbox(visible=False)  # a run on its way to or from the history
    with gr.Row():
        with gr.Column(scale=2, min_width=320):
            parts, groups, seen, budget, start, stop, caption_pair, examples, reference = picture_column(
                method
            )
        with gr.Column(scale=3, min_width=320):
            comparison, status = result_top(method)
            sharing = share_row.share_row(method)
            outputs = [comparison, status, *result_rest(comparison, SOLVERS[method].blind)]
            title = "Settings link: repeats this run anywhere, for ever"
            address = gr.Textbox(label=title, interactive=False, buttons=["copy"])
            with gr.Accordion("History (kept in your browser alone)"):
                past = gr.HTML()
            bring = gr.Button(elem_id=f"bring-back-{method}", visible="hidden")
    # a preset leaves the prompt alone: it belongs to the picture
    knobs = {key: part for key, part in parts.items() if isinstance(key, tuple)}
    own_knobs = {key: part for key, part in knobs.items() if key[0] == method and key[1] != "prompt"}
    # what the line before a run depends on
    decisive: list[Any] = [part for key, part in parts.items() if key[-1] != "prompt" and key != "reference"]

    def named(values: dict[gr.components.Component, Any]) -> dict[Any, Any]:
        return {name: values[part] for name, part in parts.items()}

    def chosen_prior(values: dict[gr.components.Component, Any]) -> list[str]:
        return [state.known_prior(named(values)["prior"])]

    def needed(values: dict[gr.components.Component, Any]) -> float:
        with contextlib.suppress(ValueError):  # the run itself will say what is wrong
            return actions.seconds_needed(method, named(values))
        return UNKNOWN_SECONDS

    def finished(values: dict[gr.components.Component, Any], shown: tuple[Any, ...]) -> tuple[Any, Any]:
        run = history.finished(method, named(values), shown) if shown[5] else None
        return history.entry(method, named(values), shown[:6]), run and (run, None)

    def restored(values: dict[gr.components.Component, Any]) -> Iterator[tuple[Any, ...]]:
        for shown in actions.with_last_words(actions.run(method, named(values)), 6, 1, 5):
            yield *shown, *finished(values, shown)

    def restored_twice(values: dict[gr.components.Component, Any]) -> Iterator[tuple[Any, ...]]:
        for shown in actions.with_last_words(actions.caption_pair(method, named(values)), 6, 1, 5):
            yield *shown, *finished(values, shown)

    def open_page(request: gr.Request) -> dict[Any, Any]:
        query = dict(request.query_params)
        asked = resolve(query.get("method", ""), query.get("preset", ""))[0]
        first = method == next(iter(SOLVERS))
        # the first tab answers for what there is not
        if asked == method or ((asked or "share" in query) and asked not in SOLVERS and first):
            try:
                if "share" in query:
                    opened = show_run(*history.shared(method, query["share"]))
                    return opened | sharing.opened(opened, query) | {tabs: gr.update(selected=method)}
                if "image" not in query:
                    return first_example() | {tabs: gr.update(selected=method)}
                values = state.from_query(query)[1]
                filled: dict[Any, Any] = {parts[name]: value for name, value in values.items()}
                return filled | {tabs: gr.update(selected=method), linked: True}
            except shares.Gone as error:
                return {sharing.note: str(error), outputs[1]: "", tabs: gr.update(selected=method)}
            except ValueError as error:
                instead = " Here is an example instead." if state.stored_examples(method) else ""
                shown = {outputs[1]: html.escape(f"{error}{instead}"), tabs: gr.update(selected=method)}
                return first_example() | shown
        return first_example()

    def first_example() -> dict[gr.components.Component, Any]:
        return show_example(0) if state.stored_examples(method) else {outputs[1]: NO_EXAMPLE}

    def show_example(index: int) -> dict[gr.components.Component, Any]:
        rows = state.stored_examples(method)
        if type(index) is not int or not 0 <= index < len(rows):
            raise gr.Error("There is no such example.", print_exception=False)
        values, shown = state.example_values(rows[index]), display.example_outputs(rows[index])
        return show_run(values, shown)

    def show_run(values: Any, shown: tuple[Any, ...]) -> dict[Any, Any]:
        run = history.finished(method, values, shown)
        filled = {parts[name]: value for name, value in values.items()}
        filled |= {address: "", seen: "", sharing.note: "", sharing.shown: (run, None)}
        return filled | dict(zip(outputs, shown, strict=True))

    def apply_preset(name: str) -> dict[gr.components.Component, Any]:
        return {part: state.preset_values(method, name)[key] for key, part in own_knobs.items()}

    def apply_prior(prior: str, chosen: str) -> dict[gr.components.Component, Any]:
        suited = preset_for(method, state.known_prior(prior), chosen)
        if suited == chosen:
            return {preset: gr.skip()}
        gr.Info(f"The preset {suited} suits {prior}: it is chosen now.")
        return {preset: suited} | apply_preset(suited)

    def bring_back(text: str) -> dict[gr.components.Component, Any]:
        values, shown = history.recall(method, text)
        return show_run(values, shown)

    def foresee(values: dict[gr.components.Component, Any]) -> str:
        return actions.forecast(method, named(values))

    everything = [*parts.values(), *outputs, address, seen, sharing.shown, sharing.note]
    inputs: set[gr.blocks.Block] = set(parts.values())
    last_words = gr.State("")
    # the place in the queue is shown over the status line
    running: Any = {"show_progress": "minimal", "show_progress_on": outputs[1]}
    running |= {"outputs": [*outputs, last_words, entry, sharing.shown]} | ON_DEVICE | PRIVATE
    presses = [button for button in (start, caption_pair) if button]
    seen_first = [start, outputs[0], outputs[1], outputs[5]]
    for button in presses:
        button.click(None, None, seen_first, js=begin(method), **PRIVATE)
    runs = [start.click(on_gpu(restored, needed, chosen_prior), inputs, **running)]
    if caption_pair:
        runs.append(
            caption_pair.click(
                on_gpu(restored_twice, lambda values: 2 * needed(values), chosen_prior), inputs, **running
            )
        )
    opened = page.load(open_page, None, [*everything, linked, tabs, sharing.erase], **AT_ONCE)
    opened.then(None, linked, None, js=browser(f"pressIf(linked, 'start-{method}')", "linked"), **PRIVATE)
    kept = browser("keepRun(text)", "text")
    travelled = [event.success(None, entry, [address, past], js=kept, **PRIVATE) for event in runs]
    stoppable(stop, runs, outputs[1], last_words, start)
    page.load(None, None, past, js=browser(f"showRuns('{method}')"), **PRIVATE)
    picked = browser("pickedRun()")
    travelled.append(bring.click(bring_back, entry, everything, js=picked, show_progress="hidden", **PRIVATE))
    for event in travelled:
        event.then(lambda: "", None, entry, **AT_ONCE)
    examples.click(show_example, examples, everything, **AT_ONCE)
    mode, task, preset = (parts[name] for name in ("mode", "task", "preset"))
    parts["prior"].input(apply_prior, [parts["prior"], preset], [preset, *own_knobs.values()], **AT_ONCE)  # type: ignore[attr-defined]
    preset.input(apply_preset, preset, list(own_knobs.values()), **AT_ONCE)  # type: ignore[attr-defined]
    mode.change(lambda chosen: gr.update(visible=chosen == DEGRADED), mode, reference, **AT_ONCE)  # type: ignore[attr-defined]
    shown_groups = lambda chosen: [gr.update(visible=name == chosen) for name in groups]  # noqa: E731
    task.change(shown_groups, task, list(groups.values()), **AT_ONCE)  # type: ignore[attr-defined]
    gr.on([part.change for part in decisive], foresee, inputs, budget, trigger_mode="always_last", **AT_ONCE)
    return MethodTab(parts, outputs, seen, address, start)
