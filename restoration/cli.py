"""Options that the command line and the benchmark share: a task, a solver and their settings by name."""

from __future__ import annotations

import argparse
import dataclasses
from typing import Any

from restoration.degradations import TASKS, LinearDegradation
from restoration.solvers import PRESETS, SOLVERS
from restoration.solvers.base import Solver


def add_options(parser: argparse.ArgumentParser) -> None:
    """--solver, --task, --preset, --prior, --seed, --set."""
    parser.add_argument("--solver", default="reld", choices=SOLVERS)
    parser.add_argument("--task", required=True, choices=TASKS)
    parser.add_argument("--preset", default="fast", help="settings of the solver by name")
    parser.add_argument("--prior", default="embedded", help="one of restoration.hub.PRIORS, downloaded at first use, or a local diffusers folder")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--set", nargs="*", default=[], metavar="KEY=VALUE", help="settings of the task or of the solver")


def parse_settings(pairs: list[str]) -> dict[str, Any]:
    """["a=1", "b=x"] -> {"a": 1, "b": "x"}; ValueError for anything that is not KEY=VALUE."""
    settings: dict[str, Any] = {}
    for pair in pairs:
        key, equals, text = pair.partition("=")
        if not equals:
            raise ValueError(f"{pair!r} is not of the form KEY=VALUE.")
        settings[key] = _number(text)
    return settings


def _number(text: str) -> int | float | str:
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def build(args: argparse.Namespace) -> tuple[Solver, LinearDegradation]:
    """(solver, degradation) of the parsed options; ValueError names an unknown preset or setting."""
    presets = PRESETS[args.solver]
    if args.preset not in presets:
        raise ValueError(f"No preset {args.preset!r} of {args.solver}; there are {', '.join(presets)}.")
    settings = parse_settings(args.set)
    solver_class, task_class = SOLVERS[args.solver], TASKS[args.task]
    names = {cls: {f.name for f in dataclasses.fields(cls)} for cls in (solver_class, task_class)}
    unknown = settings.keys() - names[solver_class] - names[task_class]
    if unknown:
        known = ", ".join(sorted(names[solver_class] | names[task_class]))
        raise ValueError(f"No setting {', '.join(sorted(unknown))} here; there are {known}.")
    solver = solver_class(**presets[args.preset] | {k: v for k, v in settings.items() if k in names[solver_class]})
    return solver, task_class(**{k: v for k, v in settings.items() if k in names[task_class]})
