"""What the page's handlers do: runs, repeats, comparisons, history, named endpoints. app.py lays out what they return."""

from __future__ import annotations

import base64
import contextlib
import functools
import html
import io
import json
import math
import os
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import gradio as gr
import pandas as pd
from torch import Tensor

from restoration.degradations.blind import make_damage
from restoration.degradations.linear import FILES
from restoration.evaluation import metrics
from restoration.files import images, recipe
from restoration.page import compare, form
from restoration.page.form import DAMAGES, DEGRADED, EXAMPLES, Values
from restoration.priors.caption import CAPTIONERS
from restoration.priors.checkpoints import PRIORS, downloaded
from restoration.priors.latent import LatentPrior, load_prior
from restoration.run import estimate_seconds, restore, score_rows, synthesise
from restoration.solvers import PRESETS
from restoration.solvers.base import Result, Step

ZERO_GPU = bool(os.environ.get("SPACES_ZERO_GPU"))  # a Space whose GPU is there while a decorated handler runs
DEVICE = "cuda" if ZERO_GPU else None  # there nothing can be measured beforehand; elsewhere the one with most free memory
PREVIEW_EVERY = 0.4  # seconds between pictures of a running restoration
TIME_LIMIT = float(os.environ.get("RESTORATION_TIME_LIMIT", 600))  # seconds a run may take: the device is shared
# runs that a browser keeps, and how large each may be; it gives a site about 5 MB, and forgets the oldest where that is not enough
HISTORY, HISTORY_BYTES = 12, 1_000_000
CHOSEN = ("mode", "task", "seed", "prior", "preset")  # of a run, beside its knobs
DAY = 86_400  # seconds that files of visitors are kept
NO_PICTURE = "Choose a picture first: upload one, paste one, or click an example."
SEPARATOR = " · "  # of method and preset in a comparison's choices


# ---- what a run shows


def score_table(rows: Mapping[str, Mapping[str, float]]) -> pd.DataFrame:
    """Metrics as rows, pictures as columns; the arrow says which way is better."""
    reasons = {title: getattr(row, "missing", {}) for title, row in rows.items()}  # stored examples have none
    known = dict.fromkeys([*metrics.METRICS, "consistency"])
    names = known if "PSNR" in rows["result"] else [n for n in known if n in rows["result"] or n in reasons["result"]]
    falling = {name for name, metric in metrics.METRICS.items() if not metric.higher_is_better}
    table: dict[str, list[str]] = {"metric": [f"{name} {'↓' if name in falling else '↑'}" for name in names]}
    for title, row in rows.items():
        table[title] = [f"{row[n]:.3f}" if n in row else reasons[title].get(n, "–") for n in names]
    return pd.DataFrame(table)


def progress(step: Step, began: float) -> str:
    """A progress bar with the step and the seconds left."""
    left = (time.monotonic() - began) / step.index * (step.total - step.index)
    return bar(step.index, step.total, f"Step {step.index} of {step.total} · {step.note} · {left:.0f} s left")


def bar(done: int, total: int, words: str) -> str:
    """A progress bar with a line of text."""
    text = html.escape(words)
    return f'<progress style="width:100%" value="{done}" max="{total}" aria-label="{text}"></progress>{text}'


def gallery(step: Step, reference: Any) -> list[tuple[str, str]]:
    """A step's further pictures; a finished pass with its score where there is a clean picture."""
    shown = []
    for title, view in step.views.items():
        scored = reference is not None and title.startswith("pass") and view.shape == reference.shape
        shown.append((as_file(view), f"{title}: {metrics.psnr(images.quantise(view), reference):.2f} dB" if scored else title))
    return shown


def time_limit() -> float:
    """When, by time.monotonic(), whatever one press has started now has to be over."""
    return time.monotonic() + TIME_LIMIT


def steps_of(job: form.Job, prior: LatentPrior, until: float) -> Iterator[Step]:
    """The steps of a run; ValueError when it is not over by then."""
    if time.monotonic() > until:
        raise ValueError(f"Not begun: the {TIME_LIMIT:.0f} s of one press were over.")
    for step in restore(job.y, job.solver, prior, job.degradation, reference=job.reference, seed=job.seed, periodic=job.periodic):
        if step.result is None and time.monotonic() > until:
            raise ValueError(f"Stopped after {TIME_LIMIT:.0f} s, at step {step.index} of {step.total}: use fewer steps or a smaller picture.")
        yield step


def show(job: form.Job, prior: LatentPrior, until: float) -> Iterator[tuple[Any, ...]]:
    """Run a job; yield (comparison, status, scores, curve, views, file)."""
    before = job.before()
    left, began, shown, curve = as_file(before), time.monotonic(), 0.0, []
    for step in steps_of(job, prior, until):
        if "residual" in step.scalars:  # a step without guidance measures nothing
            curve.append({"step": step.index, "residual": step.scalars["residual"]})
        if step.result is not None:
            yield (left, as_file(step.result.image)), *finished(step, before, job, prior, curve)
        elif time.monotonic() - shown > PREVIEW_EVERY:
            preview = prior.preview(step.latent, (before.shape[-2], before.shape[-1]))
            yield (left, as_file(preview)), progress(step, began), None, course(curve), gallery(step, job.reference), None
            shown = time.monotonic()


def course(curve: list[dict[str, float]]) -> pd.DataFrame | None:
    """The curve as Gradio draws it; None where nothing was measured."""
    return pd.DataFrame(curve) if curve else None


def finished(step: Step, before: Any, job: form.Job, prior: LatentPrior, curve: list[dict[str, float]]) -> tuple[Any, ...]:
    """(status, scores, curve, views, file) of the last step."""
    result = step.result
    assert result is not None
    status = f"{result.image.shape[-1]}×{result.image.shape[-2]} pixels in {result.seconds:.1f} s, seed {job.seed}"
    status += "".join(f" · {html.escape(note)}" for note in (step.note, prior.placement.note) if note)
    status += " · transparent again in the download" if job.alpha else ""
    table = score_table(score_rows(before, result, prior, job.reference))
    return status, table, course(curve), gallery(step, job.reference), stored_file(result, job)


def stored_file(result: Result, job: form.Job) -> str:
    """The result as a PNG with recipe, scores and input, in Gradio's cache, which deletes it."""
    file = new_file("restored.png")
    recipe.save_png(result.image, file, result.recipe, result.scores, y=job.y, alpha=job.alpha)
    return file


def as_file(x: Tensor) -> str:
    """x (1,3,H,W) in [0,1] as a PNG for the page.

    Every time a new file: given pixels, Gradio writes equal ones into one file again and again, even while a browser reads it.
    """
    file = new_file("image.png")
    images.to_pil(x).save(file)
    return file


def new_file(name: str) -> str:
    """The path of a file of this name, nobody else's, where Gradio deletes it some time."""
    cache().mkdir(parents=True, exist_ok=True)
    return str(Path(tempfile.mkdtemp(dir=cache()), name))


def cache() -> Path:
    """Gradio's folder of temporary files."""
    return Path(os.environ.get("GRADIO_TEMP_DIR") or Path(tempfile.gettempdir(), "gradio"))


@contextlib.contextmanager
def one_sentence() -> Iterator[None]:
    """Bad input as a message of the page, without a stack trace."""
    try:
        yield
    except (ValueError, OSError) as error:
        raise gr.Error(str(error), print_exception=False) from None


def run(method: str, values: Values) -> Iterator[tuple[Any, ...]]:
    """Restore the uploaded picture; yield (comparison, status, scores, curve, views, file)."""
    if not values["photo"]:
        raise gr.Error(NO_PICTURE, print_exception=False)
    yield gr.skip(), "Getting ready…", None, None, None, None
    with one_sentence():
        yield from show(form.job(method, values), load_prior(form.known_prior(values["prior"]), DEVICE), time_limit())


def caption_pair(values: Values) -> Iterator[tuple[Any, ...]]:
    """Run LD-RPS twice under one seed, without its caption and with it; yield as `run`: scores of both, and both first among the views."""
    prompt, prior = values["ld-rps", "prompt"], values["prior"]
    with one_sentence():
        if not PRIORS[form.known_prior(prior)].text:
            readers = ", ".join(name for name, entry in PRIORS.items() if entry.text)
            raise ValueError(f"The prior {prior} reads no text: with and without a caption it gives the same picture. These read it: {readers}.")
        if not prompt.strip():
            raise ValueError("Write a caption first, or have the picture described.")
    if not values["photo"]:
        raise gr.Error(NO_PICTURE, print_exception=False)
    yield gr.skip(), "Getting ready…", None, None, None, None
    shown: list[tuple[str, str]] = []
    columns: dict[str, Any] = {}
    with one_sentence():
        model, until = load_prior(prior, DEVICE), time_limit()
        for title, words in (("without caption", ""), ("with caption", prompt)):
            for pair, status, scores, curve, views, file in show(form.job("ld-rps", {**values, ("ld-rps", "prompt"): words}), model, until):
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
        said, y = recipe.read(file), recipe.read_input(file)
        job = form.Job(y, *recipe.parts(said), None, said["seed"], said["periodic"])
        prior = load_prior(form.known_prior(said["prior"]), DEVICE)
        if note := recipe.other_weights(said, recipe.weights(job.solver, prior.name, prior.weights)):
            gr.Warning(note)
        yield from show(job, prior, time_limit())


def compare_all(photo: str | None, damage: str, choices: list[str], seeds: float) -> Iterator[tuple[Any, ...]]:
    """Degrade the clean picture once, restore it with every choice and seed; yield (status, grid, table, file)."""
    if not photo or not choices:
        raise gr.Error("Choose a picture and at least one method.", print_exception=False)
    read = images.how_read(photo)
    yield f"{read}. Getting ready…" if read else "Getting ready…", None, None, None
    with one_sentence():
        clean, runs = images.read_image(photo, 1), [(method, preset) for method, _, preset in (c.partition(SEPARATOR) for c in choices)]
        if (needed := compare.seconds(clean, damage, runs, int(seeds))) > TIME_LIMIT:
            raise ValueError(
                f"This would take about {needed:.0f} s, and {TIME_LIMIT:.0f} s is the limit: fewer methods, fewer seeds, a smaller picture."
            )
        prior, began = load_prior("embedded", DEVICE), time.monotonic()
        restore_until = functools.partial(steps_of, until=time_limit())
        for state in compare.compare(clean, damage, runs, int(seeds), prior, restore_until):
            left = (time.monotonic() - began) / max(state.share, 1e-3) * (1 - state.share)
            status = bar(int(1000 * state.share), 1000, f"{state.note} · {left:.0f} s left")
            yield (
                status,
                grid(state.cells) if state.new else gr.skip(),
                pd.DataFrame(compare.score_table(state.cells)) if state.new else gr.skip(),
                None,
            )
        if not state.cells:
            raise ValueError(state.note)
        file = new_file("comparison.png")
        images.sheet([(cell.title, images.to_pil(cell.image)) for cell in state.cells], columns=4).save(file)
        yield f"{state.note} The picture: {read}." if read else state.note, gr.skip(), gr.skip(), file


def grid(cells: Sequence[compare.Cell]) -> str:
    """The pictures of a comparison side by side; they zoom together."""

    def png(x: Tensor) -> bytes:
        buffer = io.BytesIO()
        images.to_pil(x).save(buffer, format="PNG")
        return buffer.getvalue()

    figures = "".join(
        f'<figure><figcaption>{title}</figcaption><div><img alt="{title}" src="{data_uri(png(cell.image))}"></div></figure>'
        for title, cell in ((html.escape(cell.title), cell) for cell in cells)
    )
    return f'<div class="zoom" tabindex="0" aria-label="Results side by side; plus and minus zoom">{figures}</div>'


def data_uri(png: bytes) -> str:
    """A picture as a page can carry it."""
    return "data:image/png;base64," + base64.b64encode(png).decode()


def example_outputs(row: Mapping[str, Any]) -> tuple[Any, ...]:
    """(comparison, status, scores, curve, views, file) of a stored example, without any computation."""
    pictures = tuple(str(EXAMPLES / row[name]) for name in ("before", "result"))
    status = f"{row['title']}: computed beforehand. Press Restore to repeat it, or change anything."
    return pictures, status, score_table(row["scores"]), None, None, str(EXAMPLES / row["result"])


def seconds_needed(method: str, values: Values) -> float:
    """The estimate for the values of a tab. ValueError where they describe no run."""
    solver, degradation, enlarged = form.asked_for(method, values)
    width, height = images.size_read(values["photo"], enlarged)
    shrink = solver.factor(degradation) // enlarged
    return estimate_seconds(solver, degradation, height // shrink, width // shrink)


def gpu_seconds(estimate: float) -> int:
    """What is asked of ZeroGPU, which ends a run that takes longer and counts this against the visitor's quota; never tried on one."""
    return math.ceil(1.5 * min(estimate, TIME_LIMIT)) + 10


def forecast(method: str, values: Values) -> str:
    """What the page says before a run: how the picture is read and how long it will take, or why it is refused."""
    if not values["photo"]:
        return "&nbsp;"
    try:
        read, seconds = how_read(method, values), max(1, seconds_needed(method, values))
    except ValueError as error:
        return html.escape(str(error))
    words = f"About {seconds:.0f} s once the model is loaded"
    words += f", {gpu_seconds(seconds)} s of your GPU quota" if ZERO_GPU else ""
    words += f", but a run is stopped after {TIME_LIMIT:.0f} s: use fewer steps or a smaller picture" if seconds > TIME_LIMIT else ""
    return f"{read}. {words}."


def how_read(method: str, values: Values) -> str:
    """What happens to the picture before its run. ValueError where the values describe none."""
    return images.how_read(values["photo"], form.asked_for(method, values)[2])


def describe(photo: str | None, name: str, prior: str) -> tuple[str, str]:
    """(caption, note) of the uploaded picture by one of CAPTIONERS."""
    if not photo:
        raise gr.Error("Choose a picture first.", print_exception=False)
    with one_sentence():
        words = CAPTIONERS[name](images.read_image(photo, 1))
    silent = not PRIORS[form.known_prior(prior)].text
    return words.text, words.note or (f"The prior {prior} reads no text: the caption is shown but does not guide." if silent else "")


def about_prior(name: str) -> str:
    """What is worth knowing of a prior before it is chosen."""
    return PRIORS[name].describe() + ("" if downloaded(name) else ". Not on this machine yet: the first run downloads it.")


def read_recipe(file: str | None) -> str:
    """The recipe of an uploaded PNG as indented JSON."""
    with one_sentence():
        return json.dumps(recipe.read(file), indent=1) if file else ""


# ---- history and sharing


def history_entry(method: str, values: Values, shown: tuple[Any, ...]) -> str:
    """A finished run as JSON for the browser's history and for its settings link; "" before the run's end.

    Without pictures, which the browser then does not keep, where they are large: its space is 5 MB for everything.
    """
    pair, status, scores, _, _, file = shown
    if not file:
        return ""
    pictures = [data_uri(Path(side).read_bytes()) for side in pair]
    space, photo = HISTORY_BYTES - sum(map(len, pictures)), Path(values["photo"])
    fits = photo.stat().st_size * 4 / 3 < space
    entry = {
        "method": method,
        "link": form.to_query(method, values),
        "title": f"{values['task']}, seed {values['seed']}",
        "values": {f"{key[0]}.{key[1]}": value for key, value in values.items() if isinstance(key, tuple) and key[1] not in FILES},
        "chosen": {name: values[name] for name in CHOSEN},
        "status": status,
        "scores": scores.to_dict("list"),
        "pictures": pictures if space > 0 else [],
        "photo": [photo.name, base64.b64encode(photo.read_bytes()).decode()] if fits else None,
    }
    return json.dumps(entry)


def recall(text: str) -> tuple[dict[Any, Any], tuple[Any, ...]]:
    """(values, outputs) of a run in the history, the picture that went in among them. gr.Error for anything else."""
    try:
        entry = json.loads(text)
        values: dict[Any, Any] = {"photo": None, "reference": None} | {name: entry["chosen"][name] for name in CHOSEN}
        values |= {tuple(key.split(".", 1)): value for key, value in entry["values"].items()}
        pair = tuple(as_file(from_uri(picture)) for picture in entry["pictures"])
        status, scores = html.escape(html.unescape(entry["status"])), pd.DataFrame(entry["scores"])
        if entry["photo"]:
            values["photo"] = new_file(Path(entry["photo"][0]).name)
            Path(values["photo"]).write_bytes(base64.b64decode(entry["photo"][1]))
        else:
            status += " · your picture itself was too large for the history: choose it again before you press Restore"
    except (ValueError, TypeError, KeyError, AttributeError, OSError):
        raise gr.Error("This entry of the history cannot be read.", print_exception=False) from None
    return values, (pair, status, scores, None, None, None)


def forget_deep_links() -> None:
    """Delete what Gradio wrote for links more than a day ago: its own cleaning leaves that."""
    for state in cache().glob("deep_links/*/state.json"):
        if time.time() - state.stat().st_mtime > DAY:
            state.unlink(missing_ok=True)


def stopped(status: str) -> Any:
    """The status line of a run that is over, where it was not its last word: Stop was pressed, or it failed."""
    if "<progress" in status:
        return "Stopped: this is how far it got."
    return "Stopped." if status.endswith("…") else gr.skip()


def from_uri(uri: str) -> Tensor:
    """The picture of `data_uri`, (1,3,H,W) in [0,1]. ValueError for what is none: it comes from a browser."""
    with images.open_image(io.BytesIO(base64.b64decode(uri.partition(",")[2]))) as picture:
        return images.read_image(picture)


# ---- named endpoints for gradio_client and MCP, where their docstrings are read


def given(photo: str | None) -> str:
    """The path itself. ValueError where a program sent none."""
    if not photo:
        raise ValueError("A photo is needed.")
    return photo


def restored(method: str, photo: str | None, task: str, preset: str, settings: str, seed: float) -> tuple[str, str]:
    """(PNG, JSON with scores, seconds, recipe and how the photo was read) of one run on an already degraded picture."""
    if preset not in PRESETS[method] or task not in DAMAGES[method]:
        raise gr.Error(f"{method} has the presets {', '.join(PRESETS[method])} and the tasks {', '.join(DAMAGES[method])}.", print_exception=False)
    with one_sentence():
        values = (
            form.opening_values(method) | form.preset_values(method, preset) | {"photo": given(photo), "mode": DEGRADED, "task": task, "seed": seed}
        )
        values |= form.settings_values(method, task, settings)
        job, prior = form.job(method, values), load_prior("embedded", DEVICE)
        *_, last = steps_of(job, prior, time_limit())
        assert last.result is not None
        facts = {"scores": dict(last.result.scores), "seconds": last.result.seconds, "recipe": last.result.recipe, "read": how_read(method, values)}
        return stored_file(last.result, job), json.dumps(facts)


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
        made = make_damage(damage, form.parse_settings(settings), 1)
        factor = getattr(made, "factor", 1)
        y, _ = synthesise(images.read_image(given(photo)), made, factor, form.whole_seed(seed))
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
        return json.dumps(metrics.score(images.read_image(given(photo)), images.read_image(reference) if reference else None))
