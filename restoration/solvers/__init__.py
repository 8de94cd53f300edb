"""The methods by name, the first one the default, and the names that they had before."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from restoration.solvers.base import Solver
from restoration.solvers.latent_indigo import PRESETS as LATENT_INDIGO_PRESETS
from restoration.solvers.latent_indigo import LatentINDIGO
from restoration.solvers.ld_rps import LDRPS
from restoration.solvers.ld_rps import PRESETS as LDRPS_PRESETS
from restoration.solvers.reld import PRESETS as RELD_PRESETS
from restoration.solvers.reld import RELD
from restoration.solvers.reld_fast import PRESETS as RELD_FAST_PRESETS
from restoration.solvers.reld_fast import RELDFast

SOLVERS: dict[str, type[Solver]] = {
    "reld-fast": RELDFast,
    "reld": RELD,
    "latent-indigo": LatentINDIGO,
    "ld-rps": LDRPS,
}
PRESETS = {
    "reld-fast": RELD_FAST_PRESETS,
    "reld": RELD_PRESETS,
    "latent-indigo": LATENT_INDIGO_PRESETS,
    "ld-rps": LDRPS_PRESETS,
}
LONG = {"reld"}  # the papers' own algorithms, which take minutes where ours take seconds

# presets that belong to another solver than the one they were asked of: "reld" was both forms, and the default is our form now
MOVED = {
    ("reld", "fast"): "reld-fast",
    ("reld", "few-step"): "reld-fast",
    ("reld-fast", "faithful"): "reld",
}


def resolve(solver: str, preset: str | None) -> tuple[str, str]:
    """(solver, preset) by their names of today, as in command lines, links and API calls of before; the first preset where none is given.

    What there never was is passed through.
    """
    if preset is None:
        preset = next(iter(PRESETS.get(solver, {"": {}})))
    return MOVED.get((solver, preset), solver), preset


def from_settings(name: str, settings: Mapping[str, Any]) -> Solver:
    """The solver that a recipe describes, also one of before. KeyError, TypeError or ValueError where there is no such thing."""
    values = dict(settings)
    if name == "reld" and "level" not in values:  # RELD of both forms in one class
        if values.get("splitting", "annealed") == "annealed":
            name = "reld-fast"
            values = {key: value for key, value in values.items() if key not in {"splitting", "strength"}}
        else:  # its one level was the last one, and it drew no noise
            values["level"] = values.pop("end_level", 3.0)
            values = {key: value for key, value in values.items() if key not in {"start_level", "renoise"}}
    return SOLVERS[name](**values)
