"""A finished run as JSON, without a name of a file of the server: for the browser's history, and for a share.

What comes back from a browser is not trusted in anything.
"""

from __future__ import annotations

import base64
import html
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import gradio as gr
import pandas as pd
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from restoration.degradations.jpeg_traces import as_text, quality_of_file
from restoration.degradations.linear import FILES
from restoration.files import images
from restoration.page import shares, sizes, state, words
from restoration.page.display import as_file, data_uri, small_uri
from restoration.page.state import Values
from restoration.page.uploads import new_file

# of one run; a browser gives a site about 5 MB, and forgets the oldest where that is not enough
RUN_BYTES = 1_000_000
SIDE = 800  # pixels of a picture that is too large to be kept as it is
SMALLER = " · the history keeps it smaller than it was"
GONE = " · your picture itself was too large for the history: choose it again to go on with it"


class Chosen(BaseModel):
    """What was chosen for a run, beside its knobs."""

    model_config = ConfigDict(strict=True, extra="forbid")

    mode: str
    task: str
    seed: int | None
    prior: str
    preset: str
    size: str = sizes.LARGE  # of before there was a choice


class Entry(BaseModel):
    """A finished run.

    It holds numbers and text, in a browser's history pictures too, and no name of a file of the server.
    """

    model_config = ConfigDict(strict=True, extra="forbid")

    method: str
    link: str
    title: str
    values: dict[str, int | float | str]  # by task or method, a dot and the knob
    chosen: Chosen
    status: str
    scores: dict[str, list[str]]  # the columns of the table
    pictures: list[str] = Field(max_length=2)  # before and after as data: URIs
    photo: list[str] | None = Field(min_length=2, max_length=2)  # its name and, in base64, its content


def described(method: str, values: Values, shown: tuple[Any, ...]) -> Entry:
    """A finished run without its pictures."""
    knobs = {
        f"{key[0]}.{key[1]}": value
        for key, value in values.items()
        if isinstance(key, tuple) and key[1] not in FILES
    }
    return Entry(
        method=method,
        link=state.to_query(method, values),
        title=words.run(
            method, values["task"], values["preset"], values["seed"], values["mode"] != state.DEGRADED
        ),
        values={name: value for name, value in knobs.items() if value is not None},
        chosen=Chosen(
            mode=values["mode"],
            task=values["task"],
            seed=values["seed"],
            prior=values["prior"],
            preset=values["preset"],
            size=values["size"],
        ),
        status=shown[1],
        scores=shown[2].to_dict("list"),
        pictures=[],
        photo=None,
    )


def entry(method: str, values: Values, shown: tuple[Any, ...]) -> str:
    """A finished run as JSON for the browser's history and for its settings link; "" before the run's end.

    Its pictures are smaller where they are large, since the browser's space is 5 MB for everything.
    """
    if not shown[5]:
        return ""
    finished = described(method, values, shown)
    pictures = [data_uri(Path(side).read_bytes()) for side in shown[0]]
    if sum(map(len, pictures)) > RUN_BYTES:
        pictures = [smaller(Path(side)) for side in shown[0]]
        finished.status += SMALLER
    finished.pictures = pictures
    finished.photo = kept_photo(values["photo"], RUN_BYTES - sum(map(len, pictures)))
    return finished.model_dump_json()


def kept_photo(photo: str | None, space: int) -> list[str] | None:
    """A photograph's name and its content in base64; None where that has not less than `space` characters.

    Of an example the name alone: it is here.
    """
    path = Path(photo) if photo else None
    if path is None or not path.is_file():
        return None
    if example := state.example_name(photo):
        return [example, ""]
    if path.stat().st_size * 4 / 3 >= space:
        return None
    return [path.name, base64.b64encode(path.read_bytes()).decode()]


def smaller(picture: Path) -> str:
    """A picture of at most SIDE pixels a side as a data: URI, by JPEG."""
    return small_uri(images.read_image(picture), SIDE)


def recall(method: str, text: str) -> tuple[dict[Any, Any], tuple[Any, ...]]:
    """(values, outputs) of a run of the history, the picture that went in among them.

    gr.Error for anything else.
    """
    try:
        past = Entry.model_validate_json(text)
        before, after = (as_file(from_uri(picture)) for picture in past.pictures)
        values, shown = _shown(method, past, before, after)
        values["photo"] = photo_again(*past.photo) if past.photo else None
    except (ValueError, TypeError, OSError):
        raise gr.Error("This entry of the history cannot be read.", print_exception=False) from None
    return values, (*shown[:1], shown[1] + ("" if past.photo else GONE), *shown[2:])


class Finished(NamedTuple):
    """A run as a page shows it, for its Share button: an Entry as JSON, and files of the server; download:
    None where it is gone.
    """

    manifest: str
    before: str
    after: str
    photo: str | None
    read: tuple[int, int]  # enlarged and most, as `images.read_photo` takes them
    download: str | None


def finished(method: str, values: Values, shown: tuple[Any, ...]) -> Finished:
    """What is shown of a run once it is over."""
    manifest = described(method, values, shown).model_dump_json()
    before, after = map(str, shown[0])
    read = state.asked_for(method, values)[2], sizes.SIZES[values["size"]]
    return Finished(manifest, before, after, values["photo"], read, shown[5])


def share(run: Finished, address: str) -> tuple[str, str]:
    """Keep a finished run for whoever has the link; `shares.save`'s token and secret. ValueError where it
    cannot be kept.

    The photograph is kept as it was read, at the size that was restored: a phone's file would tell where it
    was taken.
    """
    sides = {"before": Path(run.before), "after": Path(run.after)}
    pictures = {f"{side}{path.suffix}": path for side, path in sides.items()}
    pictures |= {"download.png": Path(run.download)} if run.download else {}
    if not all(path.is_file() for path in pictures.values()):
        raise ValueError("This result is not on the server any more: restore it once more, then share it.")
    if run.photo and Path(run.photo).is_file():
        pictures["photo.png"] = bare_photo(run.photo, run.read)
    return shares.save(run.manifest, pictures, address)


def bare_photo(photo: str, read: tuple[int, int]) -> Path:
    """A file of a photograph as it was read, without what a camera wrote but a JPEG's quality; read: see
    Finished.
    """
    x, alpha, _ = images.read_photo(photo, *read)
    picture, file = images.to_pil(x), Path(new_file("photo.png"))
    told = as_text(quality_of_file(photo))
    (images.see_through(picture, alpha) if alpha else picture).save(file, pnginfo=told)
    return file


def shared(method: str, token: str) -> tuple[dict[Any, Any], tuple[Any, ...]]:
    """(values, outputs) of a share.

    ValueError for one that there is not, or that this version cannot read.
    """
    manifest, pictures = shares.load(token)
    files: Mapping[str, str] = {Path(name).stem: str(path) for name, path in pictures.items()}
    values, shown = _shown(method, Entry.model_validate_json(manifest), files["before"], files["after"])
    return values | {"photo": files.get("photo")}, (*shown[:5], files.get("download"))


def _shown(method: str, past: Entry, before: str, after: str) -> tuple[dict[Any, Any], tuple[Any, ...]]:
    """(values without files, outputs) of a run of the past. ValueError for what there is not here."""
    if past.method != method:
        raise ValueError("This run is another method's.")
    status = html.escape(html.unescape(past.status))
    return _values(past), ((before, after), status, pd.DataFrame(past.scores), None, None, None)


def _values(past: Entry) -> dict[Any, Any]:
    """The values of a run's controls, those of files empty.

    ValueError for a knob, a choice or a number that there is not here.
    """
    values = state.opening_values(past.method) | past.chosen.model_dump()
    for name, value in past.values.items():
        key = tuple(name.split(".", 1))
        if key not in values or key[-1] in FILES:
            raise ValueError(f"There is no {name} here.")
        values[key] = value
    state.asked_for(past.method, state.checked(past.method, values))
    return values


def photo_again(name: str, content: str) -> str:
    """What `kept_photo` has kept as a file again. ValueError where it is no picture."""
    if not content and state.is_example(name):
        return str(state.EXAMPLES / name)
    images.describe(decoded := base64.b64decode(content))
    suffix = Path(name).suffix.lower()
    file = new_file(name if suffix in images.SUFFIXES else "picture.png")
    Path(file).write_bytes(decoded)
    return file


def from_uri(uri: str) -> Tensor:
    """The picture of `data_uri`, (1,3,H,W) in [0,1]. ValueError for what is none: it comes from a browser."""
    return images.read_image(base64.b64decode(uri.partition(",")[2]))
