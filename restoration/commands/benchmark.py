"""python -m restoration.benchmark --clean DIR --task TASK: a table of scores, beside the input's and a
classical baseline's.

Blind solvers also take photographs whose degradation nobody knows: --input DIR --target DIR without a task.
With --json FILE a second run, with another solver, preset, setting or prior, adds its row to the table and
computes nothing twice.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor
from tqdm import tqdm

from restoration.commands import cli, settings_help
from restoration.degradations.base import LinearDegradation
from restoration.degradations.blind import Damage
from restoration.degradations.blur import Blur
from restoration.degradations.realistic import Camera
from restoration.evaluation import metrics
from restoration.evaluation.baselines import baselines
from restoration.evaluation.published import PUBLISHED, Scores
from restoration.evaluation.report import Report, best_wiener, contact_sheet, keep_picture, table
from restoration.files import images, recipe
from restoration.priors.checkpoints import fetch
from restoration.priors.latent import load_prior
from restoration.record import Run, versions
from restoration.run import restore, round_trip
from restoration.solvers.base import Solver


def crop_centre(x: Tensor, size: int, multiple: int) -> Tensor:
    """The centre size×size (or as much as there is), sides a multiple of `multiple`."""
    height, width = (min(side, size) // multiple * multiple for side in x.shape[-2:])
    top, left = (x.shape[-2] - height) // 2, (x.shape[-1] - width) // 2
    return x[..., top : top + height, left : left + width]


def crop_pair(y: Tensor, clean: Tensor, size: int, factor: int) -> tuple[Tensor, Tensor]:
    """The centre of both, size×size of the clean one (or as much as there is).

    ValueError unless that is `factor` times as large a side as y.
    """
    height, width = y.shape[-2:]
    if clean.shape[-2:] != (factor * height, factor * width):
        raise ValueError(
            f"The clean picture is {clean.shape[-1]}×{clean.shape[-2]}, the degraded one {width}×{height}: "
            f"not {factor} times smaller."
        )
    height, width = (min(side, size // factor) for side in y.shape[-2:])
    top, left = (y.shape[-2] - height) // 2, (y.shape[-1] - width) // 2
    large = clean[..., factor * top : factor * (top + height), factor * left : factor * (left + width)]
    return y[..., top : top + height, left : left + width], large


def pictures(folder: str, limit: int | None = None) -> list[Path]:
    """The pictures in the folder by name. ValueError when there are none."""
    if not Path(folder).is_dir():
        raise ValueError(f"{folder} is not a folder.")
    files = sorted(
        p
        for p in Path(folder).iterdir()
        if p.suffix.lower() in images.SUFFIXES and not p.name.startswith(".") and p.is_file()
    )[:limit]
    if not files:
        raise ValueError(f"No pictures in {folder}.")
    return files


def partners(targets: list[Path], folder: str) -> dict[Path, Path]:
    """The degraded picture in `folder` of each clean one, of the same file name up to the suffix.

    ValueError names those without.
    """
    found: dict[str, list[Path]] = {}
    for path in pictures(folder):
        found.setdefault(path.stem, []).append(path)
    lonely = [path.name for path in targets if len(found.get(path.stem, [])) != 1]
    if lonely:
        some = ", ".join(lonely[:5]) + ("…" if len(lonely) > 5 else "")
        raise ValueError(
            f"{len(lonely)} of {len(targets)} clean pictures have not exactly one of the same name "
            f"in {folder}: {some}."
        )
    return {path: found[path.stem][0] for path in targets}


def pairs(args: argparse.Namespace, task: Damage | None, factor: int) -> list[tuple[str, Tensor, Tensor]]:
    """(name, observation, clean) of every picture, matched by file name; `factor` is the clean side over the
    observation's.

    Pictures that cannot be read are named on stderr and left out; ValueError when there are no others.
    """
    if bool(args.clean) == bool(args.input and args.target):
        raise ValueError("Give either --clean DIR, or --input DIR and --target DIR.")
    if args.clean and task is None:
        raise ValueError("--clean needs a --task: what to do to the clean pictures.")
    cli.check_least(args, crop=images.MIN_SIDE, limit=1, enlarge=1)
    folder, size = args.clean or args.target, args.crop or 10**6
    files = pictures(folder, args.limit)
    inputs = {} if args.clean else partners(files, args.input)
    result = []
    for number, file in enumerate(files):
        try:
            clean = images.read_image(file)
            y, clean = (
                crop_pair(images.read_image(inputs[file]), clean, size, factor) if inputs else (None, clean)
            )
        except ValueError as error:
            print(f"{file.name}: {error}", file=sys.stderr)
            continue
        if y is None:
            assert task is not None
            y, clean = damaged(clean, task, args, factor, torch.Generator().manual_seed(args.seed + number))
        result.append((file.name, y, clean))
    if not result:
        raise ValueError(f"None of the {len(files)} pictures in {folder} can be used.")
    return result


def damaged(
    clean: Tensor, task: Damage, args: argparse.Namespace, factor: int, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """(observation, clean) of the centre crop.

    With --border real it is the interior of a blurred larger crop, else the blur is circular.
    """
    margin = task.margin if args.border == "real" and isinstance(task, Blur) else 0
    clean = crop_centre(clean, (args.crop or 10**6) + 2 * margin, factor)
    y = task.degrade(clean, generator)
    if not margin:
        return y, clean
    inside = (..., slice(margin, -margin), slice(margin, -margin))
    return images.quantise(y[inside]), clean[inside]


class Outcome(NamedTuple):
    """image (1,3,H,W) in [0,1] in 8 bits, its scores, and the solver's own figures at its last step."""

    image: Tensor
    scores: Scores
    scalars: Scores


Method = Callable[
    [Tensor, Tensor], Outcome
]  # of an observation and its clean picture, which serves the scores alone


def classical(function: Callable[[Tensor], Tensor]) -> Method:
    """A baseline as a method of the benchmark."""

    def method(y: Tensor, clean: Tensor) -> Outcome:
        began = time.perf_counter()
        image = images.quantise(function(y))
        return Outcome(image, {"seconds": time.perf_counter() - began} | metrics.score(image, clean), {})

    return method


def solved(run: Run, args: argparse.Namespace) -> Method:
    """A solver as a method of the benchmark; its "ceiling" is the PSNR of the prior's round trip of the clean
    picture.

    With --enlarge n both work on pictures n times as large (Lanczos), and what comes out is reduced before it
    is scored.
    """
    if args.enlarge > 1 and run.degradation is not None:
        why = f"the degradation that {run.solver.title} is told is that of the picture as it is"
        raise ValueError(f"--enlarge {args.enlarge} is for blind solvers: {why}.")

    def method(y: Tensor, clean: Tensor) -> Outcome:
        def enlarged(x: Tensor) -> Tensor:
            return (
                x if args.enlarge == 1 else images.lanczos(x, *(args.enlarge * side for side in x.shape[-2:]))
            )

        def reduced(x: Tensor) -> Tensor:
            return x if args.enlarge == 1 else images.lanczos(x, clean.shape[-2], clean.shape[-1])

        prior, large, target = load_prior(run.prior), enlarged(y), enlarged(clean)
        result, scalars = None, {}
        for step in restore(large, run, prior):
            result, scalars = step.result, dict(step.scalars)
        assert result is not None  # the solver protocol: the last step carries it
        extra = metrics.Scores({"seconds": result.seconds})
        extra.add("ceiling", lambda: metrics.psnr(reduced(round_trip(prior, target)), clean))
        image = reduced(result.image)
        return Outcome(image, dict(result.scores) | metrics.score(image, clean) | extra, scalars)

    return method


def name_of(solver: Solver, args: argparse.Namespace) -> str:
    """The row's name: --name, or solver, preset, what --set changes of the solver, the enlargement, and a
    prior that is not the embedded one."""
    if args.name:
        return args.name
    own = {field.name for field in dataclasses.fields(solver)}
    changed = [pair for pair in args.set if pair.partition("=")[0] in own]
    words = [cli.named(solver, args), *changed]
    return " ".join(
        [
            *words,
            *([f"at ×{args.enlarge}"] if args.enlarge > 1 else []),
            *([f"on {args.prior}"] if args.prior != "embedded" else []),
        ]
    )


def damage(task: Damage | None, args: argparse.Namespace) -> dict[str, object]:
    """What all pictures of a table have in common."""
    knobs = dataclasses.asdict(task) if isinstance(task, LinearDegradation | Camera) else {}
    border = {"border": "real"} if args.border == "real" else {}
    return {
        "degraded here by": {"task": args.task} | knobs | border if args.clean else "nobody: pairs",
        "crop": args.crop,
    }


def periodic(args: argparse.Namespace) -> bool:
    """Whether the pictures were blurred here as if they wrapped around."""
    return bool(args.clean) and args.border == "circular"


def compare(args: argparse.Namespace) -> tuple[Report, str, int]:
    """(report with everything that was missing, the name of the solver's row, how many figures were missing).
    ValueError for bad arguments."""
    if args.json:
        recipe.check_target(args.json)
    if args.pictures:
        Path(args.pictures).mkdir(parents=True, exist_ok=True)
    solver, task = cli.build(args)
    degradation = task if isinstance(task, LinearDegradation) and not solver.blind else None
    run = Run(solver, degradation, args.prior, args.seed, periodic(args))
    factor = run.factor
    todo = pairs(args, task, factor)
    methods: dict[str, Method] = {
        "input": classical(lambda y: y if factor == 1 else images.enlarge(y, factor))
    }
    methods |= {
        label: classical(function)
        for label, function in baselines(run.degradation, args.task, factor).items()
    }
    records: dict[str, dict[str, object]] = {label: {} for label in methods}
    plain = name_of(solver, args)
    records[plain] = run.settings(fetch(run.prior).weights) | {"enlarge": args.enlarge}
    report, added = Report(args.json, damage(task, args), records, plain), 0
    label = report.current
    methods[label] = solved(run, args)
    for number, (name, y, clean) in enumerate(tqdm(todo)):
        origin = {"seed": args.seed + number} if args.clean else {"input": recipe.fingerprint(y)}
        report.picture(name, {"clean": recipe.fingerprint(clean)} | origin)
        for method, function in methods.items():
            if not report.has(name, method):
                outcome = function(y, clean)
                report.add(name, method, outcome.scores, outcome.scalars)
                added += 1
                if args.pictures:
                    keep_picture(Path(args.pictures), method, name, outcome.image)
        if args.pictures:
            keep_picture(Path(args.pictures), "clean", name, clean)
    return report, label, added


def main(argv: list[str] | None = None, prog: str = "python -m restoration.benchmark") -> int:
    """0 after printing the table, 2 after one line about bad input."""
    parser = settings_help.parser(
        prog, __doc__, "--clean photographs --task denoise --crop 256 --json scores.json"
    )
    parser.add_argument("--clean", help="folder of clean pictures, degraded here")
    parser.add_argument("--input", help="folder of degraded pictures")
    parser.add_argument("--target", help="folder of their clean versions, same file names up to the suffix")
    parser.add_argument("--crop", type=int, help="use the centre crop of this side")
    borders = "blurs: circular, as if the picture wrapped around, or real, as the inside of a larger crop"
    parser.add_argument("--border", choices=("circular", "real"), default="circular", help=borders)
    parser.add_argument("--limit", type=int, help="use only the first pictures")
    parser.add_argument(
        "--enlarge",
        type=int,
        default=1,
        help="restore pictures this many times as large: LD-RPS takes 256×256 at 2",
    )
    parser.add_argument("--name", help="the row's name instead of one that says solver, preset and settings")
    parser.add_argument("--json", help="file for all figures; what it already holds is not computed again")
    parser.add_argument("--pictures", help="folder for all pictures and a contact sheet of them")
    parser.add_argument("--published", choices=PUBLISHED, help="add the published rows of this set")
    cli.add_options(parser)
    args = parser.parse_args(argv)
    try:
        report, label, added = compare(args)
        means = best_wiener(report.means())
        print(table(means, PUBLISHED.get(args.published, {})))
        made_with = [
            *(f"{package} {version}" for package, version in versions().items()),
            f"{torch.get_num_threads()} threads",
        ]
        print(f"\n{report.improved(label)}")
        print(
            f"Means over {len(report.names)} pictures, seed {args.seed}; {added} figures computed now. "
            f"{', '.join(made_with)}."
        )
        if args.pictures:
            print(f"Contact sheet: {contact_sheet(Path(args.pictures), [*means, 'clean'], report.names)}")
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0
