"""A run as data: what must be equal for the pixels to be equal, carried by every PNG that the project writes."""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import importlib.metadata
import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from PIL import Image, PngImagePlugin
from torch import Tensor

from restoration import images
from restoration.degradations import FILES, TASKS, LinearDegradation
from restoration.prior import LatentPrior
from restoration.solvers import SOLVERS
from restoration.solvers.base import Solver

KEY, INPUT_KEY = "restoration", "restoration-input"  # PNG text chunks: the recipe as JSON, the input as base64 of a PNG
UNLIKELY = "something else wrote it, or another version of this project"


class Run(NamedTuple):
    """What `restore` takes beside the picture and the prior, and that prior's name."""

    solver: Solver
    degradation: LinearDegradation | None
    prior: str
    seed: int
    periodic: bool


def of(y: Tensor, solver: Solver, prior: LatentPrior, degradation: LinearDegradation | None, seed: int, periodic: bool) -> dict[str, Any]:
    """The recipe of one run, JSON-ready: pictures and files as hashes of their contents."""
    return {
        "input_sha256": pixels_hash(y),
        "solver": _name(SOLVERS, solver),
        "settings": dataclasses.asdict(solver),  # type: ignore[call-overload]
        "task": _name(TASKS, degradation) if degradation else "",
        "degradation": _without_paths(dataclasses.asdict(degradation)) if degradation else {},
        "periodic": periodic,
        "prior": prior.name,
        "seed": seed,
        "versions": {package: importlib.metadata.version(package) for package in ("torch", "diffusers", "deepinv")},
    }


def run_of(recipe: Mapping[str, Any], **changes: Any) -> Run:
    """The run that a recipe describes, with some settings changed; ValueError when it is no recipe or a file of it is not given."""
    try:
        solver = SOLVERS[recipe["solver"]](**recipe["settings"])
        values = recipe["degradation"] | changes
        for name in FILES & values.keys() - changes.keys():
            if values[name]:  # also no path that somebody wrote into a recipe is ever opened
                raise ValueError(f"The recipe needs its {name} again: give the file, whose hash is {values[name]}.")
        degradation = TASKS[recipe["task"]](**values) if recipe["task"] else None
        return Run(solver, degradation, recipe["prior"], int(recipe["seed"]), bool(recipe["periodic"]))
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"The recipe cannot be understood ({error}): {UNLIKELY}.") from None


def pixels_hash(y: Tensor) -> str:
    """SHA-256 of the 8-bit pixels of (1,3,H,W) in [0,1]."""
    return hashlib.sha256(images.to_pil(y).tobytes()).hexdigest()


def _name(registry: Mapping[str, Any], instance: Any) -> str:
    return next(name for name, cls in registry.items() if cls is type(instance))


def _without_paths(values: dict[str, Any]) -> dict[str, Any]:
    """File knobs as hashes: a path means nothing elsewhere, and says more about a machine than a PNG should."""
    hashed = {name: "sha256:" + hashlib.sha256(Path(values[name]).read_bytes()).hexdigest() for name in FILES & values.keys() if values[name]}
    return values | hashed


def save_png(x: Tensor, path: str | Path, recipe: Mapping[str, Any], y: Tensor | None = None) -> None:
    """Write x (1,3,H,W) in [0,1] as PNG with the recipe in its text; with the input y too, the file alone repeats the run."""
    text = PngImagePlugin.PngInfo()
    text.add_text(KEY, json.dumps(recipe, sort_keys=True))
    if y is not None:
        buffer = io.BytesIO()
        images.to_pil(y).save(buffer, format="PNG")
        text.add_text(INPUT_KEY, base64.b64encode(buffer.getvalue()).decode())
    images.to_pil(x).save(path, format="PNG", pnginfo=text)


def read_png(path: str | Path) -> dict[str, Any]:
    """The recipe in a PNG that `save_png` wrote. ValueError when it carries none."""
    try:
        with Image.open(path) as image:
            images.check_size(*image.size)
            text = getattr(image, "text", {}).get(KEY)
        if text is not None and isinstance(recipe := json.loads(text), dict):
            return recipe
    except (OSError, SyntaxError, json.JSONDecodeError):
        pass
    raise ValueError(f"{Path(path).name} carries no recipe; only PNGs written by this project do.")


def read_input(path: str | Path) -> Tensor | None:
    """The input picture (1,3,h,w) in [0,1] of a PNG that `save_png` wrote; None where it carries none."""
    with Image.open(path) as image:
        text = getattr(image, "text", {}).get(INPUT_KEY)
    if not text:
        return None
    with Image.open(io.BytesIO(base64.b64decode(text))) as picture:
        return images.read_image(picture)
