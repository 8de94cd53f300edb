"""A finished comparison as JSON, without a name of a file of the server: for the browser's history, a share
and a link.

What comes back from a browser is not trusted in anything.
"""

from __future__ import annotations

import base64
import contextlib
import html
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlencode

import gradio as gr
from PIL import Image
from pydantic import BaseModel, ConfigDict, Field

from restoration.files import images
from restoration.files.errors import quoted
from restoration.page import compare_cells, compare_choices, history, shares, sizes, state, words
from restoration.page.compare_cells import Figure
from restoration.page.compare_choices import COMPARE, REAL, SEPARATOR
from restoration.page.display import as_file, data_uri, jpeg_uri
from restoration.page.uploads import new_file

MOST = 60  # pictures of a comparison that is kept
SIDES = (
    800,
    560,
    400,
    280,
    200,
)  # pixels of a history's pictures where they are too large: the first that fits
LONGEST = 2 * history.RUN_BYTES  # characters of a history's entry
MOST_PIXELS = 40_000_000  # of all pictures of a history's entry: small files can hold large pictures
UNREADABLE = "This entry of the history cannot be read."


class Asked(NamedTuple):
    """What is compared, as `compare_tab.compared` takes it: the photograph's file, and the choices."""

    photo: str | None
    damage: str
    choices: list[str]
    seeds: float
    priors: list[str]


class Row(BaseModel):
    """A picture, without it."""

    model_config = ConfigDict(strict=True, extra="forbid")

    title: str = Field(max_length=300)
    scores: dict[str, float]


class Entry(BaseModel):
    """A finished comparison: numbers and text, in a browser's history pictures too, of which `best` stands
    for all.
    """

    model_config = ConfigDict(strict=True, extra="forbid")

    method: str
    link: str
    title: str
    damage: str
    choices: list[str]
    seeds: int
    priors: list[str]
    status: str
    rows: list[Row] = Field(min_length=1, max_length=MOST)
    best: int = 0
    pictures: list[str] = Field(default=[], max_length=MOST)  # as data: URIs
    photo: list[str] | None = Field(
        default=None, min_length=2, max_length=2
    )  # its name and, in base64, content


class Finished(NamedTuple):
    """A comparison as the page shows it, for its Share button: an Entry as JSON, and files of the server,
    those of its pictures in the order of the entry's rows. The manifest is "" where there are more than MOST.
    """

    manifest: str
    files: tuple[str, ...]
    photo: str | None


class Shown(NamedTuple):
    """A comparison of before, to be shown."""

    asked: Asked
    status: str
    figures: list[Figure]

    @property
    def run(self) -> Finished:
        return finished(*self)


def described(asked: Asked, status: str, figures: Sequence[Figure]) -> Entry:
    """A finished comparison without its pictures. ValueError where there are more than MOST."""
    if len(figures) > MOST:
        fewer = "compare fewer methods, tries or models at a time"
        raise ValueError(f"This comparison has {len(figures)} pictures, and {MOST} is the most: {fewer}.")
    count = len(results := [k for k, figure in enumerate(figures) if _is_result(figure)])
    what = "Your photograph" if asked.damage == REAL else f"Test: {words.damage(asked.damage)}"
    return Entry(
        method=COMPARE,
        link=to_query(asked),
        title=f"{what}, {count} result{'s' if count != 1 else ''}",
        damage=asked.damage,
        choices=asked.choices,
        seeds=int(asked.seeds),
        priors=asked.priors,
        status=status,
        rows=[Row(title=figure.title, scores=dict(figure.scores)) for figure in figures],
        best=max(results, key=lambda k: len(compare_cells.won(figures[k], figures)), default=0),
    )


def _is_result(figure: Figure) -> bool:
    """Whether it is a method's result, which alone has a time."""
    return "seconds" in figure.scores


def finished(asked: Asked, status: str, figures: Sequence[Figure]) -> Finished:
    """What is shown of a comparison once it is over."""
    manifest = ""
    with contextlib.suppress(ValueError):  # Share says so
        manifest = described(asked, status, figures).model_dump_json()
    return Finished(manifest, tuple(figure.file for figure in figures), asked.photo)


def entry(asked: Asked, status: str, figures: Sequence[Figure]) -> str:
    """A finished comparison as JSON for the browser's history and for its settings link; "" where it is too
    large for that.

    Its pictures are smaller where they are large, as those of `history.entry`.
    """
    with contextlib.suppress(ValueError):
        kept = described(asked, status, figures)
        files = [Path(figure.file) for figure in figures]
        if sum(file.stat().st_size for file in files) * 4 / 3 < history.RUN_BYTES:
            kept.pictures = [data_uri(file.read_bytes()) for file in files]
        else:
            kept.pictures = smaller(files)
            kept.status = kept.status.removesuffix(".") + history.SMALLER
        kept.photo = history.kept_photo(asked.photo, history.RUN_BYTES - sum(map(len, kept.pictures)))
        return kept.model_dump_json()
    return ""


def smaller(files: Sequence[Path]) -> list[str]:
    """All pictures by JPEG at the largest of SIDES at which they have RUN_BYTES together."""
    uris, pictures = list[str](), list[Image.Image]()
    for file in files:
        pictures.append(images.to_pil(images.read_image(file)))
        pictures[-1].thumbnail((SIDES[0], SIDES[0]))
    for side in SIDES:
        for picture in pictures:
            picture.thumbnail((side, side))
        uris = [jpeg_uri(picture) for picture in pictures]
        if sum(map(len, uris)) <= history.RUN_BYTES:
            break
    return uris


def recall(text: str) -> Shown:
    """A comparison of the history. gr.Error for anything else."""
    try:
        if len(text) > LONGEST:
            raise ValueError("Too long.")
        past = Entry.model_validate_json(text)
        pictures = [base64.b64decode(uri.partition(",")[2]) for uri in past.pictures]
        sides = [images.describe(picture)[0] for picture in pictures]
        if sum(width * height for width, height in sides) > MOST_PIXELS:
            raise ValueError("Too large.")
        files = [as_file(images.read_image(picture)) for picture in pictures]
        shown = _shown(past, files, history.photo_again(*past.photo) if past.photo else None)
    except (ValueError, TypeError, OSError):
        raise gr.Error(UNREADABLE, print_exception=False) from None
    return shown if past.photo else shown._replace(status=shown.status.removesuffix(".") + history.GONE)


def _shown(past: Entry, files: Sequence[str], photo: str | None) -> Shown:
    """ValueError for what there is not here."""
    if past.method != COMPARE or len(files) != len(past.rows):
        raise ValueError("This is no comparison.")
    compare_choices.checked(past.damage, past.choices, past.seeds, past.priors)
    figures = [Figure(row.title, row.scores, file) for row, file in zip(past.rows, files, strict=True)]
    asked = Asked(photo, past.damage, past.choices, past.seeds, past.priors)
    return Shown(asked, html.escape(html.unescape(past.status)), figures)


def share(run: Finished, address: str) -> tuple[str, str]:
    """Keep a comparison for whoever has the link; `shares.save`'s token and secret. ValueError where it
    cannot be kept.

    The photograph is kept as `history.share` keeps it.
    """
    if not run.manifest:
        raise ValueError(
            f"This comparison has {len(run.files)} pictures, and {MOST} is the most that are shared: compare "
            "fewer methods, tries or models at a time."
        )
    pictures = {_name(k): Path(file) for k, file in enumerate(run.files)}
    if not all(path.is_file() for path in pictures.values()):
        raise ValueError("This comparison is not on the server any more: compare once more, then share it.")
    if run.photo and Path(run.photo).is_file():
        read = 1, sizes.SIZES[sizes.usual_size()]
        pictures["photo.png"] = history.bare_photo(run.photo, read)
    return shares.save(run.manifest, pictures, address)


def _name(number: int) -> str:
    """What a picture is called in a share."""
    return f"cell-{number:02d}.png"


def shared(token: str) -> Shown:
    """The comparison of a share. ValueError for one that there is not, or that this version cannot read."""
    manifest, pictures = shares.load(token)
    past = Entry.model_validate_json(manifest)
    files = [str(pictures[name]) for name in map(_name, range(len(past.rows))) if name in pictures]
    return _shown(past, files, str(pictures["photo.png"]) if "photo.png" in pictures else None)


def archives(figures: Sequence[Figure], folder: Path | None = None) -> list[str]:
    """The files of two ZIPs: of all pictures, and of all but the photograph itself; folder: where they are
    made once, or else each is nobody else's.
    """
    kinds = {"comparison.zip": figures, "without-photograph.zip": compare_cells.results_alone(figures)}
    files = []
    for name, kept in kinds.items():
        file = Path(folder, name) if folder else Path(new_file(name))
        try:
            os.utime(file)  # used: it begins to age anew
        except OSError:
            compare_cells.archive(kept, file)
        files.append(str(file))
    return files


def shared_archives(run: Finished) -> list[str]:
    """`archives` of a share that has been opened, beside its pictures; none of another comparison."""
    if Path(run.files[0]).name != _name(0):
        return []
    rows = Entry.model_validate_json(run.manifest).rows
    figures = [Figure(row.title, row.scores, file) for row, file in zip(rows, run.files, strict=True)]
    return archives(figures, Path(run.files[0]).parent)


def to_query(asked: Asked) -> str:
    """The query string of a link that compares the same again; "" where the picture is no example."""
    example = state.example_name(asked.photo)
    if not example or asked.damage == REAL:
        return ""
    query = {"method": COMPARE, "image": example, "damage": asked.damage, "seeds": int(asked.seeds)}
    query["choices"] = ",".join(choice.replace(SEPARATOR, ":") for choice in asked.choices)
    return "?" + urlencode(query | {"priors": ",".join(asked.priors)}, safe=":,")


def from_query(query: Mapping[str, str]) -> Asked:
    """What a link's query asks for. ValueError names what is not known here."""
    if not state.is_example(example := query.get("image", "")):
        raise ValueError(f"The link names the picture {quoted(example)}, which is not known here.")
    usual: dict[str, Any] = {"damage": "denoise", "seeds": "1", "priors": "embedded"}
    usual["choices"] = ",".join(compare_choices.first({}))
    asked = usual | dict(query)
    seeds = asked["seeds"] if len(asked["seeds"]) < 9 else ""
    choices = [choice.replace(":", SEPARATOR) for choice in asked["choices"].split(",")]
    found = Asked(
        str(state.EXAMPLES / example),
        asked["damage"],
        choices,
        int(seeds) if seeds.isdecimal() else 0,
        asked["priors"].split(","),
    )
    try:
        compare_choices.checked(*found[1:])
    except ValueError as error:
        raise ValueError(f"The link carries a value that cannot be used: {str(error).rstrip('.')}.") from None
    return found
