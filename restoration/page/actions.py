"""What the page's controls do: runs, repeats, comparisons, and what is said before them.

method_tab.py and repeat_tab.py lay out what they return.
"""

from __future__ import annotations

import contextlib
import html
import json
import time
from collections.abc import Iterator
from typing import Any, NamedTuple

import gradio as gr
from torch import Tensor

from restoration import pace
from restoration.files import images, recipe
from restoration.files.errors import quoted
from restoration.page import device, sizes, state
from restoration.page.display import as_file, bar, course, finished, gallery, one_sentence, progress, sentence
from restoration.page.events import halfway
from restoration.page.previews import Previews, for_the_eye
from restoration.page.state import Values
from restoration.page.uploads import checked_photo
from restoration.page.visitors import while_awaited
from restoration.priors.caption import CAPTIONERS
from restoration.priors.catalogue import PRIORS
from restoration.priors.checkpoints import downloaded
from restoration.priors.latent import LatentPrior, in_memory, load_prior
from restoration.record import Run
from restoration.run import restore
from restoration.solvers.base import Step

PREVIEW_EVERY = 0.4  # seconds between pictures of a running restoration, at least
PREVIEW_SHARE = 0.05  # of the time of a run, that they take at most
READY, SCORING = "Getting ready…", "Here it is; scores and download follow."
LONG = 10.0  # seconds from which on it is worth saying when a first picture is there
PREVIEWED = 2  # steps until a picture of the first one is shown: it is written during the second
READING = 0.25  # share of what a run takes beside its steps that comes before them
NO_PICTURE = "Choose a picture first: upload one, paste one, or click an example."


def time_limit() -> float:
    """When, by time.monotonic(), whatever one press has started now has to be over."""
    return time.monotonic() + device.TIME_LIMIT


def steps_of(job: state.Job, prior: LatentPrior, until: float) -> Iterator[Step]:
    """The steps of a run while its visitor waits for it; ValueError when it is not over by then."""
    if time.monotonic() > until:
        raise ValueError(f"Not begun: the {device.TIME_LIMIT:.0f} s of one press were over.")
    for step in while_awaited(restore(job.y, job.run, prior, reference=job.reference)):
        if step.result is None and time.monotonic() > until:
            at = f"at step {step.index} of {step.total}"
            raise ValueError(
                f"Stopped after {device.TIME_LIMIT:.0f} s, {at}: use fewer steps or a smaller picture."
            )
        yield step


def loaded(prior: str) -> LatentPrior:
    """The prior, in memory; how long that took is remembered for the next forecast."""
    known, began = in_memory(prior, device.DEVICE), time.monotonic()
    model = load_prior(prior, device.DEVICE)
    if not known:
        pace.learn_loading(prior, time.monotonic() - began)
    return model


def show(job: state.Job, prior: LatentPrior, until: float) -> Iterator[tuple[Any, ...]]:
    """Run a job; yield (comparison, status, scores, curve, views, file)."""
    before = job.before()
    left, began, curve = for_the_eye(before), time.monotonic(), list[dict[str, float]]()
    due = began  # when the next picture may be made
    yield (left, left), READY, None, None, None, None
    with Previews() as previews:
        for step in steps_of(job, prior, until):
            if "residual" in step.scalars:  # a step without guidance measures nothing
                curve.append({"step": step.index, "residual": step.scalars["residual"]})
            if step.result is not None:
                right = as_file(step.result.image)
                yield (left, right), bar(1, 1, SCORING), None, None, None, None
                ended = finished(step, before, job, prior, curve, right)
                rest = time.monotonic() - began - step.result.seconds
                pace.learn_rest(before.shape[-2] * before.shape[-1], rest)
                yield (left, right), *ended
                continue
            preview, asked = previews.take(), time.monotonic()
            if asked >= due:
                previews.give(previewed(prior, step, (before.shape[-2], before.shape[-1])))
                now = time.monotonic()
                due = now + max(PREVIEW_EVERY, (now - asked) / PREVIEW_SHARE)
            elif preview is None:
                continue
            pair = (left, preview) if preview else gr.skip()
            yield pair, progress(step, began), None, course(curve), gallery(step, job.reference), None


def previewed(prior: LatentPrior, step: Step, size: tuple[int, int]) -> Tensor | None:
    """A step's picture for the eye; None where it cannot be made, which must not cost the run."""
    try:
        return prior.preview(step.latent, size)
    except RuntimeError:  # memory, which the run itself may still have
        return None


def run(method: str, values: Values) -> Iterator[tuple[Any, ...]]:
    """Restore the uploaded picture; yield (comparison, status, scores, curve, views, file)."""
    if not values["photo"]:
        raise gr.Error(NO_PICTURE, print_exception=False)
    yield gr.skip(), READY, None, None, None, None
    with one_sentence():
        job = state.job(method, state.checked(method, values))
        yield from show(job, loaded(values["prior"]), time_limit())


def with_last_words(
    runs: Iterator[tuple[Any, ...]], count: int, status: int, file: int
) -> Iterator[tuple[Any, ...]]:
    """What a run yields, `count` values, and what to say should this be the end of it; status, file: their
    places in it.

    An error takes the place of the status, and is raised then.
    """
    shown: tuple[Any, ...] | None = None
    try:
        for shown in runs:
            on = "<progress" in shown[status]
            line = halfway("Stopped: this is how far it got.") if on else "Stopped."
            yield *shown, "" if shown[file] else line
    except gr.Error as error:
        last: list[Any] = [None if shown is None else gr.skip()] * count
        last[status], last[file] = error.message, None
        yield *last, error.message
        raise


def caption_pair(method: str, values: Values) -> Iterator[tuple[Any, ...]]:
    """Run a method that reads a caption twice under one seed, without its caption and with it; yield as
    `run`.

    The scores are of both, and both are first among the views.
    """
    prompt, prior = values[method, "prompt"] or "", values["prior"]
    with one_sentence():
        state.checked(method, values)
        if not PRIORS[prior].text:
            readers = ", ".join(name for name, entry in PRIORS.items() if entry.text)
            same = "with and without a caption it gives the same picture"
            raise ValueError(f"The prior {prior} reads no text: {same}. These read it: {readers}.")
        if not prompt.strip():
            raise ValueError("Write a caption first, or have the picture described.")
    if not values["photo"]:
        raise gr.Error(NO_PICTURE, print_exception=False)
    yield gr.skip(), READY, None, None, None, None
    shown: list[tuple[str, str]] = []
    columns: dict[str, Any] = {}
    with one_sentence():
        model, until = loaded(prior), time_limit()
        for title, caption in (("without caption", ""), ("with caption", prompt)):
            job = state.job(method, {**values, (method, "prompt"): caption})
            for pair, status, scores, curve, views, file in show(job, model, until):
                if file is None:
                    yield pair, f"{title}: {status}", scores, curve, [*shown, *(views or [])], None
            columns[title] = scores["result"]
            shown.append((pair[1], f"{title}: {scores['metric'][0]} {scores['result'][0]}"))
    scores = scores.drop(columns="result")
    for place, (title, column) in enumerate(columns.items(), 2):
        scores.insert(place, title, column)
    yield pair, f"with caption: {status}", scores, curve, [*shown, *views], file


def repeat(file: str | None) -> Iterator[tuple[Any, ...]]:
    """Repeat the run of a PNG that carries its recipe and its input."""
    if not file:
        raise gr.Error("Choose a PNG that this page wrote.", print_exception=False)
    with one_sentence():
        stored, y = recipe.read(file), recipe.read_input(file)
        job = state.Job(y, Run.from_recipe(stored), None, recipe.read_result_alpha(file))
        prior = loaded(state.known_prior(job.run.prior))
        for note in job.run.differences(stored, y, prior):
            gr.Warning(note)
        yield from show(job, prior, time_limit())


def repeat_needs(file: str | None) -> tuple[float, str]:
    """(about how many seconds `repeat` takes, the prior that it needs)."""
    with contextlib.suppress(ValueError, OSError):  # the run itself will say what is wrong
        run, y = Run.from_recipe(recipe.read(file or "")), recipe.read_input(file or "")
        prior = state.known_prior(run.prior)
        return pace.estimate_seconds(run.solver, run.degradation, y.shape[-2], y.shape[-1], prior), prior
    return device.UNKNOWN_SECONDS, "embedded"


class Plan(NamedTuple):
    """What a run will do: how its picture is read, the result's size in pixels, and in about how many steps
    and seconds.
    """

    read: str
    width: int
    height: int
    steps: int
    seconds: float


def plan(method: str, values: Values) -> Plan:
    """The run that the values of a tab describe. ValueError where they describe none."""
    if not values["photo"]:
        raise ValueError(NO_PICTURE)
    solver, degradation, enlarged = state.asked_for(method, values)
    (width, height), read = images.describe(values["photo"], enlarged, sizes.SIZES[values["size"]])
    factor = solver.factor(degradation)
    width, height = (side // (factor // enlarged) for side in (width, height))
    seconds = pace.estimate_seconds(solver, degradation, height, width, values["prior"])
    steps = solver.iterations(degradation, width * height * factor**2)
    return Plan(read, width * factor, height * factor, steps, seconds)


def waiting(planned: Plan, prior: str) -> str:
    """How long a press takes, in words: to the result and, where that is long, to a first picture of it; what
    it costs, and where it is too long.
    """
    pixels, ready = planned.width * planned.height, in_memory(prior, device.DEVICE)
    wait = pace.estimate_wait(planned.seconds, prior, pixels, loaded=ready)
    line = pace.about(wait) + ("" if ready else ", the model loaded first")
    if planned.seconds > device.TIME_LIMIT:
        stopped = f", but a run is stopped after {pace.rounded(device.TIME_LIMIT)}"
        return f"{line}{stopped}: use fewer steps or a smaller picture"
    steps = PREVIEWED / planned.steps * planned.seconds
    first = pace.estimate_wait(steps, prior, READING * pixels, loaded=ready)
    line += f", a first picture after {pace.about(first)}" if wait > LONG and first < wait / 2 else ""
    quota = device.gpu_seconds(planned.seconds, prior)
    return line + (f", {quota} s of your GPU quota" if device.ZERO_GPU else "")


def seconds_needed(method: str, values: Values) -> float:
    """The estimate for the values of a tab. ValueError where they describe no run."""
    return plan(method, values).seconds


def forecast(method: str, values: Values) -> str:
    """What the page says before a run, as HTML: how the picture is read, the result's size, how long it
    takes; or why not.
    """
    if not values["photo"]:
        return "&nbsp;"
    try:
        state.checked(method, values)
        planned = plan(method, values)
    except (ValueError, OSError, MemoryError) as error:
        return html.escape(sentence(error))
    first = "It is damaged first. " if values["mode"] == state.CLEAN else ""
    line = f"{first}Result: {planned.width}×{planned.height} pixels, in {waiting(planned, values['prior'])}"
    return html.escape(f"{planned.read}. {line}.")


def how_read(method: str, values: Values) -> str:
    """What happens to the picture before its run. ValueError where the values describe none."""
    most = sizes.SIZES[values["size"]]
    return images.how_read(values["photo"], state.asked_for(method, values)[2], most)


def describe(photo: str | None, name: str, prior: str) -> tuple[str, str]:
    """(caption, note as HTML) of the uploaded picture by one of CAPTIONERS."""
    if not photo:
        raise gr.Error("Choose a picture first.", print_exception=False)
    with one_sentence():
        if name not in CAPTIONERS:
            raise ValueError(f"There is no captioner {quoted(name)}; there are {', '.join(CAPTIONERS)}.")
        silent = not PRIORS[state.known_prior(prior)].text
        caption = CAPTIONERS[name](images.read_image(checked_photo(photo) or photo, 1))
    note = f"The prior {prior} reads no text: the caption is shown but does not guide." if silent else ""
    return caption.text, html.escape(caption.note or note)


def about_prior(name: str) -> str:
    """What is worth knowing of a prior before it is chosen."""
    there = (
        "" if downloaded(state.known_prior(name)) else "Not on this machine yet: the first run downloads it."
    )
    return " ".join(filter(None, [PRIORS[name].describe() + ".", there, pace.before_download(name)]))


def read_recipe(file: str | None) -> tuple[str, str]:
    """(the recipe of an uploaded PNG as indented JSON, why its run cannot be repeated, as HTML), each "" for
    none.
    """
    text = ""
    if not file:
        return "", ""
    try:
        text = json.dumps(stored := recipe.read(file), indent=1)
        state.known_prior(Run.from_recipe(stored).prior)
        recipe.read_input(file)
    except (ValueError, OSError, MemoryError) as error:
        return text, f'<span class="refused">{html.escape(sentence(error))}</span>'
    return text, ""
