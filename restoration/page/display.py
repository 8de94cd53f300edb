"""What a run shows, as the page's components take it: pictures as files, scores as a table, progress as a
line of HTML.
"""

from __future__ import annotations

import base64
import contextlib
import functools
import html
import io
import re
import time
import zlib
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import gradio as gr
import pandas as pd
from PIL import Image
from torch import Tensor

from restoration.evaluation import metrics
from restoration.files import images, recipe
from restoration.files.errors import DISK_FULL, LONGEST, cut, out_of_memory
from restoration.page import state
from restoration.page.state import EXAMPLES
from restoration.page.uploads import new_file
from restoration.page.words import named, plain
from restoration.priors.catalogue import PRIORS
from restoration.priors.latent import LatentPrior
from restoration.run import score_rows
from restoration.solvers.base import Result, Step

# a result is clearly worse than its input where NIQE is so many times and so much higher, or PSNR so much
# lower
WORSE_NIQE, WORSE_NIQE_BY, WORSE_PSNR_BY = 1.5, 1.0, 0.5
WORSE = "⚠ The result scores worse than your picture: try another damage, method or preset."
THUMBNAIL = 88  # pixels of an example's longer side
FOLDERS = re.compile(r"(?<![\w/:])/(?:[^/\s'\"]+/)+")  # of a path that begins at the root: nobody's business


def sentence(error: Exception) -> str:
    """What a visitor is told of an error, as plain text without the server's folders."""
    if out_of_memory(error):
        return "Memory ran out: take a smaller picture, or try again later."
    if isinstance(error, OSError) and error.strerror:
        reason = "its disk is full; try again later" if error.errno in DISK_FULL else error.strerror.lower()
        return f"The server could not read or write a file: {reason}."
    return cut(FOLDERS.sub("", str(error)), LONGEST)


@contextlib.contextmanager
def one_sentence() -> Iterator[None]:
    """Bad input, a full disk and the end of memory as a message of the page, which draws it as HTML, without
    a stack trace.
    """
    try:
        yield
    except (ValueError, OSError, MemoryError, RuntimeError) as error:
        if isinstance(error, RuntimeError) and not out_of_memory(error):
            raise
        raise gr.Error(html.escape(sentence(error), quote=False), print_exception=False) from None


def score_table(rows: Mapping[str, Mapping[str, float]]) -> pd.DataFrame:
    """Metrics as rows, pictures as columns; the arrow says which way is better.

    A metric that no picture has is left out: `left_out` says why.
    """
    names = [name for name in [*metrics.METRICS, "consistency"] if any(name in row for row in rows.values())]
    falling = {name for name, metric in metrics.METRICS.items() if not metric.higher_is_better}
    table = {"metric": [f"{name} {'↓' if name in falling else '↑'}" for name in names]}
    for title, row in rows.items():
        reasons = getattr(row, "missing", {})  # stored examples have none
        table[title] = [f"{row[n]:.3f}" if n in row else reasons.get(n, "–") for n in names]
    return pd.DataFrame(table)


def left_out(rows: Mapping[str, Mapping[str, float]]) -> str:
    """Which metrics no picture has, each with its reason: "no LPIPS (…)"; "" where there are all."""
    reasons = {name: why for row in rows.values() for name, why in getattr(row, "missing", {}).items()}
    missing = [name for name in reasons if not any(name in row for row in rows.values())]
    return ", ".join(f"no {name} ({reasons[name]})" for name in missing)


def progress(step: Step, began: float) -> str:
    """A progress bar with the step and the seconds left."""
    left = (time.monotonic() - began) / step.index * (step.total - step.index)
    parts = [f"Step {step.index} of {step.total}", plain(step.note), remaining(left)]
    return bar(step.index, step.total, " · ".join(filter(None, parts)))


def remaining(seconds: float) -> str:
    """How long it goes on, in words."""
    return f"{seconds:.0f} s left" if seconds < 100 else f"{seconds / 60:.0f} min left"


def doubt(rows: Mapping[str, Mapping[str, float]]) -> str:
    """A sentence where the scores of a result are clearly worse than its input's, else ""; rows: those of
    `score_rows`.
    """
    before, after = rows["input"], rows["result"]
    niqe = "NIQE (own fit)"
    if "PSNR" in before and "PSNR" in after:
        worse = after["PSNR"] < before["PSNR"] - WORSE_PSNR_BY
    elif niqe in before and niqe in after:
        worse = after[niqe] > max(WORSE_NIQE * before[niqe], before[niqe] + WORSE_NIQE_BY)
    else:
        return ""
    return WORSE if worse else ""


def bar(done: int, total: int, label: str) -> str:
    """A progress bar with a line of text."""
    text = html.escape(label)
    return f'<progress style="width:100%" value="{done}" max="{total}" aria-label="{text}"></progress>{text}'


def gallery(step: Step, reference: Any) -> list[tuple[str, str]]:
    """A step's further pictures; a finished pass with its score where there is a clean picture."""
    shown = []
    for title, view in step.views.items():
        scored = reference is not None and title.startswith("pass") and view.shape == reference.shape
        score = f": {metrics.psnr(images.quantise(view), reference):.2f} dB" if scored else ""
        shown.append((as_file(view), title + score))
    return shown


def course(curve: list[dict[str, float]]) -> pd.DataFrame | None:
    """The curve as Gradio draws it; None where nothing was measured."""
    return pd.DataFrame(curve) if curve else None


def finished(
    step: Step, before: Tensor, job: state.Job, prior: LatentPrior, curve: list[dict[str, float]], shown: str
) -> tuple[Any, ...]:
    """(status, scores, curve, views, file) of the last step; shown: the file of its picture.

    Nothing that goes wrong here may cost the picture, which is there already.
    """
    result = step.result
    assert result is not None
    warnings = map(named, result.warnings)  # judged here: both threads ask for the scores
    with ThreadPoolExecutor(1) as beside:  # a large PNG takes as long as the scores
        written = beside.submit(stored_file, result, job)
        rows = score_rows(before, result, prior, job.reference)
    notes = [plain(step.note), captioned(job), *warnings, left_out(rows)]
    notes.append("transparent again in the download" if job.alpha else "")
    table = score_table(rows)
    try:
        file = written.result()
    except Exception as error:
        file = shown
        notes.append(f"the download carries no recipe: {sentence(error)}")
    width, height = result.image.shape[-1], result.image.shape[-2]
    status = " ".join(filter(None, [doubt(rows), f"{width}×{height} pixels in {result.seconds:.1f} s"]))
    status += f", seed {job.run.seed}" if job.run.seed else ""
    status += "".join(f" · {html.escape(note)}" for note in notes if note)
    return status, table, course(curve), gallery(step, job.reference), file


def captioned(job: state.Job) -> str:
    """The caption of a run, and whether its prior reads it; "" where there is none."""
    caption = getattr(job.run.solver, "prompt", "")
    if not caption:
        return ""
    prior = PRIORS.get(job.run.prior)
    return f"caption: “{caption}”" + (", which this prior does not read" if prior and not prior.text else "")


def stored_file(result: Result, job: state.Job) -> str:
    """The result as a PNG with recipe, scores and input, deleted by age."""
    file = new_file("restored.png")
    recipe.save_png(result.image, file, result.recipe, result.scores, y=job.y, alpha=job.alpha)
    return file


def as_file(x: Tensor) -> str:
    """x (1,3,H,W) in [0,1] as a PNG for the page.

    Every time a new file: given pixels, Gradio writes equal ones into one file again and again, even while a
    browser reads it.
    """
    file = new_file("image.png")
    # it is not kept: a third of the time, and of what deflate finds photographs hold little but runs
    images.to_pil(x).save(file, compress_level=1, compress_type=zlib.Z_RLE)
    return file


def data_uri(picture: bytes, kind: str = "png") -> str:
    """A picture's file as a page can carry it."""
    return f"data:image/{kind};base64," + base64.b64encode(picture).decode()


def small_uri(x: Tensor, side: int) -> str:
    """x (1,3,H,W) at no more than `side` pixels a side, as a page can carry it, by JPEG."""
    small = images.to_pil(x)
    small.thumbnail((side, side))
    return jpeg_uri(small)


def jpeg_uri(picture: Image.Image) -> str:
    """A picture as a page can carry it, by JPEG."""
    picture.save(buffer := io.BytesIO(), format="JPEG", quality=85)
    return data_uri(buffer.getvalue(), "jpeg")


@functools.cache
def thumbnail(name: str, title: str) -> str:
    """A stored picture, small, above its title, as HTML."""
    small = small_uri(images.read_image(EXAMPLES / name), THUMBNAIL)
    return f'<img alt="" src="{small}">{html.escape(title)}'


def example_outputs(row: Mapping[str, Any]) -> tuple[Any, ...]:
    """(comparison, status, scores, curve, views, file) of a stored example, without any computation."""
    pictures = tuple(str(EXAMPLES / row[name]) for name in ("before", "result"))
    status = f"{row['title']}: computed beforehand. Press Restore to repeat it, or change anything."
    return pictures, status, score_table(row["scores"]), None, None, str(EXAMPLES / row["result"])
