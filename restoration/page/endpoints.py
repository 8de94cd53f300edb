"""Named endpoints for gradio_client and MCP, where their docstrings are read."""

from __future__ import annotations

import json
from collections.abc import Callable

import gradio as gr

from restoration.degradations.blind import make_damage
from restoration.evaluation import metrics
from restoration.files import images
from restoration.page import state
from restoration.page.actions import how_read, steps_of, time_limit
from restoration.page.controls import picture
from restoration.page.device import DEVICE, ON_DEVICE, on_gpu
from restoration.page.display import as_file, one_sentence, stored_file
from restoration.page.state import DEGRADED
from restoration.page.uploads import checked_photo
from restoration.priors.caption import CAPTIONERS
from restoration.priors.latent import load_prior
from restoration.run import synthesise
from restoration.solvers import PAPERS, PRESETS, SOLVERS, resolve


def given(photo: str | None) -> str:
    """The path itself. ValueError where a program sent none, or too large a file."""
    if not photo:
        raise ValueError("A photo is needed.")
    checked_photo(photo)
    return photo


def restored(
    method: str, photo: str | None, task: str, preset: str, settings: str, seed: float
) -> tuple[str, str]:
    """(PNG, JSON with scores, seconds, recipe and how the photo was read) of one run on an already degraded
    picture."""
    with one_sentence():
        method, preset = resolve(method, preset)
        if preset not in PRESETS[method] or task not in SOLVERS[method].damages():
            tasks = ", ".join(SOLVERS[method].damages())
            raise ValueError(f"{method} has the presets {', '.join(PRESETS[method])} and the tasks {tasks}.")
        values = state.opening_values(method) | state.preset_values(method, preset)
        values |= {"photo": given(photo), "mode": DEGRADED, "task": task, "seed": seed}
        values |= state.settings_values(method, task, settings)
        job, prior = state.job(method, values), load_prior("embedded", DEVICE)
        *_, last = steps_of(job, prior, time_limit())
        assert last.result is not None
        result = last.result
        facts = {"scores": dict(result.scores), "seconds": result.seconds, "recipe": result.recipe}
        return stored_file(result, job), json.dumps(facts | {"read": how_read(method, values)})


def endpoint(method: str) -> Callable[..., tuple[str, str]]:
    """The named endpoint of one solver; a blind one takes no task."""
    solver, presets = SOLVERS[method], ", ".join(PRESETS[method])

    def restore_blind(photo: str, preset: str, settings: str, seed: float) -> tuple[str, str]:
        return restored(method, photo, solver.damages()[0], preset, settings, seed)

    def restore_told(photo: str, task: str, preset: str, settings: str, seed: float) -> tuple[str, str]:
        return restored(method, photo, task, preset, settings, seed)

    function: Callable[..., tuple[str, str]] = restore_blind if solver.blind else restore_told
    knobs = [field.name for field in state.knobs(solver)]
    task = "" if solver.blind else f"task: {', '.join(solver.damages())}. "
    function.__name__ = endpoint_name(method)
    function.__doc__ = f"""{solver.purpose} ({solver.title}).

    photo: the damaged picture. {task}preset: {presets}.
    settings: JSON object of the task's and the method's numbers; the method has {", ".join(knobs)}.
    seed: a whole number.
    Returns the restored picture as PNG and JSON with scores, seconds, the recipe and how the photo was read.
    """
    return function


def endpoint_name(method: str) -> str:
    """restore_ldrps of "ld-rps": the endpoints of before keep their names."""
    return "restore_" + method.replace("-", "")


def degrade(photo: str, damage: str, settings: str, seed: float) -> str:
    """Damage a clean photograph, reproducibly: to test a restoration.

    photo: the clean picture. damage: denoise (adds noise), deblur (blurs), motion-deblur, super-resolution
    (reduces), inpaint, camera-light, camera-strong, low-light, haze, noise, grey and others. settings: JSON
    object of the damage's numbers.
    seed: a whole number. Returns a PNG.
    """
    with one_sentence():
        made = make_damage(damage, state.parse_settings(settings), 1)
        factor = getattr(made, "factor", 1)
        y, _ = synthesise(images.read_image(given(photo)), made, factor, state.whole_seed(seed))
        return as_file(y)


def caption(photo: str, captioner: str) -> str:
    """Describe in at most 20 words what a damaged photograph would show in good condition. photo: the
    picture. captioner: a model's name."""
    with one_sentence():
        if captioner not in CAPTIONERS:
            raise ValueError(f"There is no captioner {captioner!r}; there are {', '.join(CAPTIONERS)}.")
        words = CAPTIONERS[captioner](images.read_image(given(photo), 1))
        return words.text or words.note


def measure(photo: str, reference: str | None) -> str:
    """Quality of a photograph as JSON:

    PSNR, SSIM and others against the clean reference where one is given, NIQE always.
    """
    with one_sentence():
        clean = images.read_image(given(reference)) if reference else None
        return json.dumps(metrics.score(images.read_image(given(photo)), clean))


def offered() -> list[str]:
    """The solvers with an endpoint of their own.

    The papers' forms answer for presets that were their fast form's.
    """
    return [method for method in SOLVERS if method not in PAPERS]


def register() -> None:
    """Add the named endpoints to the page; their boxes are never shown."""
    with gr.Row(visible=False):
        photo, reference = picture(label="photo"), picture(label="reference")
        out = gr.Image(label="restored", format="png", type="filepath")
        task, damage = gr.Textbox("denoise", label="task"), gr.Textbox("denoise", label="damage")
        presets = {method: gr.Textbox(next(iter(PRESETS[method])), label="preset") for method in offered()}
        settings, seed = gr.Textbox("{}", label="settings"), gr.Number(0, label="seed", precision=0)
        facts, describer = gr.Textbox(label="JSON"), gr.Textbox(list(CAPTIONERS)[1], label="captioner")
        button = gr.Button()
    for method, preset in presets.items():
        inputs = [photo, *([] if SOLVERS[method].blind else [task]), preset, settings, seed]
        name = endpoint_name(method)
        button.click(on_gpu(endpoint(method)), inputs, [out, facts], api_name=name, **ON_DEVICE)
    button.click(degrade, [photo, damage, settings, seed], out, api_name="degrade")
    button.click(on_gpu(caption), [photo, describer], facts, api_name="caption", **ON_DEVICE)
    button.click(measure, [photo, reference], facts, api_name="metrics")
