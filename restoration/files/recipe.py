"""A run as data: what must be equal for the pixels to be equal, carried by every PNG that the project writes.

Neither dates nor durations are in it, so that the same run writes the same bytes.
"""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import importlib.metadata
import io
import json
import mmap
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from PIL import Image, PngImagePlugin
from torch import Tensor

from restoration.degradations.linear import FILES, TASKS, LinearDegradation
from restoration.files import images
from restoration.files.containers import png_text
from restoration.files.whole import UNFINISHED, check_target, whole_file
from restoration.priors.checkpoints import digest
from restoration.priors.latent import LatentPrior
from restoration.solvers import SOLVERS, resolve_settings
from restoration.solvers.base import Solver
from restoration.solvers.latent_indigo import LatentINDIGO

__all__ = ["UNFINISHED", "check_target", "whole_file"]

KEY = "restoration"  # the PNG text chunk with the recipe as JSON
SCORES = "restoration-scores"  # the PNG text chunk with the scores of the picture
INPUT = "restoration-input"  # the PNG text chunk with the picture that was restored, as base64 of a PNG
END = b"\0\0\0\0IEND\xaeB`\x82"  # the last chunk of every PNG
BLIND = "blind"  # the task of a run that was told none
KINDS = {"solver": str, "settings": dict, "task": str, "degradation": dict, "periodic": bool, "prior": str, "seed": int}  # what each recipe says
SEEDS = 2**63  # as many as torch's generators take
DEPTH = 4  # a recipe holds objects of plain values; deeper nesting would only exhaust what walks it


def of(y: Tensor, solver: Solver, prior: LatentPrior, degradation: LinearDegradation | None, seed: int, periodic: bool) -> dict[str, Any]:
    """The recipe of one run: JSON-ready; the input as the hash of its 8-bit pixels, a prior of the Hub with the commit it was read at."""
    where: dict[str, Any] = {"prior_commit": prior.commit} if prior.commit else {}
    where |= {"input_sha256": fingerprint(y), "machine": machine(prior.device.type)}
    return where | settings(solver, prior.name, prior.weights, degradation, seed, periodic)


def machine(device: str) -> dict[str, Any]:
    """What of a machine the rounding of sums depends on: the kind of device, and on a CPU the number of threads."""
    return {"device": device} | ({"threads": torch.get_num_threads()} if device == "cpu" else {})


def fingerprint(x: Tensor) -> str:
    """SHA-256 of the 8-bit pixels of x (1,3,H,W) in [0,1]."""
    return hashlib.sha256(images.to_pil(x).tobytes()).hexdigest()


def settings(solver: Solver, prior: str, prior_weights: str, degradation: LinearDegradation | None, seed: int, periodic: bool) -> dict[str, Any]:
    """What the recipes of all pictures of one run have in common; prior, prior_weights: its name and the digest of its files."""
    return {
        "solver": _name(SOLVERS, solver),
        "settings": dataclasses.asdict(solver),  # type: ignore[call-overload]
        "task": _name(TASKS, degradation) if degradation else BLIND,
        "degradation": _without_paths(dataclasses.asdict(degradation)) if degradation else {},
        "periodic": periodic,
        "prior": prior,
        "weights": weights(solver, prior, prior_weights),
        "seed": seed,
        "versions": versions(),
    }


def weights(solver: Solver, prior: str, prior_weights: str) -> dict[str, str]:
    """The digest of the files of every network that a run loads: "prior", and by folder those that LatentINDIGO has beside it."""
    found = {"prior": prior_weights}
    if isinstance(solver, LatentINDIGO):
        from restoration.solvers.inn import INNS, folder_name  # loads diffusers

        names = [folder_name(solver.domain, solver.scale, prior), folder_name("first", solver.scale, "")]
        found |= {name: digest(sorted((INNS / name).glob("*.safetensors"))) for name in names}
    return found


def other_weights(said: Mapping[str, Any], now: Mapping[str, str]) -> str:
    """One sentence where a recipe was written with other weights than those of now, else ""; older recipes do not say theirs."""
    then = said.get("weights")
    other = [name for name in now if isinstance(then, dict) and then.get(name, now[name]) != now[name]]
    return f"The weights of {', '.join(other)} are not those that the recipe was written with: the result will differ." if other else ""


def versions() -> dict[str, str]:
    """Of the packages that decide the pixels."""
    return {package: importlib.metadata.version(package) for package in ("torch", "diffusers", "deepinv")}


def _name(registry: Mapping[str, Any], instance: Any) -> str:
    return next(name for name, cls in registry.items() if cls is type(instance))


def _without_paths(values: dict[str, Any]) -> dict[str, Any]:
    """File knobs as hashes: a path means nothing elsewhere, and says more about a machine than a PNG should."""
    return values | {name: _digest(values[name]) for name in FILES & values.keys() if values[name]}


def _digest(path: str) -> str:
    with open(path, "rb") as file:
        return "sha256:" + hashlib.file_digest(file, "sha256").hexdigest()


def other_files(said: Mapping[str, Any], degradation: LinearDegradation) -> list[str]:
    """One sentence for each kernel or mask that is not the one that a recipe was written with."""
    then = said.get("degradation", {})
    given = {name: getattr(degradation, name, "") for name in sorted(FILES & then.keys())}
    return [
        f"{images.plain_name(path)} is not the {name} that the recipe was written with: the result will be another."
        for name, path in given.items()
        if path and _digest(path) != then[name]
    ]


def parts(recipe: Mapping[str, Any], **files: str) -> tuple[Solver, LinearDegradation | None]:
    """(solver, degradation) that a recipe describes, the inverse of `settings`; files: paths of the file knobs, which it holds as hashes.

    ValueError when this version has no such thing, or a file is not given.
    """
    try:
        name, values = resolve_settings(recipe["solver"], recipe["settings"])
        solver = SOLVERS[name](**values)
        values = recipe["degradation"] | files
        for name in FILES & values.keys() - files.keys():
            if values[name]:  # also no path that somebody wrote into a recipe is ever opened
                raise ValueError(f"The recipe needs its {name} again: on the command line, --set {name}=FILE, the one whose hash is {values[name]}.")
        return solver, None if recipe["task"] == BLIND else TASKS[recipe["task"]](**values)
    except (KeyError, TypeError) as error:
        raise ValueError(f"The recipe is not of this version of the project: {error}.") from None


def save_png(
    x: Tensor,
    path: str | Path,
    recipe: Mapping[str, Any],
    scores: Mapping[str, float] | None = None,
    y: Tensor | None = None,
    alpha: Image.Image | None = None,
) -> None:
    """Write x (1,3,H,W) in [0,1] as PNG, complete or not at all, with the recipe and the scores as JSON in text chunks.

    With the input y (1,3,h,w) too, the file alone repeats the run. With alpha the PNG is transparent, and x over white.
    """
    text = PngImagePlugin.PngInfo()
    text.add_text(KEY, json.dumps(recipe, sort_keys=True))
    if scores is not None:
        text.add_text(SCORES, json.dumps(scores))
    if y is not None:
        buffer = io.BytesIO()
        images.to_pil(y).save(buffer, format="PNG")
        text.add_text(INPUT, base64.b64encode(buffer.getvalue()).decode())
    picture = images.see_through(images.to_pil(x), alpha) if alpha else images.to_pil(x)
    with whole_file(path) as file:
        picture.save(file, format="PNG", pnginfo=text)


def _chunk(path: str | Path, key: str) -> str | None:
    """The text under a key in a PNG; None where it has none. Nothing of the picture is decoded. ValueError where it is no PNG."""
    name = images.plain_name(path)
    try:
        with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:  # results are large, texts are not
            return png_text(data, key)
    except OSError as error:
        raise ValueError(f"{name} cannot be opened: {error.strerror or error}.") from None
    except ValueError as error:
        raise ValueError(f"{name} carries no recipe: {error}.") from None


def _parsed(text: str, path: str | Path) -> dict[str, Any]:
    """The JSON object in text. ValueError names the file when it is anything else."""
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{images.plain_name(path)} holds no recipe: {error}.") from None
    if not isinstance(found, dict) or not _shallow(found, DEPTH):
        raise ValueError(f"{images.plain_name(path)} holds no recipe.")
    return found


def _shallow(value: Any, levels: int) -> bool:
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return levels > 0 and all(_shallow(part, levels - 1) for part in inner)


def read_png(path: str | Path, key: str = KEY) -> dict[str, Any]:
    """The recipe (or, with key=SCORES, the scores) in a PNG that `save_png` wrote. ValueError when it carries none."""
    text = _chunk(path, key)
    if text is None:
        raise ValueError(f"{images.plain_name(path)} carries no recipe; only PNGs written by this project do.")
    return _parsed(text, path)


def is_whole(path: str | Path) -> bool:
    """Whether the PNG has its last chunk: a copy or a file system may have cut it off."""
    with open(path, "rb") as file:
        file.seek(-len(END), os.SEEK_END)
        return file.read() == END


def read_input(path: str | Path) -> Tensor:
    """The picture (1,3,h,w) in [0,1] whose restoration `save_png` wrote. ValueError when the PNG does not carry it."""
    name, text = images.plain_name(path), _chunk(path, INPUT)
    if text is None:
        raise ValueError(f"{name} does not carry the picture that was restored; give that too.")
    try:
        return images.read_image(base64.b64decode(text, validate=True))
    except ValueError as error:
        raise ValueError(f"The picture that {name} carries cannot be read: {error}") from None


def read_result_alpha(path: str | Path) -> Image.Image | None:
    """The transparency of the result in a PNG that `save_png` wrote, for its repetition; None where nothing shows through."""
    return images.read_photo(path).alpha


def other_input(said: Mapping[str, Any], y: Tensor) -> str:
    """One sentence where y is not the picture that a recipe was written for, else ""; recipes written by hand do not say theirs."""
    then = said.get("input_sha256")
    if then is None or then == fingerprint(y):
        return ""
    return "The picture is not the one that the recipe was written for: the result will be another."


def other_machine(said: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """One sentence where a recipe was written on another kind of device or with other threads, on which the pixels depend, else ""."""
    then = said.get("machine")
    if not isinstance(then, dict) or all(then.get(key, value) == value for key, value in now.items()):
        return ""
    was, this = (", ".join(f"{key} {machine.get(key)}" for key in now) for machine in (then, now))
    return f"The recipe was written on another machine ({was}; here {this}): pixels can differ."


def read(path: str | Path) -> dict[str, Any]:
    """The recipe in a PNG of ours or in a JSON file, its KINDS checked. ValueError, one sentence, when there is none."""
    try:
        recipe = _parsed(Path(path).read_text(), path) if Path(path).suffix == ".json" else read_png(path)
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"{images.plain_name(path)} holds no recipe: {error}.") from None
    if not recipe.keys() >= KINDS.keys():
        raise ValueError(f"{images.plain_name(path)} holds no recipe.")
    check_seed(recipe["seed"])
    for key, kind in KINDS.items():
        if type(recipe[key]) is not kind:
            raise ValueError(f"{images.plain_name(path)} holds no recipe: its {key} is {recipe[key]!r}.")
    return recipe


def check_seed(value: Any) -> int:
    """The value itself, an int from 0 to SEEDS-1; ValueError for anything else."""
    if type(value) is not int or not 0 <= value < SEEDS:
        raise ValueError(f"The seed is {value!r}; it must be a whole number from 0 to {SEEDS - 1}.")
    return value
