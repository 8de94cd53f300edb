"""The page: layout and handlers, no tensor arithmetic. `python app.py` opens it."""

from __future__ import annotations

import contextlib
import dataclasses
import html
import math
from collections.abc import Iterator
from typing import Any, NamedTuple
from unittest import mock

import gradio as gr

from restoration.degradations.blind import titles
from restoration.degradations.linear import FILES, TASKS
from restoration.page import form, handlers
from restoration.page.form import CLEAN, DAMAGES, DEGRADED, EXAMPLES
from restoration.priors.caption import CAPTIONERS
from restoration.priors.checkpoints import PRIORS
from restoration.priors.latent import load_prior
from restoration.solvers import PRESETS, SOLVERS
from restoration.zero_gpu import UNKNOWN_SECONDS, on_gpu

INTRO = """# Latent restoration
Restore a photograph with a latent diffusion model as the prior. Details are estimated, not recovered: do not use results to identify anybody."""
ABOUT = """### What is what
**RELD** is told how the picture was damaged; **LatentINDIGO** learns it with an invertible network; **LD-RPS** guesses it and fits a small network
to your picture. *Prior's round trip* is what encoding and decoding the clean picture alone would score: no latent method gets past it unless it
also works in pixels. *Consistency* is how well the result, damaged again, agrees with your picture (PSNR in dB).
### Privacy and links
Pictures stay on this server for at most a day, then they are deleted; the history is kept in your browser alone. A *settings link* works for ever
and repeats a run on an example picture; the link at the foot of the page carries your own picture too and expires after a day at the latest.
### Limits
Uploads: 20 MB; large pictures are reduced so far that the result has at most 4 megapixels. One run at a time, {limit:.0f} s at most.
Photographs only; text and faces are not treated specially.
### Licences
The page uses Gradio, diffusers, transformers, deepinv and lpips (Apache-2.0, BSD or MIT). The embedded prior, the invertible networks and
the statistics of NIQE are this project's own work. The captioners are Apache-2.0, the small decoders for previews
of the large priors (TAESD) MIT. Other priors are downloaded only when chosen:

{priors}"""
CSS = """.zoom { display: grid; grid-template-columns: repeat(auto-fit, minmax(180px, 1fr)); gap: 8px; align-items: end }
.zoom figure { margin: 0; overflow: hidden } .zoom figcaption { font-size: 0.9em; position: relative; z-index: 1 }
.zoom div { overflow: hidden }
.zoom img { width: 100%; display: block; transform: scale(var(--zoom, 1)); transform-origin: var(--x, 50%) var(--y, 50%) }
.past { display: flex; flex-wrap: wrap; gap: 8px; min-height: 24px } .past img { height: 90px; display: block; margin: 0 auto }
.past button { font-size: 0.8em; cursor: pointer }"""
# Wheel or + and - over a comparison's pictures enlarges all of them about the pointer. The history never gets to the server, whose
# values a deep link would hand to others: a run's entry comes once, and only the one that is clicked goes back.
HEAD = """<script>
function zoom(grid, factor) {
  const now = parseFloat(grid.style.getPropertyValue('--zoom') || 1);
  grid.style.setProperty('--zoom', Math.min(16, Math.max(1, now * factor)));
}
document.addEventListener('wheel', e => {
  const grid = e.target.tagName === 'IMG' && e.target.closest('.zoom');
  if (grid) { e.preventDefault(); zoom(grid, e.deltaY < 0 ? 1.25 : 0.8); }
}, { passive: false });
document.addEventListener('mousemove', e => {
  const grid = e.target.tagName === 'IMG' && e.target.closest('.zoom');
  if (!grid) return;
  const box = e.target.parentElement.getBoundingClientRect();
  grid.style.setProperty('--x', 100 * (e.clientX - box.left) / box.width + '%');
  grid.style.setProperty('--y', 100 * (e.clientY - box.top) / box.height + '%');
});
document.addEventListener('keydown', e => {
  const grid = document.activeElement && document.activeElement.closest('.zoom');
  if (grid && (e.key === '+' || e.key === '-')) zoom(grid, e.key === '+' ? 1.25 : 0.8);
});
function press(id, tries = 100) {  // a tab's parts are there only some time after it is chosen
  const button = document.getElementById(id);
  if (button) button.click(); else if (tries) setTimeout(press, 100, id, tries - 1);
}
function pastRuns() {
  try { return JSON.parse(localStorage.getItem('runs')) || []; } catch { return []; }
}
function keepRun(entry) {
  const runs = [entry, ...pastRuns()].slice(0, HISTORY);
  while (runs.length) {
    try { localStorage.setItem('runs', JSON.stringify(runs)); return; } catch { runs.pop(); }  // the browser's space is used up
  }
}
function showRuns(method) {
  const text = words => new Option(words).innerHTML.replaceAll('"', '&quot;');
  const buttons = pastRuns().map((run, k) => run.method !== method ? '' :
    `<button data-method="${method}" data-run="${k}"><img alt="${text(run.title)}" src="${text(run.pictures[1])}">${text(run.title)}</button>`);
  return `<div class="past">${buttons.join('') || 'Your results will be kept here.'}</div>`;
}
let pickedRun = '';
document.addEventListener('click', e => {
  const button = e.target.closest('.past button');
  if (!button) return;
  pickedRun = JSON.stringify(pastRuns()[button.dataset.run]);
  press('bring-back-' + button.dataset.method);
});
</script>""".replace("HISTORY", str(handlers.HISTORY))
NO_LINK = "Only a clean example picture, degraded here, fits into a settings link; share your own picture with the link at the foot of the page."
# the finished run: into the history, its address into the box
KEEP_RUN = """text => {
  const entry = JSON.parse(text);
  if (entry.pictures.length) keepRun(entry);
  return [entry.link ? location.origin + location.pathname + entry.link : 'NO_LINK', showRuns(entry.method)];
}""".replace("NO_LINK", NO_LINK)
# the two files of the slider once more, in the browser alone: the server neither sends nor keeps anything for it
SIDE_BY_SIDE = """pair => pair && pair[1] ? '<div class="zoom" tabindex="0" role="group" aria-label="Before and after; plus and minus zoom">' +
  ['Before', 'After'].map((title, k) => `<figure><figcaption>${title}</figcaption><div><img alt="${title}" src="${pair[k].url}"></div></figure>`)
    .join('') + '</div>' : ''"""
LAUNCH: dict[str, Any] = {
    "max_file_size": "20mb", "mcp_server": True, "enable_monitoring": False, "show_error": False, "run_history": False,
    "footer_links": ["api", "settings"], "head": HEAD, "css": CSS,
}  # fmt: skip
PRIVATE: Any = {"api_visibility": "private"}
ON_DEVICE: Any = {"concurrency_id": "device", "concurrency_limit": 1}
# small things do not wait for a place in the queue, which runs may have filled; but only from the queue does gr.Error reach the visitor
AT_ONCE: Any = {"queue": False, "show_progress": "hidden"} | PRIVATE
Parts = dict[Any, gr.components.Component]


# for a component's subclass Gradio writes a stub file beside the module
with mock.patch("gradio.component_meta.create_or_modify_pyi"):

    class Picture(gr.Image):
        """An image box that hands over the path of the untouched file: Gradio's own reading drops alpha, clips 16 bits and fails on garbage."""

        is_template = True  # drawn as its parent

        def preprocess(self, payload: Any) -> str | None:
            return payload.path if payload else None


def picture(**options: Any) -> Picture:
    """A box to upload or paste a picture into."""
    return Picture(sources=["upload", "clipboard"], format="png", **options)


def control(field: dataclasses.Field[Any], value: Any) -> gr.components.Component:
    """The slider, drop-down, text or file box of one knob, as it begins."""
    meta, label = field.metadata, field.name.replace("_", " ").capitalize()
    if field.name in FILES:
        return gr.File(label=label + ": " + meta["help"], file_types=["image", ".npy"], type="filepath")
    if meta["choices"]:
        return gr.Dropdown(list(meta["choices"]), value=value, label=label, info=meta["help"])
    if isinstance(field.default, str):
        return gr.Textbox(value, label=label, info=meta["help"], max_length=500)
    default: Any = field.default
    fine = min(-2, math.floor(math.log10(default)) - 1) if default else -2
    step = 1 if isinstance(field.default, int) else 10**fine
    return gr.Slider(meta["low"], meta["high"], value=value, step=step, label=label, info=meta["help"])


class Inputs(NamedTuple):
    """The left side of a tab: its controls by the names of form.Values, the groups of a task's knobs, and what is pressed or only shown."""

    parts: Parts
    groups: dict[str, gr.Group]
    budget: gr.Markdown
    start: gr.Button
    stop: gr.Button
    caption_pair: gr.Button | None
    examples: gr.Dataset


def picture_column(method: str) -> Inputs:
    """What goes in: the picture, the buttons, the damage and the method's settings."""
    blind, opening = SOLVERS[method].blind, form.opening_values(method)
    parts: Parts = {}
    parts["photo"] = picture(label="Your picture", height=240, alt_text="The picture to restore")
    with gr.Row():
        start, stop = gr.Button("Restore", variant="primary", elem_id=f"start-{method}"), gr.Button("Stop")
    budget = gr.Markdown("&nbsp;")
    rows = form.stored_examples(method)
    examples = gr.Dataset(
        components=[gr.Image(render=False)],
        samples=[[str(EXAMPLES / row["image"])] for row in rows],
        sample_labels=[row["title"] for row in rows],
        type="index",
        label="Examples",
    )
    parts["mode"] = gr.Radio([CLEAN, DEGRADED], value=CLEAN, label="My picture is")
    parts["reference"] = picture(label="Clean reference (optional, for scores)", visible=False, height=160, alt_text="The clean reference")
    label, told = ("Damage", "What the demo does to a clean picture first") if blind else ("Task", "What was, or is first, done to the picture")
    parts["task"] = gr.Dropdown([(titles()[name], name) for name in DAMAGES[method]], value=DAMAGES[method][0], label=label, info=told)
    groups = {}
    for name in DAMAGES[method]:
        if name in TASKS:
            with gr.Group(visible=name == DAMAGES[method][0]) as groups[name]:
                for field in form.knobs(TASKS[name]):
                    parts[name, field.name] = control(field, opening[name, field.name])
    parts["prior"] = gr.Dropdown(list(PRIORS), value="embedded", label="Prior", info="The model that knows what photographs look like")
    about = gr.Markdown(handlers.about_prior("embedded"))
    parts["prior"].input(handlers.about_prior, parts["prior"], about, **AT_ONCE)
    parts["preset"] = gr.Dropdown(list(PRESETS[method]), label="Preset", info="Fills in the method's settings")
    caption_pair = None
    if (prompt := SOLVERS[method].__dataclass_fields__.get("prompt")) is not None:  # type: ignore[attr-defined]
        parts[method, "prompt"] = control(prompt, "")
        caption_pair = caption_row(parts[method, "prompt"], parts["photo"], parts["prior"])
    with gr.Accordion("Method settings", open=False):
        parts["seed"] = gr.Number(0, label="Seed", precision=0, info="The same seed gives the same result", minimum=0)
        for field in form.knobs(SOLVERS[method]):
            if field.name != "prompt":
                parts[method, field.name] = control(field, opening[method, field.name])
    return Inputs(parts, groups, budget, start, stop, caption_pair, examples)


def result_column(method: str) -> list[gr.components.Component]:
    """What comes out: (comparison, status, scores, curve, views, file)."""
    comparison = gr.ImageSlider(label="Before and after", format="png", interactive=False, type="filepath", height=460)
    with gr.Accordion("Side by side: the wheel or + and − zoom both", open=False):
        sides = gr.HTML()
    comparison.change(None, comparison, sides, js=SIDE_BY_SIDE, show_progress="hidden", **PRIVATE)
    status = gr.HTML("Choose a picture and press Restore.")
    scores = gr.Dataframe(headers=["metric", "input", "result"], label="Scores: ↑ higher is better, ↓ lower is better", interactive=False)
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
    file = gr.File(label="Download: the PNG carries the recipe of its run and repeats it", height=80, interactive=False)
    with gr.Accordion("Course of the run", open=False):
        curve = gr.LinePlot(x="step", y="residual", label="Distance to the measurement by step", height=180)
    return [comparison, status, scores, curve, views, file]


def method_tab(method: str, page: gr.Blocks, tabs: gr.Tabs) -> None:
    """Controls on the left, result on the right, filled with the first stored example, or what the link says, when the page opens."""
    linked = gr.Checkbox(visible=False)  # whether a link has filled in the controls
    entry = gr.Textbox(visible=False)  # a run on its way to or from the history
    with gr.Row():
        with gr.Column(scale=2, min_width=320):
            parts, groups, budget, start, stop, caption_pair, examples = picture_column(method)
        with gr.Column(scale=3, min_width=320):
            outputs = result_column(method)
            address = gr.Textbox(label="Settings link: repeats this run anywhere, for ever", interactive=False, buttons=["copy"])
            with gr.Accordion("History (kept in your browser alone)"):
                past = gr.HTML()
            bring = gr.Button(elem_id=f"bring-back-{method}", visible="hidden")
    # a preset leaves the prompt alone: it belongs to the picture
    own_knobs = {key: part for key, part in parts.items() if isinstance(key, tuple) and key[0] == method and key[1] != "prompt"}
    # what the line before a run depends on
    decisive = [parts[name] for name in ("photo", "mode", "task", "preset")]
    decisive += [part for key, part in parts.items() if isinstance(key, tuple) and key[1] in {"scale", "steps"}]

    def named(values: dict[gr.components.Component, Any]) -> dict[Any, Any]:
        return {name: values[part] for name, part in parts.items()}

    def needed(values: dict[gr.components.Component, Any]) -> float:
        with contextlib.suppress(ValueError):  # the run itself will say what is wrong
            return handlers.seconds_needed(method, named(values))
        return UNKNOWN_SECONDS

    def chosen_prior(values: dict[gr.components.Component, Any]) -> str:
        return form.known_prior(named(values)["prior"])

    def handler(values: dict[gr.components.Component, Any]) -> Iterator[tuple[Any, ...]]:
        for shown in handlers.run(method, named(values)):
            yield *shown, handlers.history_entry(method, named(values), shown)

    def pair_handler(values: dict[gr.components.Component, Any]) -> Iterator[tuple[Any, ...]]:
        for shown in handlers.caption_pair(named(values)):
            yield *shown, handlers.history_entry(method, named(values), shown)

    def open_page(request: gr.Request) -> dict[gr.components.Component, Any]:
        query = dict(request.query_params)
        if "deep_link" in query:  # Gradio has filled in picture and settings already; its links do not carry what a generator showed
            return {linked: False, outputs[1]: "Somebody sent you a picture and settings: press Restore to see the result."}
        asked = query.get("method", "")
        if asked == method or (asked and asked not in SOLVERS and method == next(iter(SOLVERS))):  # the first tab answers for what there is not
            try:
                values = form.from_query(query)[1]
                return {tabs: gr.update(selected=method), linked: True} | {parts[name]: value for name, value in values.items()}
            except ValueError as error:
                return show_example(0) | {outputs[1]: html.escape(f"{error} Here is an example instead.")}
        return show_example(0)

    def show_example(index: int) -> dict[gr.components.Component, Any]:
        row = form.stored_examples(method)[index]
        filled = {parts[name]: value for name, value in form.example_values(row).items()} | {address: ""}
        return filled | dict(zip(outputs, handlers.example_outputs(row), strict=True))

    def apply_preset(name: str) -> dict[gr.components.Component, Any]:
        return {part: form.preset_values(method, name)[key] for key, part in own_knobs.items()}

    def bring_back(text: str) -> dict[gr.components.Component, Any]:
        values, shown = handlers.recall(text)
        return {parts[name]: value for name, value in values.items() if name in parts} | dict(zip(outputs, shown, strict=True)) | {address: ""}

    everything = [*parts.values(), *outputs, address]
    # the place in the queue is shown over the status line
    running: Any = {"show_progress": "minimal", "show_progress_on": outputs[1], "scroll_to_output": True} | ON_DEVICE | PRIVATE
    runs = [start.click(on_gpu(handler, needed, chosen_prior), set(parts.values()), [*outputs, entry], **running)]
    if caption_pair:
        both = on_gpu(pair_handler, lambda values: 2 * needed(values), chosen_prior)
        runs.append(caption_pair.click(both, set(parts.values()), [*outputs, entry], **running))
    opened = page.load(open_page, None, [*everything, linked, tabs], **AT_ONCE)
    opened.then(None, linked, None, js=f"linked => {{ if (linked) press('start-{method}'); }}", **PRIVATE)
    travelled = [event.success(None, entry, [address, past], js=KEEP_RUN, **PRIVATE) for event in runs]
    stoppable(stop, runs, outputs[1])
    page.load(None, None, past, js=f"() => showRuns('{method}')", **PRIVATE)
    travelled.append(bring.click(bring_back, entry, everything, js="() => pickedRun", show_progress="hidden", **PRIVATE))
    for event in travelled:
        event.then(lambda: "", None, entry, **AT_ONCE)
    examples.click(show_example, examples, everything, **AT_ONCE)
    parts["preset"].input(apply_preset, parts["preset"], list(own_knobs.values()), **AT_ONCE)  # type: ignore[attr-defined]
    parts["mode"].change(lambda mode: gr.update(visible=mode == DEGRADED), parts["mode"], parts["reference"], **AT_ONCE)  # type: ignore[attr-defined]
    parts["task"].change(lambda task: [gr.update(visible=n == task) for n in groups], parts["task"], list(groups.values()), **AT_ONCE)  # type: ignore[attr-defined]
    gr.on([part.change for part in decisive], lambda values: handlers.forecast(method, named(values)), set(parts.values()), budget, **AT_ONCE)  # type: ignore[attr-defined]


def caption_row(prompt: gr.components.Component, photo: gr.components.Component, prior: gr.components.Component) -> gr.Button:
    """Who may describe the picture for the prompt's box, the button that asks, and, returned, the one that runs without and with the caption."""
    with gr.Row():
        captioner = gr.Dropdown(list(CAPTIONERS)[1:], label="Describe the picture with", info="Downloads the model at the first use", scale=2)
        ask = gr.Button("Describe", scale=1)
    note = gr.Markdown()
    ask.click(on_gpu(handlers.describe), [photo, captioner, prior], [prompt, note], **ON_DEVICE, **PRIVATE)
    return gr.Button("Restore without and with this caption", size="sm")


def compare_tab() -> None:
    """One picture, several methods, one after the other."""
    choices = [f"{method}{handlers.SEPARATOR}{preset}" for method in SOLVERS for preset in PRESETS[method]]
    first = [f"{method}{handlers.SEPARATOR}{next(iter(PRESETS[method]))}" for method in SOLVERS]
    with gr.Row():
        with gr.Column(scale=1, min_width=300):
            photo = picture(value=str(EXAMPLES / "chelsea.png"), label="A clean picture", height=240, alt_text="The picture to compare methods on")
            with gr.Row():
                start, stop = gr.Button("Compare", variant="primary"), gr.Button("Stop")
            damage = gr.Dropdown(
                [(title, name) for name, title in titles().items() if name != "kernel-deblur"], value="denoise", label="What is done to it first"
            )
            methods = gr.CheckboxGroup(choices, value=first, label="Methods and presets")
            seeds = gr.Slider(1, 8, value=1, step=1, label="Seeds", info="With several: their mean, and where they differ")
        with gr.Column(scale=2, min_width=320):
            status = gr.HTML("Every method gets the same damaged picture. One that cannot treat the damage says so.")
            pictures = gr.HTML(label="Results side by side: the wheel zooms all of them")
            scores = gr.Dataframe(headers=["picture"], label="Scores: ★ is the best of its column", interactive=False)
            file = gr.File(label="Contact sheet", height=80, interactive=False)
    event = start.click(
        on_gpu(handlers.compare_all, lambda photo, damage, choices, seeds: UNKNOWN_SECONDS * len(choices) * seeds),
        [photo, damage, methods, seeds],
        [status, pictures, scores, file],
        show_progress="minimal",
        show_progress_on=status,
        scroll_to_output=True,
        **ON_DEVICE,
        **PRIVATE,
    )
    stoppable(stop, [event], status)


def repeat_tab() -> None:
    """A PNG of this page repeats its run."""
    with gr.Row():
        with gr.Column(scale=2, min_width=320):
            file = gr.File(label="A PNG that this page wrote: it carries its recipe and its input", file_types=[".png"], type="filepath")
            with gr.Row():
                start, stop = gr.Button("Repeat", variant="primary"), gr.Button("Stop")
            text = gr.Code(label="Its recipe", language="json", interactive=False)
        with gr.Column(scale=3, min_width=320):
            outputs = result_column("ld-rps")
            outputs[1].value = "Drop a picture that carries its recipe and press Repeat."  # type: ignore[attr-defined]

    file.change(handlers.read_recipe, file, text, show_progress="hidden", **PRIVATE)
    event = start.click(
        on_gpu(handlers.repeat),
        file,
        outputs,
        show_progress="minimal",
        show_progress_on=outputs[1],
        **ON_DEVICE,
        **PRIVATE,
    )
    stoppable(stop, [event], outputs[1])


def stoppable(stop: gr.Button, runs: list[Any], status: gr.components.Component) -> None:
    """Let the button end the runs, and the status line say so once they have ended: until then Gradio ignores another press of Restore."""
    stop.click(None, cancels=runs, **PRIVATE)
    for event in runs:
        event.then(handlers.stopped, status, status, **AT_ONCE)


def build() -> gr.Blocks:
    """The page, not yet served."""
    with gr.Blocks(title="Latent restoration", delete_cache=(3600, 86400), analytics_enabled=False) as page:
        gr.Markdown(INTRO)
        with gr.Tabs() as tabs:
            for method, solver in SOLVERS.items():
                with gr.Tab(solver.title, id=method):
                    method_tab(method, page, tabs)
            with gr.Tab("Compare", id="compare"):
                compare_tab()
            with gr.Tab("Repeat", id="repeat"):
                repeat_tab()
            with gr.Tab("About", id="about"):
                gr.Markdown(
                    ABOUT.format(limit=handlers.TIME_LIMIT, priors="\n".join(f"- {name}: {prior.describe()}" for name, prior in PRIORS.items()))
                )
        gr.DeepLinkButton("Link to this page with your picture and settings, for at most a day", size="sm")
        programming_interface()
        page.load(handlers.forget_deep_links, **AT_ONCE)
    return page


def programming_interface() -> None:
    """The named endpoints; their boxes are never shown."""
    with gr.Row(visible=False):
        photo, reference, out = picture(label="photo"), picture(label="reference"), gr.Image(label="restored", format="png", type="filepath")
        task, preset = gr.Textbox("denoise", label="task"), gr.Textbox("fast", label="preset")
        auto, damage = gr.Textbox("auto", label="preset"), gr.Textbox("denoise", label="damage")
        settings, seed, facts = gr.Textbox("{}", label="settings"), gr.Number(0, label="seed", precision=0), gr.Textbox(label="JSON")
        describer, button = gr.Textbox(list(CAPTIONERS)[1], label="captioner"), gr.Button()
    button.click(
        on_gpu(handlers.restore_reld),
        [photo, task, preset, settings, seed],
        [out, facts],
        api_name="restore_reld",
        **ON_DEVICE,
    )
    button.click(
        on_gpu(handlers.restore_latentindigo),
        [photo, preset, settings, seed],
        [out, facts],
        api_name="restore_latentindigo",
        **ON_DEVICE,
    )
    button.click(on_gpu(handlers.restore_ldrps), [photo, auto, settings, seed], [out, facts], api_name="restore_ldrps", **ON_DEVICE)
    button.click(handlers.degrade, [photo, damage, settings, seed], out, api_name="degrade")
    button.click(on_gpu(handlers.caption), [photo, describer], facts, api_name="caption", **ON_DEVICE)
    button.click(handlers.measure, [photo, reference], facts, api_name="metrics")


def main() -> None:
    """Open the page."""
    if handlers.ZERO_GPU:  # models have to be placed before the first visitor comes; elsewhere they are loaded at first use
        load_prior("embedded", handlers.DEVICE)
    build().queue(max_size=20).launch(**LAUNCH)
