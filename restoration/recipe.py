"""A run as data: what must be equal for the pixels to be equal, carried by every PNG that the project writes."""

from __future__ import annotations

import dataclasses
import hashlib
import importlib.metadata
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from PIL import Image, PngImagePlugin
from torch import Tensor

from restoration import images
from restoration.degradations import TASKS, LinearDegradation
from restoration.prior import LatentPrior
from restoration.solvers.base import Solver

KEY = "restoration"  # the PNG text chunk


def of(y: Tensor, solver: Solver, prior: LatentPrior, degradation: LinearDegradation | None, seed: int, periodic: bool) -> dict[str, Any]:
    """The recipe of one run: JSON-ready; the input as the hash of its 8-bit pixels."""
    names = {cls: name for name, cls in TASKS.items()}
    return {
        "input_sha256": hashlib.sha256(images.to_pil(y).tobytes()).hexdigest(),
        "solver": solver.title,
        "settings": dataclasses.asdict(solver),  # type: ignore[call-overload]
        "task": names[type(degradation)] if degradation else "blind",
        "degradation": dataclasses.asdict(degradation) if degradation else {},
        "periodic": periodic,
        "prior": prior.name,
        "seed": seed,
        "versions": {package: importlib.metadata.version(package) for package in ("torch", "diffusers", "deepinv")},
    }


def save_png(x: Tensor, path: str | Path, recipe: Mapping[str, Any]) -> None:
    """Write x (1,3,H,W) in [0,1] as PNG with the recipe as JSON in the text chunk KEY."""
    text = PngImagePlugin.PngInfo()
    text.add_text(KEY, json.dumps(recipe, sort_keys=True))
    images.to_pil(x).save(path, format="PNG", pnginfo=text)


def read_png(path: str | Path) -> dict[str, Any]:
    """The recipe in a PNG that `save_png` wrote. ValueError when it carries none."""
    with Image.open(path) as image:
        text = getattr(image, "text", {}).get(KEY)
    if text is None:
        raise ValueError(f"{Path(path).name} carries no recipe; only PNGs written by this project do.")
    return json.loads(text)
