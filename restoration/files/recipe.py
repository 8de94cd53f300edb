"""Recipes on disk: a run as JSON (record.Run.to_recipe), carried by every PNG that the project writes, and
read again.

Neither dates nor durations are in one, so that the same run writes the same bytes.
"""

from __future__ import annotations

import base64
import hashlib
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

from restoration.files import images
from restoration.files.containers.png import png_text
from restoration.files.errors import quoted
from restoration.files.whole import UNFINISHED, check_target, whole_file

__all__ = ["UNFINISHED", "check_target", "whole_file"]

KEY = "restoration"  # the PNG text chunk with the recipe as JSON
SCORES = "restoration-scores"  # the PNG text chunk with the scores of the picture
INPUT = "restoration-input"  # the PNG text chunk with the picture that was restored, as base64 of a PNG
END = b"\0\0\0\0IEND\xaeB`\x82"  # the last chunk of every PNG
KINDS = {
    "solver": str,
    "settings": dict,
    "task": str,
    "degradation": dict,
    "periodic": bool,
    "prior": str,
    "seed": int,
}  # of what each recipe holds
SEEDS = 2**63  # as many as torch's generators take
DEPTH = 4  # a recipe holds objects of plain values; deeper nesting would only exhaust what walks it


def machine(device: str) -> dict[str, Any]:
    """What of a machine the rounding of sums depends on: the kind of device, and on a CPU the number of
    threads."""
    return {"device": device} | ({"threads": torch.get_num_threads()} if device == "cpu" else {})


def fingerprint(x: Tensor) -> str:
    """SHA-256 of the 8-bit pixels of x (1,3,H,W) in [0,1]."""
    return hashlib.sha256(images.to_pil(x).tobytes()).hexdigest()


def other_weights(source: Mapping[str, Any], now: Mapping[str, str]) -> str:
    """One sentence where a recipe was written with other weights than those of now, else "".

    Older recipes do not say theirs.
    """
    then = source.get("weights")
    then = then if isinstance(then, dict) else {}
    other = [name for name in now if then.get(name, now[name]) != now[name]]
    if then.keys() - now.keys():  # another network is used in place of one of then
        other += [name for name in now if name not in then]
    return (
        f"The weights of {', '.join(other)} are not those that the recipe was written with: "
        "the result will differ."
        if other
        else ""
    )


def save_png(
    x: Tensor,
    path: str | Path,
    recipe: Mapping[str, Any],
    scores: Mapping[str, float] | None = None,
    y: Tensor | None = None,
    alpha: Image.Image | None = None,
) -> None:
    """Write x (1,3,H,W) in [0,1] as PNG, complete or not at all, with the recipe and the scores as JSON in
    text chunks.

    With the input y (1,3,h,w) too, the file alone repeats the run. With alpha the PNG is transparent, and x
    over white.
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
    """The text under a key in a PNG; None where it has none.

    Nothing of the picture is decoded. ValueError where it is no PNG.
    """
    name = images.plain_name(path)
    try:
        with (
            open(path, "rb") as file,
            mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data,
        ):  # results are large, texts are not
            return png_text(data, key)
    except OSError as error:
        raise ValueError(f"{name} cannot be opened: {error.strerror or error}.") from None
    except ValueError as error:
        raise ValueError(f"{name} carries no recipe: {error}.") from None


def parse_json(text: str) -> Any:
    """What JSON says. ValueError, some words, where it is none, nests without end, or a number does."""
    try:
        return json.loads(text)
    except (json.JSONDecodeError, RecursionError) as error:
        raise ValueError(str(error)) from None
    except ValueError:  # Python reads no number of so many digits
        raise ValueError("a number has thousands of digits") from None


def _parsed(text: str, path: str | Path) -> dict[str, Any]:
    """The JSON object in text. ValueError names the file when it is anything else."""
    try:
        content = parse_json(text)
    except ValueError as error:
        raise ValueError(f"{images.plain_name(path)} holds no recipe: {error}.") from None
    if not isinstance(content, dict) or not _shallow(content, DEPTH):
        raise ValueError(f"{images.plain_name(path)} holds no recipe.")
    return content


def _shallow(value: Any, levels: int) -> bool:
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return levels > 0 and all(_shallow(part, levels - 1) for part in inner)


def read_png(path: str | Path, key: str = KEY) -> dict[str, Any]:
    """The recipe (or, with key=SCORES, the scores) in a PNG that `save_png` wrote.

    ValueError when it carries none.
    """
    text = _chunk(path, key)
    if text is None:
        raise ValueError(
            f"{images.plain_name(path)} carries no recipe; only PNGs written by this project do."
        )
    return _parsed(text, path)


def is_whole(path: str | Path) -> bool:
    """Whether the PNG has its last chunk: a copy or a file system may have cut it off."""
    with open(path, "rb") as file:
        file.seek(-len(END), os.SEEK_END)
        return file.read() == END


def read_input(path: str | Path) -> Tensor:
    """The picture (1,3,h,w) in [0,1] whose restoration `save_png` wrote.

    ValueError when the PNG does not carry it.
    """
    name, text = images.plain_name(path), _chunk(path, INPUT)
    if text is None:
        raise ValueError(f"{name} does not carry the picture that was restored; give that too.")
    try:
        return images.read_image(base64.b64decode(text, validate=True))
    except ValueError as error:
        raise ValueError(f"The picture that {name} carries cannot be read: {error}") from None


def read_result_alpha(path: str | Path) -> Image.Image | None:
    """The transparency of the result in a PNG that `save_png` wrote, for its repetition.

    None where nothing shows through.
    """
    return images.read_photo(path).alpha


def other_input(source: Mapping[str, Any], y: Tensor) -> str:
    """One sentence where y is not the picture that a recipe was written for, else "".

    Recipes written by hand do not say theirs.
    """
    then = source.get("input_sha256")
    if then is None or then == fingerprint(y):
        return ""
    return "The picture is not the one that the recipe was written for: the result will be another."


def other_machine(source: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """One sentence where a recipe was written on another kind of device or with other threads, on which the
    pixels depend, else ""."""
    then = source.get("machine")
    if not isinstance(then, dict) or all(then.get(key, value) == value for key, value in now.items()):
        return ""
    was, this = (", ".join(f"{key} {machine.get(key)}" for key in now) for machine in (then, now))
    return f"The recipe was written on another machine ({was}; here {this}): pixels can differ."


def read(path: str | Path) -> dict[str, Any]:
    """The recipe in a PNG of ours or in a JSON file, its KINDS checked.

    ValueError, one sentence, when there is none.
    """
    try:
        recipe = _parsed(Path(path).read_text(), path) if Path(path).suffix == ".json" else read_png(path)
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"{images.plain_name(path)} holds no recipe: {error}.") from None
    if not recipe.keys() >= KINDS.keys():
        raise ValueError(f"{images.plain_name(path)} holds no recipe.")
    check_seed(recipe["seed"])
    for key, kind in KINDS.items():
        if type(recipe[key]) is not kind:
            raise ValueError(
                f"{images.plain_name(path)} holds no recipe: its {key} is {quoted(recipe[key])}."
            )
    return recipe


def check_seed(value: Any) -> int:
    """The value itself, an int from 0 to SEEDS-1; ValueError for anything else."""
    if type(value) is not int or not 0 <= value < SEEDS:
        raise ValueError(f"The seed is {quoted(value)}; it must be a whole number from 0 to {SEEDS - 1}.")
    return value
