"""Named endpoints for gradio_client and MCP, where their docstrings are read."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import json
from collections.abc import Callable, Collection, Mapping
from typing import Any

import gradio as gr

from restoration.degradations.blind import make_damage, titles
from restoration.degradations.camera import EXPOSURES
from restoration.degradations.linear import FILES, TASKS
from restoration.evaluation import metrics
from restoration.files import images
from restoration.files.errors import quoted
from restoration.page import state
from restoration.page.actions import how_read, loaded, seconds_needed, steps_of, time_limit
from restoration.page.controls import picture
from restoration.page.device import ON_DEVICE, UNKNOWN_SECONDS, on_gpu
from restoration.page.display import as_file, one_sentence, stored_file
from restoration.page.sizes import LARGE
from restoration.page.state import DEGRADED
from restoration.page.uploads import checked_photo
from restoration.priors.caption import CAPTIONERS, prepare
from restoration.priors.catalogue import PRIORS
from restoration.run import synthesise
from restoration.solvers import PAPERS, PRESETS, RENAMED, SOLVERS, resolve


def given(photo: str | None) -> str:
    """The path itself. ValueError where a program sent none, or too large a file."""
    if not photo:
        raise ValueError("A photo is needed.")
    checked_photo(photo)
    return photo


def asked(
    method: str, photo: str | None, task: str, preset: str, settings: str, seed: float, prior: str
) -> tuple[str, state.Values]:
    """(today's name of the method, the values of its tab) of a call. ValueError where it describes no run."""
    method, preset = resolve(method, preset)
    if preset not in PRESETS[method] or task not in SOLVERS[method].damages():
        tasks = ", ".join(SOLVERS[method].damages())
        raise ValueError(f"{method} has the presets {', '.join(PRESETS[method])} and the tasks {tasks}.")
    values = state.opening_values(method) | state.preset_values(method, preset)
    values |= {"photo": given(photo), "size": LARGE, "mode": DEGRADED}
    values |= {"task": task, "seed": seed}
    values |= {"prior": state.known_prior(prior)} | state.settings_values(method, task, settings)
    return method, values


def restored(method: str, *call: Any) -> tuple[str, str]:
    """(PNG, JSON with scores, seconds, recipe and how the photo was read) of one run on an already degraded
    picture. call: as of `asked`.
    """
    with one_sentence():
        method, values = asked(method, *call)
        job = state.job(method, values)
        *_, last = steps_of(job, loaded(values["prior"]), time_limit())
        assert last.result is not None
        result = last.result
        facts = {"scores": dict(result.scores), "seconds": result.seconds, "recipe": result.recipe}
        return stored_file(result, job), json.dumps(facts | {"read": how_read(method, values)})


def endpoint(method: str) -> Callable[..., tuple[str, str]]:
    """The named endpoint of one solver; a blind one takes no task."""
    solver = SOLVERS[method]

    def restore_blind(
        photo: str, preset: str, settings: str, seed: float, prior: str = "embedded"
    ) -> tuple[str, str]:
        return restored(method, photo, solver.damages()[0], preset, settings, seed, prior)

    def restore_told(
        photo: str, task: str, preset: str, settings: str, seed: float, prior: str = "embedded"
    ) -> tuple[str, str]:
        return restored(method, photo, task, preset, settings, seed, prior)

    function: Callable[..., tuple[str, str]] = restore_blind if solver.blind else restore_told
    function.__name__ = endpoint_name(method)
    function.__doc__ = f"{solver.purpose} ({solver.title})."
    return function


def needed(method: str, *call: Any) -> float:
    """The estimated seconds of a call of `endpoint`."""
    first = [*call[:1], SOLVERS[method].damages()[0], *call[1:]] if SOLVERS[method].blind else call
    with contextlib.suppress(ValueError, OSError):  # the run itself will say what is wrong
        return seconds_needed(*asked(method, *first))
    return UNKNOWN_SECONDS


def endpoint_name(method: str) -> str:
    """restore_ldrps of "ld-rps": the endpoints of before keep their names."""
    return "restore_" + method.replace("-", "")


def degrade(photo: str, damage: str, settings: str, seed: float) -> str:
    """Damage a clean photograph, reproducibly: to test a restoration."""
    with one_sentence():
        made = make_damage(damage, state.parse_settings(settings), 1)
        factor = getattr(made, "factor", 1)
        y, _ = synthesise(images.read_image(given(photo)), made, factor, state.whole_seed(seed))
        return as_file(y)


def caption(photo: str, captioner: str) -> str:
    """Describe in at most 20 words what a damaged photograph would show in good condition."""
    with one_sentence():
        if captioner not in CAPTIONERS:
            raise ValueError(f"There is no captioner {quoted(captioner)}; there are {', '.join(CAPTIONERS)}.")
        answer = CAPTIONERS[captioner](images.read_image(given(photo), 1))
        return answer.text or answer.note


def measure(photo: str, reference: str | None = None) -> str:
    """Measure the quality of a photograph: PSNR, SSIM and others against the clean reference where one is
    given, NIQE always.
    """
    with one_sentence():
        clean = images.read_image(given(reference)) if reference else None
        return json.dumps(metrics.score(images.read_image(given(photo)), clean))


def presets(method: str) -> list[str]:
    """The presets of a method, and the names of before that still mean one."""
    return list(dict.fromkeys([*PRESETS[method], *(old for solver, old in RENAMED if solver == method)]))


def told(named: Mapping[str, Any]) -> str:
    """What a `settings` parameter may hold: the knobs of solvers or damages, by name, with their bounds."""
    parts = []
    for name, cls in named.items():
        fields = [field for field in dataclasses.fields(cls) if field.metadata and field.name not in FILES]
        if fields:
            parts.append(f"for {name} {', '.join(map(bounds, fields))}")
    return 'A JSON object such as {"NAME": 1}, or {} for the usual; names: ' + "; ".join(parts)


def bounds(field: dataclasses.Field[Any]) -> str:
    """A knob's name and what it may be."""
    meta = field.metadata
    if meta["choices"]:
        return f"{field.name} ({' or '.join(map(str, meta['choices']))})"
    return field.name + (
        " (text)" if isinstance(field.default, str) else f" ({meta['low']:g} to {meta['high']:g})"
    )


def add(
    fn: Callable[..., Any],
    inputs: dict[str, gr.components.Component],
    meanings: Mapping[str, str],
    outputs: Any,
    returns: str,
    *asks: Callable[..., Any],
    **options: Any,
) -> None:
    """Add a named endpoint; gradio_client and MCP read from its docstring what the parameters mean.

    By components whose choices come from the registries, and not by gr.api, whose one component hands
    over whatever was sent: a path that is not marked as a file reaches the function unchecked. Nor does it
    make a file of the returned picture, which a client could then not download.
    asks: as of `on_gpu`, the seconds, the priors and what is prepared.
    """
    usual = {
        "photo": "the picture: an uploaded file; nothing is fetched from an address",
        "seed": "a whole number; the same gives the same result",
    }
    lines = [f"    {name}: {(usual | dict(meanings))[name]}" for name in inputs]
    fn.__doc__ = "\n".join([fn.__doc__ or "", "", "Args:", *lines, "", "Returns:", f"    {returns}"])
    name = "metrics" if fn is measure else fn.__name__
    gr.Button().click(
        on_gpu(fn, *asks) if options else fn, list(inputs.values()), outputs, api_name=name, **options
    )


def offered() -> list[str]:
    """The solvers with an endpoint of their own.

    The papers' forms answer for presets that were their fast form's.
    """
    return [method for method in SOLVERS if method not in PAPERS]


def register() -> None:
    """Add the named endpoints to the page; their boxes are never shown.

    The choices come from the registries.
    """

    def choice(names: Collection[str], first: str, label: str) -> gr.Dropdown:
        # custom values reach the function, which knows older names and refuses others in a sentence
        return gr.Dropdown(list(names), value=first, label=label, allow_custom_value=True)

    with gr.Row(visible=False):
        photo, reference = picture(label="photo"), picture(label="reference")
        out = gr.Image(label="restored", format="png", type="filepath")
        settings, seed = gr.Textbox("{}", label="settings"), gr.Number(0, label="seed", precision=0)
        facts = gr.Textbox(label="JSON")
        made = (
            "The restored picture as PNG, and JSON with scores, seconds, recipe and how the photo was read."
        )
        for method in offered():
            solver = SOLVERS[method]
            inputs: dict[str, gr.components.Component] = {"photo": photo}
            inputs |= {} if solver.blind else {"task": choice(solver.damages(), solver.damages()[0], "task")}
            inputs["preset"] = choice(presets(method), next(iter(PRESETS[method])), "preset")
            inputs |= {"settings": settings, "seed": seed}
            inputs["prior"] = choice(PRIORS, "embedded", "prior")
            meanings = {"task": "how the picture was damaged", "preset": "the method's settings by name"}
            meanings["prior"] = "the model that knows photographs; a large one is downloaded at its first use"
            meanings["settings"] = told({"the method": solver} | ({} if solver.blind else TASKS))
            asks = functools.partial(needed, method), lambda *call: [call[-1]]
            add(endpoint(method), inputs, meanings, [out, facts], made, *asks, **ON_DEVICE)
        damage = choice([name for name in titles() if name != "kernel-deblur"], "denoise", "damage")
        inputs = {"photo": photo, "damage": damage, "settings": settings, "seed": seed}
        listed = "; ".join(f"{name}: {title}" for name, title in titles().items() if name != title)
        meanings = {"damage": f"what is done to it ({listed})", "settings": told(TASKS | EXPOSURES)}
        add(degrade, inputs, meanings, out, "The damaged picture as PNG.")
        captioner = choice(list(CAPTIONERS), list(CAPTIONERS)[1], "captioner")
        meanings = {"captioner": "the model that describes it"}
        add(
            caption,
            {"photo": photo, "captioner": captioner},
            meanings,
            facts,
            "The words, or why there are none.",
            lambda *_: UNKNOWN_SECONDS,
            lambda *_: ("embedded",),
            lambda photo, name: prepare(name),
            **ON_DEVICE,
        )
        meanings = {"reference": "the clean picture of the same size, if there is one"}
        add(
            measure,
            {"photo": photo, "reference": reference},
            meanings,
            facts,
            "JSON: the name of each metric and its value.",
        )
