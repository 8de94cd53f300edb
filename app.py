"""The page: layout and handlers, no tensor arithmetic. `python app.py` opens it."""

from __future__ import annotations

import dataclasses
import html
import json
import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import gradio as gr
import pandas as pd

from restoration import images, metrics, recipe
from restoration.degradations import TASKS
from restoration.prior import load_prior
from restoration.run import restore, score_rows, synthesise
from restoration.solvers import PRESETS, SOLVERS
from restoration.solvers.base import Step

EXAMPLES = Path(__file__).parent / "examples"
CLEAN, DEGRADED = "clean: degrade it first, then restore it", "already degraded"
FILES = {"file", "mask"}  # knobs that are pictures
INTRO = """# Latent restoration
Restore a photograph with a latent diffusion model as the prior. Details are estimated, not recovered: do not use results to identify anybody."""
Values = Mapping[Any, Any]
Parts = dict[Any, gr.components.Component]


def picture(**options: Any) -> gr.Image:
    """An image box that hands over the uploaded file untouched: Gradio's own reading drops alpha and clips 16 bits."""
    box = gr.Image(sources=["upload", "clipboard"], format="png", **options)
    # not a subclass: for those Gradio writes a stub file beside the module
    box.preprocess = lambda payload: payload.path if payload else None  # type: ignore[method-assign]
    return box


def control(field: dataclasses.Field[Any]) -> gr.components.Component:
    """The slider, drop-down or file box of one knob."""
    meta, label = field.metadata, field.name.replace("_", " ").capitalize()
    if field.name in FILES:
        return gr.File(label=label + ": " + meta["help"], file_types=["image", ".npy"], type="filepath")
    if meta["choices"]:
        return gr.Dropdown(list(meta["choices"]), value=field.default, label=label, info=meta["help"])
    whole = isinstance(field.default, int)
    return gr.Slider(meta["low"], meta["high"], value=field.default, step=1 if whole else 0.01, label=label, info=meta["help"])


def knobs(cls: type) -> list[dataclasses.Field[Any]]:
    """The fields of a solver or degradation that the page shows."""
    return [field for field in dataclasses.fields(cls) if field.metadata]


def build_from(cls: type, key: str, values: Values) -> Any:
    """The solver or degradation that the controls describe; ValueError names a knob out of bounds."""
    return cls(**{f.name: "" if values[key, f.name] is None else values[key, f.name] for f in knobs(cls)})


def score_table(rows: Mapping[str, Mapping[str, float]]) -> pd.DataFrame:
    """Metrics as rows, pictures as columns; the arrow says which way is better."""
    names = [*metrics.METRICS, "consistency"] if "PSNR" in rows["result"] else list(rows["result"])
    falling = {name for name, metric in metrics.METRICS.items() if not metric.higher_is_better}
    table: dict[str, list[str]] = {"metric": [f"{name} {'↓' if name in falling else '↑'}" for name in names]}
    for title, row in rows.items():
        table[title] = [f"{row[n]:.3f}" if n in row else "needs weights" if n == "LPIPS" else "–" for n in names]
    return pd.DataFrame(table)


def progress(step: Step, began: float) -> str:
    """A progress bar with the step and the seconds left."""
    left = (time.monotonic() - began) / step.index * (step.total - step.index)
    text = html.escape(f"Step {step.index} of {step.total} · {step.note} · {left:.0f} s left")
    return f'<progress style="width:100%" value="{step.index}" max="{step.total}" aria-label="{text}"></progress>{text}'


def run(method: str, values: Values) -> Iterator[tuple[Any, ...]]:
    """Restore the uploaded picture; yield (comparison, status, scores, curve, file)."""
    if not values["photo"]:
        raise gr.Error("Choose a picture first: upload one, paste one, or click an example.", print_exception=False)
    yield gr.skip(), "Getting ready…", None, None, None
    try:
        degradation = build_from(TASKS[values["task"]], values["task"], values)
        solver = build_from(SOLVERS[method], method, values)
        y, reference, seed = images.read_image(values["photo"]), None, int(values["seed"])
        synthetic = values["mode"] == CLEAN
        if synthetic:
            y, reference = synthesise(y, degradation, solver.factor(degradation), seed)
        elif values["reference"]:
            reference = images.read_image(values["reference"])
        prior = load_prior("embedded")
        before = images.quantise(degradation.start(y))
        began, curve = time.monotonic(), []
        for step in restore(y, solver, prior, degradation, reference=reference, seed=seed, periodic=synthetic):
            curve.append({"step": step.index, "residual": step.scalars["residual"]})
            if step.result is None:
                shown = prior.preview(step.latent, (before.shape[-2], before.shape[-1]))
                yield (images.to_pil(before), images.to_pil(shown)), progress(step, began), None, pd.DataFrame(curve), None
                continue
            result = step.result
            file = Path(tempfile.mkdtemp(), "restored.png")
            recipe.save_png(result.image, file, result.recipe)
            done = f"{result.image.shape[-1]}×{result.image.shape[-2]} pixels in {result.seconds:.1f} s, seed {seed}"
            table = score_table(score_rows(before, result, prior, reference))
            yield (images.to_pil(before), images.to_pil(result.image)), done, table, pd.DataFrame(curve), str(file)
    except (ValueError, OSError) as error:
        raise gr.Error(str(error), print_exception=False) from None


def stored_examples(method: str) -> list[dict[str, Any]]:
    """The rows of examples.json for one method; `python examples/make.py` writes them."""
    return [row for row in json.loads((EXAMPLES / "examples.json").read_text()) if row["solver"] == method]


def example_values(row: Mapping[str, Any]) -> dict[Any, Any]:
    """The controls' values that repeat a stored example."""
    solver, task = row["solver"], row["task"]
    values: dict[Any, Any] = {"photo": str(EXAMPLES / row["image"]), "mode": CLEAN, "task": task, "seed": row["seed"]}
    values |= {(task, name): value for name, value in row["degradation"].items()}
    settings = dataclasses.asdict(SOLVERS[solver](**PRESETS[solver][row["preset"]]))
    return values | {"preset": row["preset"]} | {(solver, f.name): settings[f.name] for f in knobs(SOLVERS[solver])}


def example_outputs(row: Mapping[str, Any]) -> tuple[Any, ...]:
    """(comparison, status, scores, curve, file) of a stored example, without any computation."""
    file = Path(tempfile.mkdtemp(), "restored.png")
    shutil.copy(EXAMPLES / row["result"], file)
    pictures = tuple(images.to_pil(images.read_image(EXAMPLES / row[name])) for name in ("before", "result"))
    status = f"{row['title']}: computed beforehand. Press Restore to repeat it, or change anything."
    return pictures, status, score_table(row["scores"]), None, str(file)


def picture_column(method: str) -> tuple[Parts, dict[str, gr.Group], gr.Button, gr.Button, gr.Dataset]:
    """What goes in: the picture, the buttons, the task and the method's settings."""
    parts: Parts = {}
    parts["photo"] = picture(label="Your picture", height=240, alt_text="The picture to restore")
    with gr.Row():
        start, stop = gr.Button("Restore", variant="primary"), gr.Button("Stop")
    rows = stored_examples(method)
    examples = gr.Dataset(
        components=[gr.Image(render=False)],
        samples=[[str(EXAMPLES / row["image"])] for row in rows],
        sample_labels=[row["title"] for row in rows],
        type="index",
        label="Examples",
    )
    parts["mode"] = gr.Radio([CLEAN, DEGRADED], value=CLEAN, label="My picture is")
    parts["reference"] = picture(label="Clean reference (optional, for scores)", visible=False, height=160, alt_text="The clean reference")
    parts["task"] = gr.Dropdown(list(TASKS), value="denoise", label="Task", info="What was done to the picture, or what the demo does to it first")
    groups = {}
    for name, cls in TASKS.items():
        with gr.Group(visible=name == "denoise") as groups[name]:
            for field in knobs(cls):
                parts[name, field.name] = control(field)
    with gr.Accordion("Method settings", open=False):
        parts["seed"] = gr.Number(0, label="Seed", precision=0, info="The same seed gives the same result", minimum=0)
        parts["preset"] = gr.Dropdown(list(PRESETS[method]), label="Preset", info="Fills in the settings below")
        for field in knobs(SOLVERS[method]):
            parts[method, field.name] = control(field)
    return parts, groups, start, stop, examples


def result_column() -> list[gr.components.Component]:
    """What comes out: (comparison, status, scores, curve, file)."""
    comparison = gr.ImageSlider(label="Before and after", format="png", interactive=False, type="pil", height=460)
    status = gr.HTML("Choose a picture and press Restore.")
    scores = gr.Dataframe(label="Scores: ↑ higher is better, ↓ lower is better", interactive=False)
    file = gr.File(label="Download: the PNG carries the recipe of its run", height=80)
    with gr.Accordion("Course of the run", open=False):
        curve = gr.LinePlot(x="step", y="residual", label="Distance to the measurement by step", height=180)
    return [comparison, status, scores, curve, file]


def method_tab(method: str, page: gr.Blocks) -> None:
    """Controls on the left, result on the right, filled with the first stored example when the page opens."""
    with gr.Row():
        with gr.Column(scale=2, min_width=320):
            parts, groups, start, stop, examples = picture_column(method)
        with gr.Column(scale=3, min_width=320):
            outputs = result_column()

    def handler(values: dict[gr.components.Component, Any]) -> Iterator[tuple[Any, ...]]:
        yield from run(method, {name: values[part] for name, part in parts.items()})

    def apply_preset(name: str) -> list[Any]:
        solver = SOLVERS[method](**PRESETS[method][name])
        return [getattr(solver, field.name) for field in knobs(SOLVERS[method])]

    def show_example(index: int) -> dict[gr.components.Component, Any]:
        row = stored_examples(method)[index]
        filled = {parts[name]: value for name, value in example_values(row).items()}
        return filled | dict(zip(outputs, example_outputs(row), strict=True))

    private: Any = {"api_visibility": "private"}
    event = start.click(
        handler, set(parts.values()), outputs, concurrency_id="device", concurrency_limit=1, show_progress="hidden", scroll_to_output=True, **private
    )
    stop.click(lambda: "Stopped: the picture shows the last step.", None, outputs[1], cancels=[event], **private)
    examples.click(show_example, examples, [*parts.values(), *outputs], show_progress="hidden", **private)
    parts["preset"].input(apply_preset, parts["preset"], [parts[method, f.name] for f in knobs(SOLVERS[method])], **private)  # type: ignore[attr-defined]
    parts["mode"].change(lambda mode: gr.update(visible=mode == DEGRADED), parts["mode"], parts["reference"], **private)  # type: ignore[attr-defined]
    parts["task"].change(lambda task: [gr.update(visible=n == task) for n in TASKS], parts["task"], list(groups.values()), **private)  # type: ignore[attr-defined]
    page.load(lambda: show_example(0), None, [*parts.values(), *outputs], show_progress="hidden", **private)


def build() -> gr.Blocks:
    """The page, not yet served."""
    with gr.Blocks(title="Latent restoration", delete_cache=(3600, 86400), analytics_enabled=False) as page:
        gr.Markdown(INTRO)
        with gr.Tabs(), gr.Tab("RELD"):
            method_tab("reld", page)
    return page


if __name__ == "__main__":
    build().queue(max_size=20).launch(
        max_file_size="20mb", enable_monitoring=False, show_error=False, run_history=False, footer_links=["api", "settings"]
    )
