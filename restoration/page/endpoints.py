"""Named endpoints for gradio_client and MCP, where their docstrings are read."""

from __future__ import annotations

import json

import gradio as gr

from restoration.degradations.blind import make_damage
from restoration.evaluation import metrics
from restoration.files import images
from restoration.page import state
from restoration.page.actions import how_read, steps_of, time_limit
from restoration.page.controls import picture
from restoration.page.device import DEVICE, ON_DEVICE, on_gpu
from restoration.page.display import as_file, one_sentence, stored_file
from restoration.page.state import DAMAGES, DEGRADED
from restoration.page.uploads import checked_photo
from restoration.priors.caption import CAPTIONERS
from restoration.priors.latent import load_prior
from restoration.run import synthesise
from restoration.solvers import PRESETS, resolve


def given(photo: str | None) -> str:
    """The path itself. ValueError where a program sent none, or too large a file."""
    if not photo:
        raise ValueError("A photo is needed.")
    checked_photo(photo)
    return photo


def restored(
    method: str, photo: str | None, task: str, preset: str, settings: str, seed: float
) -> tuple[str, str]:
    """(PNG, JSON with scores, seconds, recipe and how the photo was read) of one run on an already degraded picture."""
    with one_sentence():
        method, preset = resolve(method, preset)
        if preset not in PRESETS[method] or task not in DAMAGES[method]:
            raise ValueError(
                f"{method} has the presets {', '.join(PRESETS[method])} and the tasks {', '.join(DAMAGES[method])}."
            )
        values = state.opening_values(method) | state.preset_values(method, preset)
        values |= {"photo": given(photo), "mode": DEGRADED, "task": task, "seed": seed}
        values |= state.settings_values(method, task, settings)
        job, prior = state.job(method, values), load_prior("embedded", DEVICE)
        *_, last = steps_of(job, prior, time_limit())
        assert last.result is not None
        result = last.result
        facts = {"scores": dict(result.scores), "seconds": result.seconds, "recipe": result.recipe}
        return stored_file(result, job), json.dumps(facts | {"read": how_read(method, values)})


def restore_reld(photo: str, task: str, preset: str, settings: str, seed: float) -> tuple[str, str]:
    """Restore a damaged photograph when it is known how it was damaged (RELD).

    photo: the damaged picture. task: denoise, deblur, motion-deblur, super-resolution or inpaint. preset: fast, few-step or faithful.
    settings: JSON object of numbers, for instance {"noise_std": 25} (in 1/255) or {"scale": 2}. seed: a whole number.
    Returns the restored picture as PNG and JSON with scores, seconds, the recipe and how the photo was read.
    """
    return restored("reld", photo, task, preset, settings, seed)


def restore_latentindigo(photo: str, preset: str, settings: str, seed: float) -> tuple[str, str]:
    """Restore and enlarge a photograph whose damage nobody can write down: a camera's blur, noise and compression (LatentINDIGO).

    photo: the damaged picture. preset: fast, pixel, bold or "from noise". settings: JSON object, for instance {"scale": 4}. seed: a whole number.
    Returns the restored picture as PNG and JSON with scores, seconds, the recipe and how the photo was read.
    """
    return restored("latent-indigo", photo, DAMAGES["latent-indigo"][0], preset, settings, seed)


def restore_ldrps(photo: str, preset: str, settings: str, seed: float) -> tuple[str, str]:
    """Restore a photograph that is too dark, hazy, noisy or without colour (LD-RPS).

    photo: the damaged picture. preset: auto, low-light, dehaze, denoise, colorize, low-light+denoise or colorize+denoise.
    settings: JSON object, for instance {"prompt": "a red boat on a lake"}. seed: a whole number.
    Returns the restored picture as PNG and JSON with scores, seconds, the recipe and how the photo was read.
    """
    return restored("ld-rps", photo, DAMAGES["ld-rps"][0], preset, settings, seed)


def degrade(photo: str, damage: str, settings: str, seed: float) -> str:
    """Damage a clean photograph, reproducibly: to test a restoration.

    photo: the clean picture. damage: denoise (adds noise), deblur (blurs), motion-deblur, super-resolution (reduces), inpaint, camera-light,
    camera-strong, low-light, haze, noise or grey. settings: JSON object of the damage's numbers. seed: a whole number. Returns a PNG.
    """
    with one_sentence():
        made = make_damage(damage, state.parse_settings(settings), 1)
        factor = getattr(made, "factor", 1)
        y, _ = synthesise(images.read_image(given(photo)), made, factor, state.whole_seed(seed))
        return as_file(y)


def caption(photo: str, captioner: str) -> str:
    """Describe in at most 20 words what a damaged photograph would show in good condition. photo: the picture. captioner: a model's name."""
    with one_sentence():
        if captioner not in CAPTIONERS:
            raise ValueError(f"There is no captioner {captioner!r}; there are {', '.join(CAPTIONERS)}.")
        words = CAPTIONERS[captioner](images.read_image(given(photo), 1))
        return words.text or words.note


def measure(photo: str, reference: str | None) -> str:
    """Quality of a photograph as JSON: PSNR, SSIM and others against the clean reference where one is given, NIQE always."""
    with one_sentence():
        clean = images.read_image(given(reference)) if reference else None
        return json.dumps(metrics.score(images.read_image(given(photo)), clean))


def register() -> None:
    """Add the named endpoints to the page; their boxes are never shown."""
    with gr.Row(visible=False):
        photo, reference = picture(label="photo"), picture(label="reference")
        out = gr.Image(label="restored", format="png", type="filepath")
        task, preset = gr.Textbox("denoise", label="task"), gr.Textbox("fast", label="preset")
        auto, damage = gr.Textbox("auto", label="preset"), gr.Textbox("denoise", label="damage")
        settings, seed = gr.Textbox("{}", label="settings"), gr.Number(0, label="seed", precision=0)
        facts, describer = gr.Textbox(label="JSON"), gr.Textbox(list(CAPTIONERS)[1], label="captioner")
        button = gr.Button()
    result = [out, facts]
    indigo = [photo, preset, settings, seed]
    button.click(
        on_gpu(restore_reld),
        [photo, task, preset, settings, seed],
        result,
        api_name="restore_reld",
        **ON_DEVICE,
    )
    button.click(on_gpu(restore_latentindigo), indigo, result, api_name="restore_latentindigo", **ON_DEVICE)
    button.click(
        on_gpu(restore_ldrps), [photo, auto, settings, seed], result, api_name="restore_ldrps", **ON_DEVICE
    )
    button.click(degrade, [photo, damage, settings, seed], out, api_name="degrade")
    button.click(on_gpu(caption), [photo, describer], facts, api_name="caption", **ON_DEVICE)
    button.click(measure, [photo, reference], facts, api_name="metrics")
