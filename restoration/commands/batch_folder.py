"""The folders of the batch command: which picture becomes which result, and what is there already."""

from __future__ import annotations

import collections
import csv
import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from restoration.evaluation import metrics
from restoration.files import images, recipe, whole
from restoration.priors.checkpoints import fetch
from restoration.record import Run

TABLE = "scores.csv"
Names = dict[str, str]  # a picture in INPUT -> its result in OUTPUT, both as relative paths


def name_results(pictures: list[str]) -> Names:
    """Same relative path, suffix .png.

    Pictures that would share a result keep their own suffix before it (a.jpg.png).
    """
    short = {name: str(Path(name).with_suffix(".png")) for name in pictures}
    # upper and lower case are one name on some file systems
    shared = collections.Counter(result.casefold() for result in short.values())
    names = {
        name: result if shared[result.casefold()] == 1 else f"{name}.png" for name, result in short.items()
    }
    for result, count in collections.Counter(names.values()).items():
        if count > 1:
            raise ValueError(
                f"{count} pictures would be written to {result}; "
                f"rename one of {', '.join(name for name in names if names[name] == result)}."
            )
    return names


def prepare(source: Path, output: Path, run: Run) -> tuple[Names, list[str]]:
    """(all pictures with their results, those still to be made) after making OUTPUT ready, where results cut
    off are removed.

    Raises ValueError when there is nothing to do, or OUTPUT holds something that this run would not have
    written.
    """
    if not source.is_dir():
        raise ValueError(f"{source} is not a folder.")
    inputs, results = source.resolve(), output.resolve()
    if inputs.is_relative_to(results) or results.is_relative_to(inputs):
        raise ValueError(f"INPUT {source} and OUTPUT {output} must lie outside each other.")
    files = [
        p.relative_to(source)
        for p in sorted(source.rglob("*"))
        if p.suffix.lower() in images.SUFFIXES and p.is_file()
    ]
    names = name_results([str(file) for file in files if not file.name.startswith(".")])
    if not names:
        raise ValueError(f"No pictures in {source}.")
    for folder in {output, *((output / result).parent for result in names.values())}:
        folder.mkdir(parents=True, exist_ok=True)
        whole.check_folder(folder)
    whole.remove_abandoned(output, deep=True)
    made = [output / result for result in names.values() if (output / result).exists()]
    settings = run.settings(fetch(run.prior).weights) if made else {}
    for path in made:
        check_result(path, settings)
    for path in made:
        if not recipe.is_whole(path):  # one of this run's, so it is only made again
            path.unlink()
    return names, [name for name, result in names.items() if not (output / result).exists()]


def check_result(path: Path, settings: Mapping[str, Any]) -> None:
    """ValueError unless the file is a result with these settings.

    Those of earlier versions do not say their weights.
    """
    try:
        settled = recipe.read_png(path)
    except (ValueError, OSError):
        raise ValueError(f"{path} was not written by this command; choose another OUTPUT.") from None
    other = [
        key
        for key, value in settings.items()
        if settled.get(key, value if key == "weights" else None) != value
    ]
    if other:
        way = "" if {"versions", "weights"} & set(other) else f", or go on with --recipe {path}"
        raise ValueError(f"{path} was made with other {', '.join(other)}; choose another OUTPUT{way}.")


def write_table(output: Path, names: Names, failures: Mapping[str, str]) -> None:
    """OUTPUT/TABLE: picture, result, error, and the scores that the results carry."""
    rows: list[dict[str, Any]] = []
    for name, result in names.items():
        made = (output / result).exists()
        scores = recipe.read_png(output / result, recipe.SCORES) if made else {}
        rows.append(
            {
                "picture": name,
                "result": result if made else "",
                "error": "" if made else failures.get(name, "not reached"),
            }
            | scores
        )
    columns = dict.fromkeys(
        ["picture", "result", "error", *metrics.METRICS, *(key for row in rows for key in row)]
    )
    text = io.StringIO()
    table = csv.DictWriter(text, [c for c in columns if any(c in row for row in rows)])
    table.writeheader()
    table.writerows(rows)
    with recipe.whole_file(output / TABLE) as file:
        file.write(text.getvalue().encode("utf-8", "backslashreplace"))  # file names may be any bytes
