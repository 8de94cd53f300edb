"""What `--help` says of the methods and the tasks that are registered: presets, and each setting with its
range."""

from __future__ import annotations

import argparse
import dataclasses
from typing import Any

from restoration.degradations.linear import TASKS
from restoration.parser import parser as command_parser
from restoration.solvers import PRESETS, SOLVERS


def parser(prog: str, description: str | None, example: str) -> argparse.ArgumentParser:
    """restoration.parser's, whose help lists presets and settings besides."""
    return command_parser(prog, description, example, f"{presets()}\n\n{settings()}")


def presets() -> str:
    """A line for each method."""
    lines = [f"  {name:<14} {', '.join(PRESETS[name])}: {solver.purpose}" for name, solver in SOLVERS.items()]
    return "\n".join(["methods (--solver) and their presets (--preset), the first by default:", *lines])


def settings() -> str:
    """A line for each setting of each method and task."""
    parts = [
        f"settings of {kind} {name} (--set KEY=VALUE):\n{_listed(cls)}" for kind, name, cls in _offered()
    ]
    return "\n".join(parts)


def _offered() -> list[tuple[str, str, Any]]:
    return [("the method", *item) for item in SOLVERS.items()] + [
        ("the task", *item) for item in TASKS.items()
    ]


def _listed(cls: Any) -> str:
    return "\n".join(
        f"  {knob.name}={knob.default}: {_range(knob)}{knob.metadata['help']}"
        for knob in dataclasses.fields(cls)
    )


def _range(knob: dataclasses.Field[Any]) -> str:
    choices, low, high = (knob.metadata[name] for name in ("choices", "low", "high"))
    if choices:
        return f"{', '.join(map(str, choices))}. "
    return "" if low is None else f"{low:g} to {high:g}. "
