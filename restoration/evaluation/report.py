"""What the benchmark leaves behind: a file of scores that only grows, a Markdown table, a contact sheet."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock
from PIL import Image
from torch import Tensor

from restoration.evaluation import metrics
from restoration.evaluation.baselines import TUNED
from restoration.evaluation.published import Scores
from restoration.files import images, recipe

CELL, ROWS = 256, 24  # of the contact sheet: side of a cell in pixels, pictures at most
RESULT = "result"


class Report:
    """Scores by picture and method. With a path they are kept there after every picture, and those already
    there are not computed again.

    Several runs at once may share the path: each takes in what the others have added, and loses nothing.
    data: what was done to the pictures; methods: label -> what makes its figures what they are. Both must be
    equal whenever figures are added, else ValueError. Only a solver whose weights have changed since gets a
    row of its own beside the older one.
    """

    def __init__(
        self,
        path: str | None,
        data: Mapping[str, Any],
        methods: Mapping[str, Mapping[str, Any]],
        current: str,
    ):
        """methods: those of this run, with {} for a classical one; current: the solver's among them, called
        "result" in the file.
        """
        self._path = Path(path) if path else None
        self._data = _plain(data)
        stored = self._read()
        before = {label: _but_weights(method) for label, method in stored["methods"].items()}
        for label in before.keys() & methods.keys():
            _agree(self._path, label, before[label], _plain(_but_weights(methods[label])))
        # its row's name: the given one, or that with its weights
        self.current = _label(stored["methods"], current, methods[current])
        methods = {self.current if label == current else label: method for label, method in methods.items()}
        self._methods: dict[str, Any] = _plain(methods)
        self._now = methods.keys()
        self._rows: dict[str, dict[str, Any]] = {}
        self._take_in(stored)

    def _take_in(self, stored: Mapping[str, Any]) -> None:
        """Add what `_read` found; ValueError where it does not agree with what is here."""
        for label in stored["methods"].keys() & self._methods.keys():
            _agree(self._path, label, stored["methods"][label], self._methods[label])
        self._methods = stored["methods"] | self._methods
        for row in stored["images"]:
            ours = self._rows.setdefault(row["name"], {})
            _agree(self._path, row["name"], row["source"], ours.get("source", row["source"]))
            scalars = row.get("scalars", {}) | ours.get("scalars", {})
            ours.update(row | ours | ({"scalars": scalars} if scalars else {}))

    def _read(self) -> dict[str, Any]:
        """The methods and images in the file, as of now. ValueError where its data are others."""
        if self._path is None or not self._path.exists():
            return {"methods": {}, "images": []}
        try:
            content = json.loads(self._path.read_text())
            images = [
                {key: value for key, value in row.items() if key != RESULT} for row in content["images"]
            ]
            data, methods = content["data"], content["methods"]
        except (ValueError, KeyError, TypeError):
            raise ValueError(
                f"{self._path} is not a file of benchmark scores; choose another --json FILE."
            ) from None
        _agree(self._path, "data", data, self._data)
        return {"methods": methods, "images": images}

    def picture(self, name: str, source: Mapping[str, Any]) -> None:
        """Begin or go on with a picture; source: what tells whether it is still the same, such as the hash of
        its pixels.
        """
        row = self._rows.setdefault(name, {"name": name, "source": _plain(source)})
        _agree(self._path, name, row["source"], _plain(source))

    def has(self, name: str, label: str) -> bool:
        """Whether the scores of this picture by this method are known."""
        return label in self._rows[name]

    def add(self, name: str, label: str, scores: Scores, scalars: Scores) -> None:
        """The scores of one picture by one method, and what else the method says of it; saved."""
        row = self._rows[name]
        row[label] = scores
        if scalars:
            row.setdefault("scalars", {})[label] = scalars
        if self._path:
            with (
                FileLock(self._path.with_name(f".{self._path.name}.lock")),
                recipe.whole_file(self._path) as file,
            ):
                self._take_in(self._read())
                file.write(json.dumps(self.as_dict(), indent=1).encode())

    def means(self) -> dict[str, Scores]:
        """By method, over the pictures `names`; an older method that lacks one of them, as after an
        interrupted run, is left out.
        """
        rows = self._complete()
        return {
            label: _mean([row[label] for row in rows])
            for label in self._methods
            if rows and all(label in row for row in rows)
        }

    def improved(self, label: str) -> str:
        """How many pictures of the method beat their input in both PSNR and SSIM, and the worst of them."""
        rows = [(row[label], row["input"]) for row in self._complete()]
        ratios = [result["SSIM"] / before["SSIM"] for result, before in rows]
        better = [
            result["PSNR"] > before["PSNR"] and ratio > 1
            for (result, before), ratio in zip(rows, ratios, strict=True)
        ]
        share = f"{sum(better)} of {len(rows)}"
        return f"PSNR and SSIM above the input's: {share}; lowest SSIM {min(ratios):.2f} times the input's."

    def _complete(self) -> list[dict[str, Any]]:
        return sorted(
            (row for row in self._rows.values() if self._now <= row.keys()), key=lambda row: row["name"]
        )

    def as_dict(self) -> dict[str, Any]:
        """JSON-ready: "mean" and "images" hold the input, the classical baselines and this run's solver as
        "result"; "rows" all means.
        """
        rows = [
            row | ({RESULT: row[self.current]} if self.current in row else {}) for row in self._rows.values()
        ]
        means = self.means()
        classical = {label: scores for label, scores in means.items() if not self._methods[label]}
        return {
            "settings": self._data | self._methods[self.current],
            "mean": best_tuned(classical) | ({RESULT: means[self.current]} if self.current in means else {}),
            "images": sorted(rows, key=lambda row: row["name"]),
            "pictures in mean": len(self.names),
            "rows": means,
            "data": self._data,
            "methods": self._methods,
        }

    @property
    def names(self) -> list[str]:
        """The pictures that every method of this run has."""
        return [row["name"] for row in self._complete()]


def best_tuned(means: Mapping[str, Scores]) -> dict[str, Scores]:
    """The means with each of the TUNED methods once, at the value that is best on the set."""
    kept = dict(means)
    for name in TUNED:
        values = [label for label in means if label.startswith(name)]
        best = max(values, key=lambda label: means[label]["PSNR"], default=None)
        kept = {label: scores for label, scores in kept.items() if label not in values or label == best}
    return kept


def _plain(value: Any) -> Any:
    """In JSON's types."""
    return json.loads(json.dumps(value))


def _but_weights(method: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in method.items() if key != "weights"}


def _label(known: Mapping[str, Mapping[str, Any]], label: str, method: Mapping[str, Any]) -> str:
    """The label, with the digests of the weights that differ where `known` has a method of that name with
    others, or with unknown ones.
    """
    now, then = method.get("weights", {}), known.get(label, method).get("weights", {})
    other = [f"{name} {digest}" for name, digest in now.items() if then.get(name) != digest]
    return f"{label}, weights {', '.join(other)}" if other else label


def _agree(path: Path | None, what: str, then: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    other = [key for key in {**then, **now} if then.get(key) != now.get(key)]
    if other:
        raise ValueError(
            f"{path} holds {what} with other {', '.join(other)} than now; choose another --json FILE."
        )


def _mean(rows: list[Scores]) -> Scores:
    names = [name for name in rows[0] if all(name in row for row in rows)]
    return {name: float(np.mean([row[name] for row in rows])) for name in names}


def table(means: Mapping[str, Scores], published: Mapping[str, Scores]) -> str:
    """One Markdown table, a row per method, each marked as measured here or published."""
    known = [name for scores in [*means.values(), *published.values()] for name in scores]
    columns = [name for name in dict.fromkeys([*metrics.METRICS, *known]) if name in known]
    rows = [(name, "measured", scores) for name, scores in means.items()] + [
        (name, "published", scores) for name, scores in published.items()
    ]
    lines = ["| | | " + " | ".join(columns) + " |", "|---" * (len(columns) + 2) + "|"]
    for name, origin, scores in rows:
        cells = (f"{scores[c]:.3f}" if c in scores else "–" for c in columns)
        lines.append(f"| {name} | {origin} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def keep_picture(folder: Path, label: str, name: str, x: Tensor) -> None:
    """x (1,3,H,W) in [0,1] as folder/label/name, a PNG: a.jpg becomes a.jpg.png, for there may be an a.png
    too.
    """
    path = _kept(folder, label, name)
    path.parent.mkdir(parents=True, exist_ok=True)
    recipe.save_png(x, path, {"method": label})


def _kept(folder: Path, label: str, name: str) -> Path:
    return folder / label.replace("/", "-") / (name if name.lower().endswith(".png") else f"{name}.png")


def contact_sheet(folder: Path, labels: Iterable[str], names: list[str]) -> Path:
    """Write folder/sheet.png from the pictures kept there: a row per picture, a column per label, the centre
    of each pixel by pixel.

    A cell stays grey where the scores were known and no picture was made.
    """
    labels = list(labels)
    cells = [
        (label if j else f"{label}: {name}", _centre(_kept(folder, label, name)))
        for name in names[:ROWS]
        for j, label in enumerate(labels)
    ]
    with recipe.whole_file(folder / "sheet.png") as file:
        images.sheet(cells, len(labels)).save(file, format="PNG")
    return folder / "sheet.png"


def _centre(path: Path) -> Image.Image:
    """The CELL×CELL centre of the picture at `path`."""
    cell = Image.new("RGB", (CELL, CELL), "grey")
    if path.exists():
        picture = images.to_pil(images.read_image(path))
        left, top = (picture.width - CELL) // 2, (picture.height - CELL) // 2
        box = (max(left, 0), max(top, 0), min(left + CELL, picture.width), min(top + CELL, picture.height))
        cell.paste(picture.crop(box), (max(-left, 0), max(-top, 0)))
    return cell
