"""The page's state as data: the values of its controls <-> runs, stored examples and links. No layout, no
arithmetic.

`Values` maps "photo", "size", "mode", "task", "reference", "seed", "prior", "preset", and a pair (task or
method, knob) for every knob.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from PIL import Image
from torch import Tensor

from restoration.degradations.base import LinearDegradation
from restoration.degradations.blind import make_damage
from restoration.degradations.inpaint import Inpaint
from restoration.degradations.linear import FILES, TASKS
from restoration.files import images
from restoration.files.errors import cut, quoted
from restoration.files.recipe import check_seed, parse_json
from restoration.knobs import KINDS
from restoration.page import sizes
from restoration.page.uploads import checked_photo
from restoration.priors.catalogue import PRIORS
from restoration.record import Run
from restoration.run import synthesise
from restoration.solvers import PRESETS, SOLVERS, resolve
from restoration.solvers.base import Solver

PACKAGED = Path(__file__).parents[1] / "examples"  # where `pip install .` puts them
EXAMPLES = PACKAGED if PACKAGED.is_dir() else Path(__file__).parents[2] / "examples"
CLEAN, DEGRADED = "clean: degrade it first, then restore it", "already degraded"
NO_MASK = (
    "Which parts are missing? Paint over them, or upload a mask that is black there and white elsewhere."
)
Values = Mapping[Any, Any]


@dataclasses.dataclass(frozen=True)
class Job:
    """What `restore` takes: the observation y (1,3,h,w), the run, and the clean picture, where there is one,
    for scores.
    """

    y: Tensor
    run: Run
    reference: Tensor | None
    # of the uploaded picture, at the result's size or larger by what is cropped; for the download alone
    alpha: Image.Image | None = None

    def before(self) -> Tensor:
        """The input at the result's size, (1,3,H,W) in [0,1], 8 bits."""
        return self.run.enlarged(self.y)


def knobs(cls: type) -> list[dataclasses.Field[Any]]:
    """The fields of a solver or degradation that the page shows."""
    return [field for field in dataclasses.fields(cls) if field.metadata]


def checked(method: str, values: Values) -> Values:
    """The values of a tab's controls, each choice one that there is: a browser may send others than its page
    offers.

    ValueError names one that is not, a seed that is none, or a file too large. Knobs are checked when what
    they are of is built, and files by `uploads.received`, which alone makes paths of what a browser sends.
    """
    choices = {
        "size": sizes.SIZES,
        "mode": (CLEAN, DEGRADED),
        "task": SOLVERS[method].damages(),
        "preset": PRESETS[method],
        "prior": PRIORS,
    }
    for name, offered in choices.items():
        if not isinstance(values[name], str) or values[name] not in offered:
            wrong, right = quoted(values[name]), ", ".join(offered)
            raise ValueError(f"There is no {name} {wrong} here; there are {right}.")
    whole_seed(values["seed"])
    for name in ("photo", "reference"):
        checked_photo(values[name])
    return values


def build_from(cls: type, key: str, values: Values) -> Any:
    """The solver or degradation that the controls describe; ValueError names a knob out of bounds."""
    return cls(**{f.name: "" if values[key, f.name] is None else values[key, f.name] for f in knobs(cls)})


def opening_values(method: str) -> dict[Any, Any]:
    """The values of a tab before anything is chosen."""
    values: dict[Any, Any] = {
        "photo": None,
        "size": sizes.usual_size(),
        "mode": CLEAN,
        "task": SOLVERS[method].damages()[0],
        "reference": None,
        "seed": 0,
        "prior": "embedded",
    }
    values |= {
        (t, f.name): None if f.name in FILES else f.default
        for t in SOLVERS[method].damages()
        if t in TASKS
        for f in knobs(TASKS[t])
    }
    return values | preset_values(method, next(iter(PRESETS[method])))


def preset_values(method: str, preset: str) -> dict[Any, Any]:
    """The preset's name and the method's knobs under it."""
    solver = SOLVERS[method](**PRESETS[method][preset])
    return {"preset": preset} | {(method, f.name): getattr(solver, f.name) for f in knobs(SOLVERS[method])}


def asked_for(method: str, values: Values) -> tuple[Solver, LinearDegradation | None, int]:
    """(solver, what it is told, how many times as large a side the result is as the uploaded picture).

    ValueError names a knob out of bounds.
    """
    solver: Solver = build_from(SOLVERS[method], method, values)
    if sentence := solver.lacks(values["prior"]):
        raise ValueError(sentence)
    degradation = None if solver.blind else build_from(TASKS[values["task"]], values["task"], values)
    if isinstance(degradation, Inpaint) and values["mode"] == DEGRADED and not degradation.mask:
        raise ValueError(NO_MASK)
    return solver, degradation, 1 if values["mode"] == CLEAN else solver.factor(degradation)


def job(method: str, values: Values) -> Job:
    """The run that the values describe, its picture read and, where it is clean, degraded.

    ValueError for bad input.
    """
    solver, degradation, enlarged = asked_for(method, values)
    seed = whole_seed(values["seed"])
    y, alpha, _ = images.read_photo(values["photo"], enlarged, most := sizes.SIZES[values["size"]])
    reference = None
    if synthetic := values["mode"] == CLEAN:
        factor = solver.factor(degradation)
        y, reference = synthesise(y, degradation or make_damage(values["task"], {}, factor), factor, seed)
    elif values["reference"]:
        reference = images.read_photo(values["reference"], 1, most * enlarged**2).x
    alpha = images.enlarged_alpha(alpha, enlarged)
    return Job(y, Run(solver, degradation, values["prior"], seed, synthetic), reference, alpha)


def whole_seed(value: Any) -> int:
    """The seed that a number box holds: whole, though perhaps as a float, or 0 where it is empty.

    ValueError for anything else.
    """
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return check_seed(0 if value is None else value)


def parse_settings(text: str) -> dict[str, Any]:
    """The settings of a JSON object; ValueError for anything else, and for paths of files."""
    try:
        settings = parse_json(text or "{}")
    except ValueError as error:
        raise ValueError(f"The settings are not JSON: {error}.") from None
    if not isinstance(settings, dict) or FILES & settings.keys():
        raise ValueError('The settings must be a JSON object such as {"noise_std": 25}, without files.')
    return settings


def settings_values(method: str, task: str, text: str) -> dict[tuple[str, str], Any]:
    """The values that a JSON object of settings names.

    ValueError names a setting that is none of the method's or the task's.
    """
    known = {name: (key, name) for key, name in reversed(_own(opening_values(method), method, task))}
    settings = parse_settings(text)
    if unknown := settings.keys() - known.keys():
        raise ValueError(
            f"No setting {cut(', '.join(sorted(unknown)))} here; there are {', '.join(sorted(known))}."
        )
    return {known[name]: value for name, value in settings.items()}


def stored_examples(method: str) -> list[dict[str, Any]]:
    """The rows of examples.json for one method; `python examples/make.py` writes them."""
    return [row for row in json.loads((EXAMPLES / "examples.json").read_text()) if row["solver"] == method]


def example_values(row: Mapping[str, Any]) -> dict[Any, Any]:
    """The values that repeat a stored example."""
    method, task = row["solver"], row["task"]
    values = opening_values(method) | preset_values(method, row["preset"])
    values |= {"photo": str(EXAMPLES / row["image"]), "task": task, "seed": row["seed"]}
    values |= {"mode": DEGRADED} if row.get("damaged") else {}
    values |= {(method, name): value for name, value in row.get("settings", {}).items()}
    return values | {(task, name): value for name, value in row["degradation"].items()}


def known_prior(name: str) -> str:
    """The name itself.

    ValueError where it is none of PRIORS: visitors choose from the list, and no folder of the server.
    """
    if name not in PRIORS:
        raise ValueError(f"There is no prior {quoted(name)} here; there are {', '.join(PRIORS)}.")
    return name


def to_query(method: str, values: Values) -> str:
    """The query string of a link to these values: what differs from the preset and the defaults.

    "" where the picture is no example.
    """
    example = example_name(values["photo"])
    if not example or values["mode"] != CLEAN:
        return ""
    task, usual = values["task"], opening_values(method) | preset_values(method, values["preset"])
    query = {
        "method": method,
        "image": example,
        "task": task,
        "preset": values["preset"],
        "seed": whole_seed(values["seed"]),
    }
    query |= {"prior": values["prior"]} if values["prior"] != usual["prior"] else {}
    changed = {
        name: values[key, name]
        for key, name in _own(usual, method, task)
        if values[key, name] != usual[key, name]
    }
    if FILES & {name for name, value in changed.items() if value}:
        return ""
    return "?" + urlencode(query | changed)


def from_query(query: Mapping[str, str]) -> tuple[str, dict[Any, Any]]:
    """(method, values) of a link's query. ValueError names what is not known here or out of bounds."""
    method, example = query.get("method", ""), query.get("image", "")
    if method not in SOLVERS or not is_example(example):
        raise ValueError(
            f"The link names the method {quoted(method)} and the picture {quoted(example)}, which are not "
            "both known here."
        )
    method, preset = resolve(method, query.get("preset", next(iter(PRESETS[method]))))
    task = query.get("task", SOLVERS[method].damages()[0])
    if task not in SOLVERS[method].damages() or preset not in PRESETS[method]:
        raise ValueError(
            f"The link names the task {quoted(task)} and the preset {quoted(preset)}, which are not both "
            f"known to {method}."
        )
    values = opening_values(method) | preset_values(method, preset)
    values |= {"photo": str(EXAMPLES / example), "task": task}
    values["prior"] = known_prior(query.get("prior", values["prior"]))
    try:
        values["seed"] = check_seed(_of_text(int, "seed", query.get("seed", "0")))
        for key, name in _own(values, method, task):
            if name in query and name not in FILES:
                values[key, name] = _of_text(type(values[key, name]), name, query[name])
    except ValueError as error:
        raise ValueError(f"The link carries a value that cannot be used: {str(error).rstrip('.')}.") from None
    asked_for(method, values)
    return method, values


def _of_text(kind: type, name: str, text: str) -> Any:
    """A link's text as a value of this kind. ValueError names what it should be."""
    try:
        return kind(text)
    except ValueError:
        raise ValueError(f"{name} is {quoted(text)}; it must be {KINDS[kind][1]}") from None


def _own(values: Values, method: str, task: str) -> list[tuple[str, str]]:
    """The knobs of the method and of the chosen task."""
    return [key for key in values if isinstance(key, tuple) and key[0] in {method, task}]


def is_example(name: str) -> bool:
    """Whether it is the name of a picture among EXAMPLES."""
    return name in {path.name for path in EXAMPLES.glob("*.png")}


def example_name(photo: str | None) -> str:
    """The name of the example that the file holds, whatever the page calls its copy; "" where it is none."""
    path = Path(photo) if photo else None
    if path is None or not is_example(path.name):
        return ""
    same = (
        hashlib.sha256(path.read_bytes()).digest()
        == hashlib.sha256((EXAMPLES / path.name).read_bytes()).digest()
    )
    return path.name if same else ""
