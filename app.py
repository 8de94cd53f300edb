"""The page: layout and handlers, no tensor arithmetic. `python app.py` opens it."""

from __future__ import annotations

import dataclasses
import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gradio as gr
import pandas as pd
import torch

from restoration import images, metrics
from restoration.degradations import TASKS
from restoration.prior import load_prior
from restoration.run import restore
from restoration.solvers import PRESETS, SOLVERS

EXAMPLES = Path(__file__).parent / "examples"
CLEAN, DEGRADED = "Clean: degrade it first, then restore", "Already degraded"
FILES = {"file", "mask"}  # knobs that are pictures
INTRO = """# Latent restoration
Restore a photograph with a latent diffusion model as the prior. Details are estimated, not recovered: do not use results to identify anybody."""


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


def score_table(rows: dict[str, dict[str, float]]) -> pd.DataFrame:
    """Metrics as rows, pictures as columns; the arrow says which way is better."""
    names = list(dict.fromkeys(name for row in rows.values() for name in row))
    labels = [f"{n} ↑" if n not in metrics.METRICS or metrics.METRICS[n].higher_is_better else f"{n} ↓" for n in names]
    table: dict[str, list[str]] = {"metric": labels}
    for title, row in rows.items():
        table[title] = [f"{row[n]:.3f}" if n in row else "–" for n in names]
    return pd.DataFrame(table)


def restore_reld(values: dict[gr.components.Component, Any], parts: dict[Any, Any]) -> Iterator[tuple[Any, ...]]:
    """Run RELD on the uploaded picture; yield (comparison, status, scores, curve, file)."""

    def get(name: Any) -> Any:
        return values[parts[name]]

    if not get("photo"):
        raise gr.Error("Choose a picture first: upload one, paste one, or click an example.")
    try:
        task: Any = TASKS[get("task")]
        degradation = task(**{f.name: "" if (v := get((get("task"), f.name))) is None else v for f in knobs(task)})
        solver = SOLVERS["reld"](**{f.name: get(("reld", f.name)) for f in knobs(SOLVERS["reld"])})
        picture, reference = images.read_image(get("photo")), None
        synthetic = get("mode") == CLEAN
        if synthetic:
            reference = picture[..., : picture.shape[-2] // degradation.factor * degradation.factor, :]
            reference = reference[..., : picture.shape[-1] // degradation.factor * degradation.factor]
            picture = images.quantise(degradation.degrade(reference, torch.Generator().manual_seed(int(get("seed")))))
        elif get("reference"):
            reference = images.read_image(get("reference"))
        prior = load_prior("embedded")
        before = images.quantise(degradation.start(picture))
        steps = restore(picture, solver, prior, degradation, reference=reference, seed=int(get("seed")), periodic=synthetic)
        curve: list[dict[str, float]] = []
        for step in steps:
            curve.append({"step": step.index, "residual": step.scalars["residual"]})
            status = f"Step {step.index} of {step.total} · {step.note}"
            if step.result is None:
                preview = prior.preview(step.latent, (before.shape[-2], before.shape[-1]))
                yield (images.to_pil(before), images.to_pil(preview)), status, None, pd.DataFrame(curve), None
                continue
            result = step.result
            rows = {"result": dict(result.scores)}
            if reference is not None:
                ceiling = prior.preview(prior.encode(reference), (reference.shape[-2], reference.shape[-1]))
                rows = {"input": metrics.score(before, reference)} | rows | {"prior's round trip": metrics.score(images.quantise(ceiling), reference)}
            file = Path(tempfile.mkdtemp(), "restored.png")
            images.save_png(result.image, file, result.recipe)
            done = f"{result.image.shape[-1]}×{result.image.shape[-2]} pixels in {result.seconds:.1f} s"
            yield (images.to_pil(before), images.to_pil(result.image)), done, score_table(rows), pd.DataFrame(curve), str(file)
    except (ValueError, OSError) as error:
        raise gr.Error(str(error), print_exception=False) from None


def reld_tab() -> None:
    """Controls on the left, result on the right."""
    parts: dict[Any, gr.components.Component] = {}
    with gr.Row():
        with gr.Column(scale=2, min_width=320):
            parts["photo"] = gr.Image(
                type="filepath", label="Your picture", sources=["upload", "clipboard"], format="png", height=240, alt_text="The picture to restore"
            )
            with gr.Row():
                run = gr.Button("Restore", variant="primary")
                stop = gr.Button("Stop")
            parts["mode"] = gr.Radio([CLEAN, DEGRADED], value=CLEAN, label="My picture is")
            parts["task"] = gr.Dropdown(list(TASKS), value="denoise", label="Task")
            groups = {}
            for name, cls in TASKS.items():
                with gr.Group(visible=name == "denoise") as groups[name]:
                    for field in knobs(cls):
                        parts[name, field.name] = control(field)
            parts["seed"] = gr.Number(0, label="Seed", precision=0, info="The same seed gives the same result", minimum=0)
            parts["reference"] = gr.Image(type="filepath", label="Clean reference (optional, for scores)", visible=False, format="png")
            with gr.Accordion("Method settings", open=False):
                preset = gr.Dropdown(list(PRESETS["reld"]), value="fast", label="Preset")
                for field in knobs(SOLVERS["reld"]):
                    parts["reld", field.name] = control(field)
            if (EXAMPLES / "examples.json").is_file():
                rows = json.loads((EXAMPLES / "examples.json").read_text())
                gr.Examples(
                    [[str(EXAMPLES / row["image"]), row["task"], CLEAN] for row in rows],
                    [parts["photo"], parts["task"], parts["mode"]],
                    label="Examples",
                )
        with gr.Column(scale=3, min_width=320):
            comparison = gr.ImageSlider(label="Before and after", format="png", interactive=False, type="pil", height=460)
            status = gr.Markdown("Choose a picture and press Restore.")
            scores = gr.Dataframe(label="Scores", interactive=False)
            curve = gr.LinePlot(x="step", y="residual", label="Distance to the measurement", height=180)
            file = gr.File(label="Download the PNG; it carries the recipe of this run")

    def handler(values: dict[gr.components.Component, Any]) -> Iterator[tuple[Any, ...]]:
        yield from restore_reld(values, parts)

    def apply_preset(name: str) -> list[Any]:
        solver = SOLVERS["reld"](**PRESETS["reld"][name])
        return [getattr(solver, field.name) for field in knobs(SOLVERS["reld"])]

    event = run.click(
        handler,
        set(parts.values()),
        [comparison, status, scores, curve, file],
        api_visibility="private",
        concurrency_id="device",
        concurrency_limit=1,
    )
    stop.click(None, cancels=[event], api_visibility="private")
    preset.change(apply_preset, preset, [parts["reld", f.name] for f in knobs(SOLVERS["reld"])], api_visibility="private")
    parts["mode"].change(lambda mode: gr.update(visible=mode == DEGRADED), parts["mode"], parts["reference"], api_visibility="private")
    parts["task"].change(
        lambda task: [gr.update(visible=name == task) for name in TASKS], parts["task"], list(groups.values()), api_visibility="private"
    )


def build() -> gr.Blocks:
    """The page, not yet served."""
    with gr.Blocks(title="Latent restoration", delete_cache=(3600, 86400), analytics_enabled=False) as page:
        gr.Markdown(INTRO)
        with gr.Tabs(), gr.Tab("RELD"):
            reld_tab()
    return page


if __name__ == "__main__":
    build().queue(max_size=20).launch(
        max_file_size="20mb", enable_monitoring=False, show_error=False, run_history=False, footer_links=["api", "settings"]
    )
