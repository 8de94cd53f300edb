"""The controls of a tab and the places of its result, without what they do."""

from __future__ import annotations

import dataclasses
import math
from typing import Any, NamedTuple

import gradio as gr

from restoration.degradations.blind import titles
from restoration.degradations.linear import FILES, TASKS
from restoration.page import actions, state
from restoration.page.device import ON_DEVICE, on_gpu
from restoration.page.state import CLEAN, DEGRADED, EXAMPLES
from restoration.page.uploads import received
from restoration.priors.caption import CAPTIONERS
from restoration.priors.checkpoints import PRIORS
from restoration.solvers import PRESETS, SOLVERS

PRIVATE: Any = {"api_visibility": "private"}
# small things do not wait for a place in the queue, which runs may have filled; but only from the queue does gr.Error
# reach the visitor
AT_ONCE: Any = {"queue": False, "show_progress": "hidden"} | PRIVATE
STATIC = "new URL('restoration/page.js', document.baseURI)"  # page/static/page.js
Parts = dict[Any, gr.components.Component]


def browser(call: str, *arguments: str) -> str:
    """The `js` of an event: a call of what page.js exports, with the values of the event's inputs under these names."""
    return f"async ({', '.join(arguments)}) => (await import({STATIC})).{call}"


def picture(**options: Any) -> gr.Image:
    """A box to upload or paste a picture into; it hands over the path of the untouched file."""
    box = gr.Image(sources=["upload", "clipboard"], format="png", type="filepath", image_mode=None, **options)
    # of this box, not of a class: Gradio writes a stub file beside the module of every subclass. Hide a box by hiding
    # what it stands in: an update of the box itself would make Gradio build another
    box.preprocess = received  # type: ignore[method-assign]
    return box


def upload(**options: Any) -> gr.File:
    """A box to upload a file into; it hands over its path."""
    box = gr.File(type="filepath", **options)
    box.preprocess = received  # type: ignore[method-assign,assignment]
    return box


def control(field: dataclasses.Field[Any], value: Any) -> gr.components.Component:
    """The slider, drop-down, text or file box of one knob, as it begins."""
    meta, label = field.metadata, field.name.replace("_", " ").capitalize()
    if field.name in FILES:
        return upload(label=label + ": " + meta["help"], file_types=["image", ".npy"])
    if meta["choices"]:
        return gr.Dropdown(list(meta["choices"]), value=value, label=label, info=meta["help"])
    if isinstance(field.default, str):
        return gr.Textbox(value, label=label, info=meta["help"], max_length=500)
    default: Any = field.default
    fine = min(-2, math.floor(math.log10(default)) - 1) if default else -2
    step = 1 if isinstance(field.default, int) else 10**fine
    return gr.Slider(meta["low"], meta["high"], value=value, step=step, label=label, info=meta["help"])


class Inputs(NamedTuple):
    """The left side of a tab: its controls by the names of state.Values, the groups of a task's knobs, and what is pressed or only shown."""

    parts: Parts
    groups: dict[str, gr.Group]
    budget: gr.HTML
    start: gr.Button
    stop: gr.Button
    caption_pair: gr.Button | None
    examples: gr.Dataset
    reference: gr.Group


def picture_column(method: str) -> Inputs:
    """What goes in: the picture, the buttons, the damage and the method's settings."""
    blind, opening = SOLVERS[method].blind, state.opening_values(method)
    parts: Parts = {}
    parts["photo"] = picture(label="Your picture", height=240, alt_text="The picture to restore")
    with gr.Row():
        start, stop = gr.Button("Restore", variant="primary", elem_id=f"start-{method}"), gr.Button("Stop")
    budget = gr.HTML("&nbsp;")
    rows = state.stored_examples(method)
    examples = gr.Dataset(
        components=[gr.Image(render=False)],
        samples=[[str(EXAMPLES / row["image"])] for row in rows],
        sample_labels=[row["title"] for row in rows],
        type="index",
        label="Examples",
        visible=bool(rows),
    )
    parts["mode"] = gr.Radio([CLEAN, DEGRADED], value=CLEAN, label="My picture is")
    with gr.Group(visible=False) as reference:
        title = "Clean reference (optional, for scores)"
        parts["reference"] = picture(label=title, height=160, alt_text="The clean reference")
    label, told = "Task", "What was, or is first, done to the picture"
    if blind:
        label, told = "Damage", "What the demo does to a clean picture first"
    damages = [(titles()[name], name) for name in SOLVERS[method].damages()]
    parts["task"] = gr.Dropdown(damages, value=SOLVERS[method].damages()[0], label=label, info=told)
    groups = {}
    for name in SOLVERS[method].damages():
        if name in TASKS:
            with gr.Group(visible=name == SOLVERS[method].damages()[0]) as groups[name]:
                for field in state.knobs(TASKS[name]):
                    parts[name, field.name] = control(field, opening[name, field.name])
    told = "The model that knows what photographs look like"
    prior = parts["prior"] = gr.Dropdown(list(PRIORS), value="embedded", label="Prior", info=told)
    about = gr.Markdown(actions.about_prior("embedded"))
    prior.input(actions.about_prior, prior, about, **AT_ONCE)
    parts["preset"] = gr.Dropdown(
        list(PRESETS[method]), label="Preset", info="Fills in the method's settings"
    )
    caption_pair = None
    if (prompt := SOLVERS[method].__dataclass_fields__.get("prompt")) is not None:
        parts[method, "prompt"] = control(prompt, "")
        caption_pair = caption_row(parts[method, "prompt"], parts["photo"], parts["prior"])
    with gr.Accordion("Method settings", open=False):
        parts["seed"] = gr.Number(
            0, label="Seed", precision=0, info="The same seed gives the same result", minimum=0
        )
        for field in state.knobs(SOLVERS[method]):
            if field.name != "prompt":
                parts[method, field.name] = control(field, opening[method, field.name])
    return Inputs(parts, groups, budget, start, stop, caption_pair, examples, reference)


def result_column(method: str) -> list[gr.components.Component]:
    """What comes out: (comparison, status, scores, curve, views, file)."""
    comparison = gr.ImageSlider(
        label="Before and after", format="png", interactive=False, type="filepath", height=460
    )
    with gr.Accordion("Side by side: the wheel or + and − zoom both", open=False):
        sides = gr.HTML()
    drawn = browser("sideBySide(pair)", "pair")
    comparison.change(None, comparison, sides, js=drawn, show_progress="hidden", **PRIVATE)
    status = gr.HTML("Choose a picture and press Restore.")
    title = "Scores: ↑ higher is better, ↓ lower is better"
    scores = gr.Dataframe(headers=["metric", "input", "result"], label=title, interactive=False)
    views = gr.Gallery(
        label="Inside the method",
        format="png",
        columns=3,
        fit_columns=False,
        height=260,
        object_fit="contain",
        visible=SOLVERS[method].blind,
        interactive=False,
    )
    file = gr.File(
        label="Download: the PNG carries the recipe of its run and repeats it", height=80, interactive=False
    )
    with gr.Accordion("Course of the run", open=False):
        curve = gr.LinePlot(x="step", y="residual", label="Distance to the measurement by step", height=180)
    return [comparison, status, scores, curve, views, file]


def caption_row(
    prompt: gr.components.Component, photo: gr.components.Component, prior: gr.components.Component
) -> gr.Button:
    """Who may describe the picture for the prompt's box, and the button that asks.

    Returned is the button that runs without and with the caption.
    """
    told = "Downloads the model at the first use"
    with gr.Row():
        captioner = gr.Dropdown(list(CAPTIONERS)[1:], label="Describe the picture with", info=told, scale=2)
        ask = gr.Button("Describe", scale=1)
    note = gr.HTML()
    ask.click(on_gpu(actions.describe), [photo, captioner, prior], [prompt, note], **ON_DEVICE, **PRIVATE)
    return gr.Button("Restore without and with this caption", size="sm")
