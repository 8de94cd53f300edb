"""Options that the command line and the benchmark share: a task, a solver and their settings by name."""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path
from typing import Any

from restoration.degradations.base import LinearDegradation
from restoration.degradations.blind import CORRUPTIONS, Damage, make_damage
from restoration.degradations.camera import EXPOSURES
from restoration.degradations.inpaint import Inpaint
from restoration.degradations.linear import FILES, TASKS
from restoration.degradations.realistic import CAMERAS
from restoration.files import recipe
from restoration.files.errors import cut, quoted
from restoration.priors.catalogue import PRIORS
from restoration.record import Run
from restoration.solvers import PRESETS, SOLVERS, resolve
from restoration.solvers.base import Solver

TEXTS = FILES | {"prompt"}  # settings that are text even where they look like a number


def add_options(parser: argparse.ArgumentParser) -> None:
    """--solver, --task, --preset, --prior, --seed, --set."""
    blind = ", ".join(name for name, solver in SOLVERS.items() if solver.blind)
    parser.add_argument(
        "--solver",
        default="reld",
        choices=SOLVERS,
        help=f"the method; {blind} are blind: told no task",
    )
    blind_tasks = (*CORRUPTIONS, *CAMERAS)  # damage that no solver is told
    also = f"{', '.join(blind_tasks)} only to damage pictures for blind solvers, in the benchmark"
    tasks = f"how the picture was damaged: {', '.join(TASKS)}; {also}"
    parser.add_argument("--task", metavar="TASK", choices=(*TASKS, *blind_tasks), help=tasks)
    parser.add_argument(
        "--preset", help="settings of the solver by name; its first preset where none is given"
    )
    parser.add_argument(
        "--prior",
        default="embedded",
        help=f"{', '.join(PRIORS)}, downloaded at first use, or a local diffusers folder",
    )
    parser.add_argument("--seed", type=int, default=0, help="of all that is random")
    parser.add_argument(
        "--set", nargs="*", default=[], metavar="KEY=VALUE", help="settings of the task or of the solver"
    )


def shown(path: str | Path) -> str:
    """A path that any terminal and file can take, where its name is not UTF-8."""
    return str(path).encode("utf-8", "backslashreplace").decode()


def check_least(args: argparse.Namespace, **least: int) -> None:
    """ValueError where one of the options named here is given and less than its least value."""
    for name, low in least.items():
        if (value := getattr(args, name)) is not None and value < low:
            raise ValueError(f"--{name} is {value}; it must be at least {low}.")


def parse_settings(pairs: list[str]) -> dict[str, Any]:
    """["a=1", "b=x"] -> {"a": 1, "b": "x"}, those of TEXTS as they are.

    ValueError for anything that is not KEY=VALUE.
    """
    settings: dict[str, Any] = {}
    for pair in pairs:
        key, equals, text = pair.partition("=")
        if not equals:
            raise ValueError(f"{quoted(pair)} is not of the form KEY=VALUE.")
        settings[key] = text if key in TEXTS else _number(text)
    return settings


def _number(text: str) -> int | float | str:
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def preset_of(args: argparse.Namespace) -> str:
    """The preset's name, the solver's first where none is given."""
    return args.preset or next(iter(PRESETS[args.solver]))


def named(solver: Solver, args: argparse.Namespace) -> str:
    """The solver's title and its preset."""
    return f"{solver.title} {resolve(args.solver, preset_of(args))[1]}"


def build(args: argparse.Namespace) -> tuple[Solver, Damage | None]:
    """(solver, task) of the parsed options.

    ValueError names a bad seed, an unknown preset or setting, or a task that the solver cannot do.
    """
    recipe.check_seed(args.seed)
    name, preset = resolve(args.solver, preset_of(args))
    solver_class: Any = SOLVERS[name]
    presets = PRESETS[name]
    if preset not in presets:
        raise ValueError(f"No preset {quoted(preset)} of {args.solver}; there are {', '.join(presets)}.")
    task_class: Any = TASKS.get(args.task) or EXPOSURES.get(args.task)
    settings = parse_settings(args.set)
    if not solver_class.blind and args.task not in TASKS:
        raise ValueError(
            f"{solver_class.title} must be told the degradation: give --task, one of {', '.join(TASKS)}."
        )
    names = {cls: {f.name for f in dataclasses.fields(cls)} for cls in (solver_class, task_class) if cls}
    known = set().union(*names.values())
    unknown = settings.keys() - known
    if unknown:
        raise ValueError(
            f"No setting {cut(', '.join(sorted(unknown)))} here; there are {', '.join(sorted(known))}."
        )
    solver = solver_class(**presets[preset] | {k: v for k, v in settings.items() if k in names[solver_class]})
    if not args.task:
        return solver, None
    own = {k: v for k, v in settings.items() if task_class and k in names[task_class]}
    return solver, make_damage(args.task, own, solver.factor(None) if solver.blind else 1)


def read_run(args: argparse.Namespace, parser: argparse.ArgumentParser) -> tuple[Run, dict[str, Any]]:
    """(run, recipe that it was read from) of the options, where the recipe is empty, or of --recipe.

    ValueError when both speak.
    """
    if not args.recipe:
        solver, task = build(args)
        if solver.blind and args.task:
            raise ValueError(
                f"{solver.title} estimates the degradation itself; leave out --task {args.task}."
            )
        if isinstance(task, Inpaint) and not task.mask:
            need = "give --set mask=FILE, a picture that is black there"
            raise ValueError(f"Inpainting needs to be told which pixels are missing: {need}.")
        return Run(solver, task if isinstance(task, LinearDegradation) else None, args.prior, args.seed), {}
    names = ("solver", "task", "preset", "prior", "seed")
    given = [f"--{name}" for name in names if getattr(args, name) != parser.get_default(name)]
    files = parse_settings(args.set)
    if given or files.keys() - FILES:
        raise ValueError(
            f"--recipe says all settings; leave out {', '.join([*given, *files.keys() - FILES])}."
        )
    source = recipe.read(args.recipe)
    return Run.from_recipe(source, **files), source
