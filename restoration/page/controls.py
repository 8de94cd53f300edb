"""The controls of a tab and the places of its result, without what they do."""

from __future__ import annotations

import dataclasses
import json
import math
from typing import Any, NamedTuple

import gradio as gr

from restoration.degradations.blind import titles
from restoration.degradations.blur import GaussianBlur
from restoration.degradations.linear import FILES, TASKS, Inpaint
from restoration.page import actions, display, drawing, sizes, state, strengths, words
from restoration.page.device import ON_DEVICE, on_gpu
from restoration.page.events import AT_ONCE, PRIVATE, browser
from restoration.page.part import PartFold, part_fold
from restoration.page.state import CLEAN, DEGRADED
from restoration.page.uploads import received
from restoration.priors.caption import CAPTIONERS, prepare
from restoration.priors.catalogue import PRIORS
from restoration.solvers import PAPERS, SOLVERS

# the tabs: what a method is for before its name, and when it is the one
TITLES = {
    "reld": (
        "Known damage · RELD",
        "For noise, blur, a small size or missing parts, when you can say which.",
    ),
    "latent-indigo": (
        "Unknown camera · LatentINDIGO",
        "For what nobody can write down: the mixed blur, noise and compression of a camera; it also "
        "enlarges.",
    ),
    "ld-rps": (
        "Dark, hazy, noisy, grey · LD-RPS",
        "For too little light, haze, lost colour or noise of unknown strength; it finds out itself which.",
    ),
}
AS_PUBLISHED = "The paper's own algorithm, for comparison: takes minutes."
NO_EXAMPLE = "No example is stored here, as a run takes minutes. Choose a picture and press Restore."
# by what a table of scores may show
EXPLAINED = {
    "PSNR": "*PSNR, SSIM, LPIPS* and the like: how near it comes to the clean picture.",
    "NIQE": "*NIQE*: how natural it looks, without a clean one.",
    "consistency": "*consistency*: how well the result, damaged once more as was told, agrees with your "
    "picture, in dB.",
    "prior's round trip": "*prior's round trip*: what the model alone can draw of the clean picture, a "
    "ceiling.",
}
READY = "Restore"
CHOOSE = "Choose a picture and press Restore."
# of the classes, not of the boxes: for a session whose box is updated, or skipped among an event's outputs,
# Gradio builds another from its class; and not of subclasses, beside whose module it writes a stub file
for kind in (gr.Image, gr.File):
    kind.preprocess = staticmethod(received)  # type: ignore[method-assign,assignment]
Parts = dict[Any, gr.components.Component]


def heading(method: str) -> tuple[str, str]:
    """A tab's name, and the line that says when it is the one."""
    return TITLES.get(method, (SOLVERS[method].title, AS_PUBLISHED if method in PAPERS else ""))


def picture(**options: Any) -> gr.Image:
    """A box to upload or paste a picture into; it hands over the path of the untouched file."""
    return gr.Image(
        sources=["upload", "clipboard"], format="png", type="filepath", image_mode=None, **options
    )


def upload(**options: Any) -> gr.File:
    """A box to upload a file into; it hands over its path."""
    return gr.File(type="filepath", **options)


def link_box(title: str) -> gr.Textbox:
    """The place of a link, which page.css shows once there is one."""
    waits = "After the next run"
    return gr.Textbox(
        label=title, interactive=False, buttons=["copy"], placeholder=waits, elem_classes="if-any"
    )


def control(owner: str, field: dataclasses.Field[Any], value: Any) -> gr.components.Component:
    """The slider, drop-down, text or file box of one knob of a task or method, as it begins."""
    meta, label = field.metadata, words.label(owner, field.name)
    info = words.explained(owner, field.name, meta["help"])
    if field.name in FILES:
        return upload(label=words.LABELS.get(field.name, meta["help"]), file_types=["image", ".npy"])
    if meta["choices"]:
        return gr.Dropdown(list(meta["choices"]), value=value, label=label, info=info)
    if isinstance(field.default, str):
        return gr.Textbox(value, label=label, info=info, max_length=500)
    default: Any = field.default
    fine = min(-2, math.floor(math.log10(default)) - 1) if default else -2
    step = 1 if isinstance(field.default, int) else 10**fine
    return gr.Slider(meta["low"], meta["high"], value=value, step=step, label=label, info=info)


class Given(NamedTuple):
    """What most visitors need: the picture and the buttons."""

    photo: gr.Image
    seen: gr.HTML
    part: PartFold
    size: gr.Radio
    start: gr.Button
    stop: gr.Button
    budget: gr.HTML


class Inputs(NamedTuple):
    """The left side of a tab: its controls by the names of state.Values, the groups of a task's knobs, and
    what is pressed or only shown; picks: the events by which pictures set knobs.
    """

    parts: Parts
    groups: dict[str, gr.Group]
    given: Given
    caption_pair: gr.Button | None
    examples: gr.Dataset
    reference: gr.Accordion
    picks: list[Any]


def picture_column(method: str) -> Given:
    """What goes in, and what is pressed."""
    alt = "The picture to restore"
    photo = picture(label="Your picture", height=240, alt_text=alt, elem_id=f"photo-{method}")
    seen = gr.HTML(elem_id=f"seen-{method}")
    part = part_fold(method)
    offered = [("Quick: 2 megapixels", sizes.QUICK), ("Large: 4 megapixels, takes longer", sizes.LARGE)]
    size = gr.Radio(offered, value=sizes.usual_size(), label="Size of the result", visible=False)
    with gr.Row():
        start = gr.Button(READY, variant="primary", elem_id=f"start-{method}", scale=3, min_width=160)
        stop = gr.Button("Stop", min_width=80, elem_classes="ends-run")
    return Given(photo, seen, part, size, start, stop, gr.HTML("&nbsp;"))


def settings_column(method: str, given: Given) -> Inputs:
    """The examples, the damage and the method's settings, which an upload fills in."""
    blind, opening = SOLVERS[method].blind, state.opening_values(method)
    parts: Parts = {"photo": given.photo, "size": given.size}
    examples = example_row(method)
    modes = [("Restore my photograph", DEGRADED), ("Test: damage a clean picture first", CLEAN)]
    parts["mode"] = gr.Radio(modes, value=CLEAN, label="What is to be done")
    with gr.Accordion("I have a clean reference, for scores", open=False, visible=False) as reference:
        parts["reference"] = picture(show_label=False, height=160, alt_text="The clean reference")
    label, info = "Damage", "What happened to the picture, or is done to it first in a test"
    if blind:
        info = "What a test does to a clean picture first; your photograph's is found out"
    damages = [(titles()[name], name) for name in SOLVERS[method].damages()]
    parts["task"] = gr.Dropdown(damages, value=SOLVERS[method].damages()[0], label=label, info=info)
    info = "What knows how photographs look; embedded is here already, others are downloaded"
    prior = gr.Dropdown(list(PRIORS), value="embedded", label="Model", info=info, render=False)
    parts["prior"] = prior
    groups, picks = {}, []
    for name in SOLVERS[method].damages():
        if name in TASKS:
            with gr.Group(visible=name == SOLVERS[method].damages()[0]) as groups[name]:
                drawn = drawing.sheet(method) if TASKS[name] is Inpaint else None
                for field in state.knobs(TASKS[name]):
                    parts[name, field.name] = control(name, field, opening[name, field.name])
                if drawn:
                    drawing.into(parts[name, "mask"], drawn, method)
                if TASKS[name] is GaussianBlur and method not in PAPERS:
                    picks.append(strengths.row(method, parts, name, given.start, given.stop))
    prior.render()
    about = gr.Markdown(actions.about_prior("embedded"))
    prior.input(actions.about_prior, prior, about, **AT_ONCE)
    parts["preset"] = gr.Dropdown(
        words.presets(method), label="Preset", info="Ready-made settings; single ones can be changed below"
    )
    with gr.Accordion("Method settings", open=False):
        parts["seed"] = gr.Number(
            0, label="Seed", precision=0, info="The same seed gives the same result", minimum=0
        )
        for field in state.knobs(SOLVERS[method]):
            if field.name != "prompt":
                parts[method, field.name] = control(method, field, opening[method, field.name])
    caption_pair = None
    if (prompt := SOLVERS[method].__dataclass_fields__.get("prompt")) is not None:
        readers = ", ".join(name for name, entry in PRIORS.items() if entry.text)
        with gr.Accordion("Caption: guides the models that read text", open=False):
            gr.Markdown(f"These read it: {readers}.", elem_classes="small")
            parts[method, "prompt"] = control(method, prompt, "")
            caption_pair = caption_row(parts[method, "prompt"], parts["photo"], parts["prior"])
    return Inputs(parts, groups, given, caption_pair, examples, reference, picks)


def example_row(method: str) -> gr.Dataset:
    """The stored examples to choose from."""
    rows = state.stored_examples(method)
    samples = [[display.thumbnail(row["before"], row["title"])] for row in rows]
    components = [gr.HTML(render=False)]
    return gr.Dataset(
        components=components, samples=samples, type="index", label="Examples", visible=bool(rows)
    )


def result_top(place: str) -> tuple[gr.components.Component, gr.components.Component]:
    """(comparison, status): what is looked at first."""
    status = gr.HTML(CHOOSE, elem_id=f"status-{place}", elem_classes="status")
    # without a height: a block of another height than its pictures cuts them, and tears the two apart
    comparison = gr.ImageSlider(
        label="Before and after",
        format="png",
        interactive=False,
        type="filepath",
        elem_id=f"comparison-{place}",
        elem_classes="if-any",
    )
    return comparison, status


def result_rest(comparison: gr.components.Component, inside: bool) -> list[gr.components.Component]:
    """What stands below the pictures: (scores, curve, views, file).

    inside: whether the method shows views.
    """
    file = gr.File(
        label="Download: the PNG carries the recipe of its run, and your photograph, to repeat it",
        height=80,
        interactive=False,
        elem_classes="download",
    )
    alone = gr.HTML(elem_classes="alone")
    shown = "of-result"  # page.css leaves it out where there is no result
    title = "Side by side: the wheel or + and − zoom both"
    with gr.Accordion(title, open=False, elem_classes=shown):
        sides = gr.HTML()
    title = "Scores: ↑ higher is better, ↓ lower is better"
    headers = ["metric", "input", "result"]
    scores = gr.Dataframe(headers=headers, label=title, interactive=False, elem_classes=shown)
    words_of = gr.Markdown(elem_classes=["small", shown])
    told = browser(f"explained(table, {json.dumps(EXPLAINED)})", "table")
    scores.change(None, scores, words_of, js=told, show_progress="hidden", **PRIVATE)
    drawn = browser("sideBySide(pair)", "pair")
    comparison.change(  # type: ignore[attr-defined]
        None, comparison, [sides, alone], js=drawn, show_progress="hidden", **PRIVATE
    )
    with gr.Accordion("Course of the run", open=False, elem_classes=shown):
        curve = gr.LinePlot(x="step", y="residual", label="Distance to the measurement by step", height=180)
    with gr.Accordion("Inside the method", open=False, visible=inside, elem_classes=shown):
        views = gr.Gallery(
            show_label=False,
            format="png",
            columns=3,
            fit_columns=False,
            height="auto",
            object_fit="contain",
            interactive=False,
        )
    return [scores, curve, views, file]


def caption_row(
    prompt: gr.components.Component, photo: gr.components.Component, prior: gr.components.Component
) -> gr.Button:
    """Who may describe the picture for the prompt's box, and the button that asks.

    Returned is the button that runs without and with the caption.
    """
    info = "Downloads the model at the first use"
    with gr.Row():
        captioner = gr.Dropdown(list(CAPTIONERS)[1:], label="Describe the picture with", info=info, scale=2)
        ask = gr.Button("Describe", scale=1)
    note = gr.HTML()
    described = on_gpu(actions.describe, prepare=lambda photo, name, prior: prepare(name))
    ask.click(described, [photo, captioner, prior], [prompt, note], **ON_DEVICE, **PRIVATE)
    return gr.Button("Restore without and with this caption", size="sm")
