"""The history, which a browser keeps: a finished run as JSON on its way there, and on its way back, where nothing of it is trusted."""

from __future__ import annotations

import base64
import html
from pathlib import Path
from typing import Any

import gradio as gr
import pandas as pd
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from restoration.degradations.linear import FILES
from restoration.files import images
from restoration.page import state
from restoration.page.display import as_file, data_uri
from restoration.page.state import Values
from restoration.page.uploads import new_file

RUN_BYTES = 1_000_000  # of one run; a browser gives a site about 5 MB, and forgets the oldest where that is not enough
GONE = " · your picture itself was too large for the history: choose it again before you press Restore"


class Chosen(BaseModel):
    """What was chosen for a run, beside its knobs."""

    model_config = ConfigDict(strict=True, extra="forbid")

    mode: str
    task: str
    seed: int | None
    prior: str
    preset: str


class Entry(BaseModel):
    """A finished run in a browser's history. It holds pictures, numbers and text, and no name of a file of the server."""

    model_config = ConfigDict(strict=True, extra="forbid")

    method: str
    link: str
    title: str
    values: dict[str, int | float | str]  # by task or method, a dot and the knob
    chosen: Chosen
    status: str
    scores: dict[str, list[str]]  # the columns of the table
    pictures: list[str] = Field(max_length=2)  # before and after as data: URIs; none where they are large
    photo: list[str] | None = Field(min_length=2, max_length=2)  # its name and, in base64, its content


def entry(method: str, values: Values, shown: tuple[Any, ...]) -> str:
    """A finished run as JSON for the browser's history and for its settings link; "" before the run's end.

    Without pictures, which the browser then does not keep, where they are large: its space is 5 MB for everything.
    """
    pair, status, scores, _, _, file = shown
    if not file:
        return ""
    pictures = [data_uri(Path(side).read_bytes()) for side in pair]
    space, photo = RUN_BYTES - sum(map(len, pictures)), Path(values["photo"])
    fits = photo.stat().st_size * 4 / 3 < space
    knobs = {
        f"{key[0]}.{key[1]}": value
        for key, value in values.items()
        if isinstance(key, tuple) and key[1] not in FILES
    }
    return Entry(
        method=method,
        link=state.to_query(method, values),
        title=f"{values['task']}, seed {values['seed']}",
        values={name: value for name, value in knobs.items() if value is not None},
        chosen=Chosen(
            mode=values["mode"],
            task=values["task"],
            seed=values["seed"],
            prior=values["prior"],
            preset=values["preset"],
        ),
        status=status,
        scores=scores.to_dict("list"),
        pictures=pictures if space > 0 else [],
        photo=[photo.name, base64.b64encode(photo.read_bytes()).decode()] if fits else None,
    ).model_dump_json()


def recall(method: str, text: str) -> tuple[dict[Any, Any], tuple[Any, ...]]:
    """(values, outputs) of a run of the history, the picture that went in among them. gr.Error for anything else."""
    try:
        past = Entry.model_validate_json(text)
        if past.method != method:
            raise ValueError
        before, after = (as_file(from_uri(picture)) for picture in past.pictures)
        values = _values(past)
        status = html.escape(html.unescape(past.status)) + ("" if past.photo else GONE)
        scores = pd.DataFrame(past.scores)
    except (ValueError, TypeError, OSError):
        raise gr.Error("This entry of the history cannot be read.", print_exception=False) from None
    return values, ((before, after), status, scores, None, None, None)


def _values(past: Entry) -> dict[Any, Any]:
    """The values of a run's controls, those of files empty. ValueError for a knob, a choice or a number that there is not here."""
    values = state.opening_values(past.method) | past.chosen.model_dump()
    for name, value in past.values.items():
        key = tuple(name.split(".", 1))
        if key not in values or key[-1] in FILES:
            raise ValueError(f"There is no {name} here.")
        values[key] = value
    state.asked_for(past.method, state.checked(past.method, values))
    return values | {"photo": _photo(*past.photo) if past.photo else None}


def _photo(name: str, content: str) -> str:
    """The uploaded picture as a file again. ValueError where it is no picture."""
    images.describe(decoded := base64.b64decode(content))
    suffix = Path(name).suffix.lower()
    file = new_file(name if suffix in images.SUFFIXES else "picture.png")
    Path(file).write_bytes(decoded)
    return file


def from_uri(uri: str) -> Tensor:
    """The picture of `data_uri`, (1,3,H,W) in [0,1]. ValueError for what is none: it comes from a browser."""
    return images.read_image(base64.b64decode(uri.partition(",")[2]))
