"""What the page sees in an uploaded photograph, and the settings of every method that follow from it."""

from __future__ import annotations

import math
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from torch import Tensor

from restoration.degradations.advice import FLOOR, Suggestion, noise_to_denoise, noise_to_enlarge, suggest
from restoration.degradations.jpeg_traces import quality_of_file
from restoration.degradations.linear import TASKS
from restoration.degradations.meter import Damage, measure_damage
from restoration.files import images
from restoration.page import sizes, state, words
from restoration.page.display import as_file, small_uri
from restoration.page.state import DEGRADED
from restoration.page.uploads import checked_photo
from restoration.solvers import PRESETS, SOLVERS

SHOWN = 1_000_000  # pixels of the picture that stands as Before until the run
# files that every browser draws, by ending; of others it gets a small picture to show in the photograph's box
DRAWN = {".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".apng", ".webp", ".gif", ".bmp"}
PREVIEW = 480  # pixels of its longer side
# LatentINDIGO enlarges so many times a picture of up to so many pixels: no result is larger than what is
# accepted
SCALES = {4: images.MAX_PIXELS // 16, 2: images.MAX_PIXELS // 4, 1: images.MAX_PIXELS}
# photographs that are looked at at a time, each some hundred megabytes
_places = threading.BoundedSemaphore(2)
# by file, of the last ones: a forecast is made anew with every knob, and cannot measure each time
_measured: dict[str, Damage] = {}
KEPT = 64


class Inspection(NamedTuple):
    """sentences: what is wrong with the photograph, in plain text; method: the one of SOLVERS for that, ""
    where nothing is to be done.

    before: a file with the picture, for the eye; size: (width, height) of the picture as it was read;
    large: whether more of it can be read than at the quick size; preview: a data: URI of a small picture
    where a browser may not draw the file, else ""; values: by method what its controls are set to, as in
    `state.Values`.
    """

    sentences: str
    method: str
    before: str
    size: tuple[int, int]
    large: bool
    preview: str
    values: dict[str, dict[Any, Any]]


def inspect(photo: str, read: str) -> Inspection:
    """Look at an uploaded file at one of SIZES, at which it will be restored: noise and blur are less in a
    reduced picture. ValueError, one sentence, where it is no photograph that can be restored."""
    checked_photo(photo)
    with _places:
        x = images.read_photo(photo, 1, sizes.known_size(read)).x
        damage = measure_damage(x, quality_of_file(photo))
        before = as_file(_reduced(x))
        preview = "" if Path(photo).suffix.lower() in DRAWN else small_uri(x, PREVIEW)
    _measured[photo] = damage
    if len(_measured) > KEPT:
        _measured.pop(next(iter(_measured)), None)
    suggestions, size = suggest(damage), (x.shape[-1], x.shape[-2])
    values = {
        method: {"photo": photo} | _settings(method, damage, suggestions, size[0] * size[1])
        for method in SOLVERS
    }
    width, height = images.size_read(photo)
    large = width * height > sizes.SIZES[sizes.QUICK]
    return Inspection(
        words.seen(damage), suggestions[0].solver if suggestions else "", before, size, large, preview, values
    )


def measured(photo: str) -> Damage | None:
    """What `inspect` has last measured of the file; None where that was not lately."""
    return _measured.get(photo)


def enlargement(pixels: int) -> int:
    """How many times LatentINDIGO enlarges a picture of so many pixels: nothing of it is thrown away."""
    return next((scale for scale, most in SCALES.items() if pixels <= most), 1)


def _reduced(x: Tensor) -> Tensor:
    """x (1,3,H,W) at no more than about SHOWN pixels."""
    height, width = x.shape[-2:]
    shrink = math.sqrt(SHOWN / (height * width))
    return x if shrink >= 1 else images.lanczos(x, round(height * shrink), round(width * shrink))


def _settings(method: str, damage: Damage, suggestions: Sequence[Suggestion], pixels: int) -> dict[Any, Any]:
    """What is said of a photograph with this damage to one method, beside the photograph."""
    mine = next((one for one in suggestions if one.solver == method), None)
    preset = mine.preset if mine else next(iter(PRESETS[method]))
    values = state.opening_values(method) | state.preset_values(method, preset) | {"mode": DEGRADED}
    level = round(min(255 * damage.noise.value, 100.0), 1) if damage.noise.present else FLOOR
    values |= {(task, "noise_std"): level for task in TASKS if (task, "noise_std") in values}
    if ("denoise", "noise_std") in values:
        values["denoise", "noise_std"] = max(FLOOR, noise_to_denoise(damage))
    if ("super-resolution", "noise_std") in values:
        scale = int(values["super-resolution", "scale"])
        values["super-resolution", "noise_std"] = max(FLOOR, noise_to_enlarge(damage, scale))
    if mine and mine.task:
        values |= {"task": mine.task} | {(mine.task, name): value for name, value in mine.settings.items()}
    if (method, "scale") in values:
        values[method, "scale"] = enlargement(pixels)
    del values["photo"], values["size"], values["prior"]  # which a visitor has chosen
    return values
