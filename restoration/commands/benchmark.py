"""python -m restoration.benchmark --clean DIR --task TASK: a table of scores, beside the input's and a
classical baseline's.

Blind solvers also take photographs whose degradation nobody knows: --input DIR --target DIR without a task.
With --json FILE a second run, with another solver, preset, setting or prior, adds its row to the table and
computes nothing twice.
"""

from __future__ import annotations

import argparse
import dataclasses
import hashlib
import sys
from pathlib import Path

import torch
from tqdm import tqdm

from restoration.commands import cli, settings_help
from restoration.commands.benchmark_methods import Method, classical, solved
from restoration.commands.benchmark_pictures import captions, pairs
from restoration.degradations.base import LinearDegradation
from restoration.degradations.blind import Damage
from restoration.degradations.realistic import Camera
from restoration.evaluation.baselines import baselines
from restoration.evaluation.published import PUBLISHED
from restoration.evaluation.report import Report, best_tuned, contact_sheet, keep_picture, table
from restoration.files import images, recipe
from restoration.priors.checkpoints import fetch
from restoration.record import Run, versions
from restoration.solvers.base import Solver


def name_of(solver: Solver, args: argparse.Namespace) -> str:
    """The row's name: --name, or solver, preset, what --set changes of the solver, the enlargement, captions,
    and a prior that is not the embedded one."""
    if args.name:
        return args.name
    own = {field.name for field in dataclasses.fields(solver)}
    changed = [pair for pair in args.set if pair.partition("=")[0] in own]
    parts = [cli.named(solver, args), *changed]
    return " ".join(
        [
            *parts,
            *([f"at ×{args.enlarge}"] if args.enlarge > 1 else []),
            *(["with captions"] if args.prompts else []),
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


def told_captions(args: argparse.Namespace) -> dict[str, object]:
    """What a row keeps of --prompts: a hash of all captions of the folder, for any number of pictures."""
    if not args.prompts:
        return {}
    texts = [file.read_bytes() for file in sorted(Path(args.prompts).glob("*.txt"))]
    return {"prompts": hashlib.sha256(b"\n".join(texts)).hexdigest()[:16]}


def prompts(solver: Solver, args: argparse.Namespace, names: list[str]) -> dict[str, str]:
    """What the solver is told of each picture by --prompts, none without it.

    ValueError where it takes no text.
    """
    if not args.prompts:
        return {}
    if not hasattr(solver, "prompt"):
        raise ValueError(f"--prompts is for methods that read a prompt; {solver.title} does not.")
    return captions(args.prompts, names)


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
    texts = prompts(solver, args, [name for name, *_ in todo])
    methods: dict[str, Method] = {
        "input": classical(lambda y: y if factor == 1 else images.enlarge(y, factor))
    }
    methods |= {
        label: classical(function)
        for label, function in baselines(run.degradation, args.task, factor).items()
    }
    records: dict[str, dict[str, object]] = {label: {} for label in methods}
    plain = name_of(solver, args)
    records[plain] = run.settings(fetch(run.prior).weights) | {"enlarge": args.enlarge} | told_captions(args)
    report, added = Report(args.json, damage(task, args), records, plain), 0
    label = report.current
    methods[label] = solved(run, args)
    for number, (name, y, clean) in enumerate(tqdm(todo)):
        if name in texts:
            prompted = dataclasses.replace(solver, prompt=texts[name])  # type: ignore[call-arg]  # `prompts` has looked
            methods[label] = solved(dataclasses.replace(run, solver=prompted), args)
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
    parser.add_argument(
        "--prompts", help="folder of captions, NAME.txt for the picture NAME: a prompt for each"
    )
    parser.add_argument("--name", help="the row's name instead of one that says solver, preset and settings")
    parser.add_argument("--json", help="file for all figures; what it already holds is not computed again")
    parser.add_argument("--pictures", help="folder for all pictures and a contact sheet of them")
    parser.add_argument("--published", choices=PUBLISHED, help="add the published rows of this set")
    cli.add_options(parser)
    args = parser.parse_args(argv)
    try:
        report, label, added = compare(args)
        means = best_tuned(report.means())
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
