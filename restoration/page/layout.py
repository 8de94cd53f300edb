"""The page: its tabs, and which action each control starts. `python app.py` opens it."""

from __future__ import annotations

import contextlib
import html
from collections.abc import Iterator
from typing import Any

import gradio as gr

from restoration.files import sandbox
from restoration.page import (
    actions,
    compare,
    device,
    display,
    endpoints,
    guard,
    history,
    state,
    uploads,
    visitors,
)
from restoration.page.controls import (
    AT_ONCE,
    PRIVATE,
    browser,
    picture,
    picture_column,
    result_column,
    upload,
)
from restoration.page.device import ON_DEVICE, UNKNOWN_SECONDS, on_gpu
from restoration.page.state import DEGRADED, EXAMPLES
from restoration.priors.checkpoints import PRIORS
from restoration.priors.latent import load_prior
from restoration.solvers import PAPERS, PRESETS, SOLVERS, resolve

INTRO = """# Latent restoration
Restore a photograph with a latent diffusion model as the prior. Details are estimated, not recovered: do not use results
to identify anybody."""
# each costs half a megabyte; one that is forgotten loses the picture in its link, and nothing else
SESSIONS = 64
LAUNCH: dict[str, Any] = {
    "max_file_size": f"{uploads.LARGEST}mb", "mcp_server": True, "enable_monitoring": False, "show_error": False,
    "run_history": False, "footer_links": ["api", "settings"], "css_paths": [guard.STATIC / "page.css"],
    "state_session_capacity": SESSIONS, "ssr_mode": False,
    "app_kwargs": {"middleware": guard.MIDDLEWARE, "routes": guard.ROUTES, "lifespan": uploads.sweeping},
}  # fmt: skip


def method_tab(method: str, page: gr.Blocks, tabs: gr.Tabs) -> None:
    """Controls on the left, result on the right, filled with the first stored example, or what the link says, as it opens."""
    linked = gr.Checkbox(visible=False)  # whether a link has filled in the controls
    entry = gr.Textbox(visible=False)  # a run on its way to or from the history
    with gr.Row():
        with gr.Column(scale=2, min_width=320):
            parts, groups, budget, start, stop, caption_pair, examples, reference = picture_column(method)
        with gr.Column(scale=3, min_width=320):
            outputs = result_column(method)
            title = "Settings link: repeats this run anywhere, for ever"
            address = gr.Textbox(label=title, interactive=False, buttons=["copy"])
            with gr.Accordion("History (kept in your browser alone)"):
                past = gr.HTML()
            bring = gr.Button(elem_id=f"bring-back-{method}", visible="hidden")
    # a preset leaves the prompt alone: it belongs to the picture
    knobs = {key: part for key, part in parts.items() if isinstance(key, tuple)}
    own_knobs = {key: part for key, part in knobs.items() if key[0] == method and key[1] != "prompt"}
    # what the line before a run depends on
    decisive: list[Any] = [parts[name] for name in ("photo", "mode", "task", "preset")]
    decisive += [part for key, part in knobs.items() if key[1] in {"scale", "steps"}]

    def named(values: dict[gr.components.Component, Any]) -> dict[Any, Any]:
        return {name: values[part] for name, part in parts.items()}

    def chosen_prior(values: dict[gr.components.Component, Any]) -> str:
        return state.known_prior(named(values)["prior"])

    def needed(values: dict[gr.components.Component, Any]) -> float:
        with contextlib.suppress(ValueError):  # the run itself will say what is wrong
            return actions.seconds_needed(method, named(values))
        return UNKNOWN_SECONDS

    def restored(values: dict[gr.components.Component, Any]) -> Iterator[tuple[Any, ...]]:
        for shown in actions.with_last_words(actions.run(method, named(values)), 1, 5):
            yield *shown, history.entry(method, named(values), shown[:6])

    def restored_twice(values: dict[gr.components.Component, Any]) -> Iterator[tuple[Any, ...]]:
        for shown in actions.with_last_words(actions.caption_pair(method, named(values)), 1, 5):
            yield *shown, history.entry(method, named(values), shown[:6])

    def open_page(request: gr.Request) -> dict[gr.components.Component, Any]:
        query = dict(request.query_params)
        if (
            "deep_link" in query
        ):  # Gradio has filled in all controls; its links do not carry what a generator showed
            words = "Somebody sent you a picture and settings: press Restore to see the result."
            return {linked: False, outputs[1]: words}
        asked = resolve(query.get("method", ""), query.get("preset", ""))[0]
        first = method == next(iter(SOLVERS))
        if asked == method or (
            asked and asked not in SOLVERS and first
        ):  # the first tab answers for what there is not
            try:
                values = state.from_query(query)[1]
                filled: dict[Any, Any] = {parts[name]: value for name, value in values.items()}
                return filled | {tabs: gr.update(selected=method), linked: True}
            except ValueError as error:
                instead = " Here is an example instead." if state.stored_examples(method) else ""
                return first_example() | {outputs[1]: html.escape(f"{error}{instead}")}
        return first_example()

    def first_example() -> dict[gr.components.Component, Any]:
        return show_example(0) if state.stored_examples(method) else {outputs[1]: ""}

    def show_example(index: int) -> dict[gr.components.Component, Any]:
        rows = state.stored_examples(method)
        if type(index) is not int or not 0 <= index < len(rows):
            raise gr.Error("There is no such example.", print_exception=False)
        filled = {parts[name]: value for name, value in state.example_values(rows[index]).items()} | {
            address: ""
        }
        return filled | dict(zip(outputs, display.example_outputs(rows[index]), strict=True))

    def apply_preset(name: str) -> dict[gr.components.Component, Any]:
        return {part: state.preset_values(method, name)[key] for key, part in own_knobs.items()}

    def bring_back(text: str) -> dict[gr.components.Component, Any]:
        values, shown = history.recall(method, text)
        filled = {parts[name]: value for name, value in values.items()} | {address: ""}
        return filled | dict(zip(outputs, shown, strict=True))

    def foresee(values: dict[gr.components.Component, Any]) -> str:
        return actions.forecast(method, named(values))

    everything, last_words = [*parts.values(), *outputs, address], gr.State("")
    inputs: set[gr.blocks.Block] = set(parts.values())
    # the place in the queue is shown over the status line
    running: Any = {"show_progress": "minimal", "show_progress_on": outputs[1], "scroll_to_output": True}
    running |= {"outputs": [*outputs, last_words, entry]} | ON_DEVICE | PRIVATE
    runs = [start.click(on_gpu(restored, needed, chosen_prior), inputs, **running)]
    if caption_pair:
        runs.append(
            caption_pair.click(on_gpu(restored_twice, lambda values: 2 * needed(values), chosen_prior), inputs, **running)
        )
    opened = page.load(open_page, None, [*everything, linked, tabs], **AT_ONCE)
    opened.then(None, linked, None, js=browser(f"pressIf(linked, 'start-{method}')", "linked"), **PRIVATE)
    kept = browser("keepRun(text)", "text")
    travelled = [event.success(None, entry, [address, past], js=kept, **PRIVATE) for event in runs]
    stoppable(stop, runs, outputs[1], last_words)
    page.load(None, None, past, js=browser(f"showRuns('{method}')"), **PRIVATE)
    picked = browser("pickedRun()")
    travelled.append(bring.click(bring_back, entry, everything, js=picked, show_progress="hidden", **PRIVATE))
    for event in travelled:
        event.then(lambda: "", None, entry, **AT_ONCE)
    examples.click(show_example, examples, everything, **AT_ONCE)
    mode, task, preset = (parts[name] for name in ("mode", "task", "preset"))
    preset.input(apply_preset, preset, list(own_knobs.values()), **AT_ONCE)  # type: ignore[attr-defined]
    mode.change(lambda chosen: gr.update(visible=chosen == DEGRADED), mode, reference, **AT_ONCE)  # type: ignore[attr-defined]
    shown_groups = lambda chosen: [gr.update(visible=name == chosen) for name in groups]  # noqa: E731
    task.change(shown_groups, task, list(groups.values()), **AT_ONCE)  # type: ignore[attr-defined]
    gr.on([part.change for part in decisive], foresee, inputs, budget, **AT_ONCE)


def compare_tab() -> None:
    """One picture, several methods, one after the other."""
    first = [f"{method}{compare.SEPARATOR}{next(iter(PRESETS[method]))}" for method in SOLVERS if method not in PAPERS]
    damages = [(title, name) for name, title in compare.damages().items()]
    with gr.Row():
        with gr.Column(scale=1, min_width=300):
            alt = "The picture to compare methods on"
            photo = picture(
                value=str(EXAMPLES / "chelsea.png"), label="A clean picture", height=240, alt_text=alt
            )
            with gr.Row():
                start, stop = gr.Button("Compare", variant="primary"), gr.Button("Stop")
            damage = gr.Dropdown(damages, value="denoise", label="What is done to it first")
            methods = gr.CheckboxGroup(compare.choices(), value=first, label="Methods and presets")
            told = "With several: their mean, and where they differ"
            seeds = gr.Slider(1, compare.MOST_SEEDS, value=1, step=1, label="Seeds", info=told)
        with gr.Column(scale=2, min_width=320):
            status = gr.HTML(
                "Every method gets the same damaged picture. One that cannot treat the damage says so."
            )
            pictures = gr.HTML(label="Results side by side: the wheel zooms all of them")
            title = "Scores: ★ is the best of its column"
            scores = gr.Dataframe(headers=["picture"], label=title, interactive=False)
            file = gr.File(label="Contact sheet", height=80, interactive=False)
    last_words = gr.State("")

    def compared(*values: Any) -> Iterator[tuple[Any, ...]]:
        yield from actions.with_last_words(actions.compare_all(*values), 0, 3)

    event = start.click(
        on_gpu(compared, lambda photo, damage, choices, seeds: UNKNOWN_SECONDS * len(choices) * seeds),
        [photo, damage, methods, seeds],
        [status, pictures, scores, file, last_words],
        show_progress="minimal",
        show_progress_on=status,
        scroll_to_output=True,
        **ON_DEVICE,
        **PRIVATE,
    )
    stoppable(stop, [event], status, last_words)


def repeat_tab() -> None:
    """A PNG of this page repeats its run."""
    with gr.Row():
        with gr.Column(scale=2, min_width=320):
            title = "A PNG that this page wrote: it carries its recipe and its input"
            file = upload(label=title, file_types=[".png"])
            with gr.Row():
                start, stop = gr.Button("Repeat", variant="primary"), gr.Button("Stop")
            text = gr.Code(label="Its recipe", language="json", interactive=False)
        with gr.Column(scale=3, min_width=320):
            outputs = result_column("ld-rps")
            outputs[1].value = "Drop a picture that carries its recipe and press Repeat."  # type: ignore[attr-defined]
    last_words = gr.State("")

    def repeated(path: str | None) -> Iterator[tuple[Any, ...]]:
        yield from actions.with_last_words(actions.repeat(path), 1, 5)

    file.change(actions.read_recipe, file, text, show_progress="hidden", **PRIVATE)
    event = start.click(
        on_gpu(repeated),
        file,
        [*outputs, last_words],
        show_progress="minimal",
        show_progress_on=outputs[1],
        **ON_DEVICE,
        **PRIVATE,
    )
    stoppable(stop, [event], outputs[1], last_words)


def stoppable(
    stop: gr.Button, runs: list[Any], status: gr.components.Component, last_words: gr.State
) -> None:
    """Let the button end the runs, and the status line say so once they have ended: until then Gradio ignores Restore.

    The server keeps the words: an HTML component may be no event's input, for what a browser posts as one is drawn raw
    for whoever opens a link to that session.
    """
    stop.click(None, cancels=runs, **PRIVATE)
    for event in runs:
        event.then(lambda words: words or gr.skip(), last_words, status, **AT_ONCE)


def about() -> str:
    """The text of the last tab."""
    return (
        (guard.STATIC / "about.md")
        .read_text()
        .format(
            age=uploads.kept_for(),
            megabytes=uploads.LARGEST_PHOTO,
            limit=device.TIME_LIMIT,
            places=visitors.PLACES,
            priors="\n".join(f"- {name}: {prior.describe()}" for name, prior in PRIORS.items()),
        )
    )


def build() -> gr.Blocks:
    """The page, not yet served."""
    uploads.claim_folder()
    sandbox.enable()
    age = int(max(1, uploads.AGE))
    with gr.Blocks(title="Latent restoration", delete_cache=(age, age), analytics_enabled=False) as page:
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
                gr.Markdown(about())
        lasting = f"Link to this page with your picture and settings, for at most {uploads.kept_for()}"
        gr.DeepLinkButton(lasting, size="sm")
        endpoints.register()
    page.queue(max_size=visitors.QUEUE, api_open=False)  # nobody gets past the queue
    visitors.limit_places(page._queue)
    return page


def main() -> None:
    """Open the page."""
    if (
        device.ZERO_GPU
    ):  # models have to be placed before the first visitor comes; elsewhere they are loaded at first use
        load_prior("embedded", device.DEVICE)
    build().launch(**LAUNCH)
