"""python -m restoration.inspect PHOTO…: what is wrong with a photograph, how much, and what to do."""

from __future__ import annotations

import dataclasses
import json
import sys
from pathlib import Path
from typing import Any

from restoration.parser import parser as command_parser


def report(path: str) -> dict[str, Any]:
    """Measurement and advice of one file, in JSON's types. ValueError where it cannot be read."""
    from restoration.degradations.advice import suggest
    from restoration.degradations.jpeg_traces import quality_of_file
    from restoration.degradations.meter import measure_damage
    from restoration.files import images

    y = images.read_image(path, 1)
    damage = measure_damage(y, quality_of_file(path))
    return {
        "photo": path,
        "sentences": damage.describe(),
        "doubts": damage.doubts(),
        "damage": {
            name: dataclasses.asdict(estimate) | {"present": estimate.present}
            for name, estimate in damage.estimates().items()
        },
        "noise_curve": list(damage.noise_curve),
        "suggestions": [dataclasses.asdict(suggestion) for suggestion in suggest(damage)],
    }


def tell(measured: dict[str, Any]) -> str:
    """The report as plain sentences."""
    lines = [
        f"{measured['photo']}:",
        *(f"  {sentence}" for sentence in measured["sentences"] or ["Nothing seems wrong with it."]),
        *(f"  {sentence}" for sentence in measured["doubts"]),
    ]
    for suggestion in measured["suggestions"]:
        task = f" --task {suggestion['task']}" if suggestion["task"] else ""
        settings = "".join(f" {name}={value}" for name, value in suggestion["settings"].items())
        more = f" --set{settings}" if settings else ""
        command = f"--solver {suggestion['solver']} --preset {suggestion['preset']!r}{task}{more}"
        lines.append(f"  → {suggestion['sentence']}\n    {command}")
    return "\n".join(lines)


def evaluate(folder: str, limit: int, seed: int) -> None:
    """Print the meter's own accuracy on the clean photographs of a folder.

    ValueError where there are none.
    """
    from restoration.evaluation.accuracy import accuracy
    from restoration.files import images

    files = [
        path
        for path in sorted(Path(folder).rglob("*"))
        if path.suffix.lower() in images.SUFFIXES and path.is_file()
    ][:limit]
    if not files:
        raise ValueError(f"No pictures in {folder}.")
    for line in accuracy([images.read_image(path, 1) for path in files], seed):
        print(line, flush=True)


def main(argv: list[str] | None = None, prog: str = "python -m restoration.inspect") -> int:
    """0, or 2 after one line about each file that cannot be read."""
    parser = command_parser(
        prog, "Say what is wrong with a photograph, how much, and what to try.", "photo.jpg"
    )
    parser.add_argument("photos", nargs="*", metavar="PHOTO", help="photographs to look at")
    parser.add_argument(
        "--json", action="store_true", help="print data, one list of all photos, in place of sentences"
    )
    parser.add_argument(
        "--evaluate",
        metavar="FOLDER",
        help="of clean photographs: damage them and print how well that is measured",
    )
    parser.add_argument("--limit", type=int, default=64, help="photographs of --evaluate at most")
    parser.add_argument("--seed", type=int, default=0, help="of the damage of --evaluate")
    args = parser.parse_args(argv)
    if bool(args.photos) == bool(args.evaluate):
        parser.error("give photos, or --evaluate with a folder")
    reports, failed = [], False
    try:
        if args.evaluate:
            evaluate(args.evaluate, args.limit, args.seed)
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    for photo in args.photos:
        try:
            reports.append(report(photo))
            if not args.json:
                print(tell(reports[-1]))
        except ValueError as error:
            failed = True
            print(f"error: {error}", file=sys.stderr)
    if args.json and not args.evaluate:
        print(json.dumps(reports, indent=1))
    return 2 if failed else 0
